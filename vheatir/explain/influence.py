"""Influence of one pixel on a network, and the learned diffusivity of its heat operators."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vheatir.archs.blocks import HeatGroup
from vheatir.archs.vheatir_arch import VHeatIR
from vheatir.archs.vheatir_unet_arch import VHeatIRUNet
from vheatir.colors import to_color_mode
from vheatir.errors import VHeatIRError
from vheatir.inference import Restorer
from vheatir.ops import HeatConduction2d

#: Side of the analysed image crop around the point, in pixels.
SIDE = 256
_STEP = 0.1


@dataclass(frozen=True)
class StageMap:
    """The influence of one pixel on the output of one stage.

    Attributes:
        title: name of the stage.
        values: (h, w), >= 0: norm over channels of the change of the features.
        pixel: side of one value in image pixels.
        radius: distance from the point, in image pixels, within which 90 % of the sum of ``values``
            lies.
    """

    title: str
    values: NDArray[np.float32]
    pixel: int
    radius: float


@dataclass(frozen=True)
class Influence:
    """Influence of one input pixel, and effective receptive field of one output pixel.

    Attributes:
        image: (H, W, C), the analysed crop, floating in [0, 1].
        point: row and column of the pixel in ``image``.
        stages: response to a step of 0.1 at the pixel, after each stage and in the output.
        receptive_field: absolute gradient of the output at the point with respect to each pixel,
            summed over channels (Luo et al., NeurIPS 2016).
    """

    image: NDArray[np.float32]
    point: tuple[int, int]
    stages: tuple[StageMap, ...]
    receptive_field: StageMap


@dataclass(frozen=True)
class Diffusivity:
    """Learned diffusivity of one heat operator.

    Attributes:
        title: position in the network.
        k: (n, n, C) thermal diffusivity >= 0 in tokens squared, at frequencies ``j * pi / n``.
        pixel: side of a token in image pixels.
    """

    title: str
    k: NDArray[np.float32]
    pixel: int

    @property
    def spread(self) -> NDArray[np.float32]:
        """Return the spread of heat at zero frequency, ``sqrt(2 k)``, in image pixels, (C,)."""
        return np.sqrt(2 * self.k[0, 0]) * self.pixel


def trace_influence(
    restorer: Restorer, image: Any, point: tuple[int, int], level: float | None = None
) -> Influence:
    """Trace the influence of one pixel through a network.

    Args:
        restorer: the model.
        image: see :meth:`vheatir.Restorer.restore`; a crop of :data:`SIDE` pixels around the point
            is used.
        point: row and column in the image.
        level: sigma; None to estimate it.

    Raises:
        VHeatIRError: the point lies outside the image, or the model does not support the image.
    """
    x, used = restorer.network_input(image, level)
    height, width = x.shape[-2:]
    row, column = point
    if not (0 <= row < height and 0 <= column < width):
        raise VHeatIRError(
            f"the point {column}, {row} is outside the image: give x in 0 to {width - 1} and "
            f"y in 0 to {height - 1}"
        )
    top = min(max(row - SIDE // 2, 0), max(height - SIDE, 0))
    left = min(max(column - SIDE // 2, 0), max(width - SIDE, 0))
    x = x[:1, :, top : top + SIDE, left : left + SIDE].contiguous()
    here = (row - top, column - left)
    network = restorer.network
    stepped = x.clone()
    # A negative step where it is bright, so that the pixel stays in [0, 1].
    bright = float(x[0, :, here[0], here[1]].mean()) > 0.5
    stepped[0, :, here[0], here[1]] += -_STEP if bright else _STEP
    with torch.no_grad():
        before, after = _record_features(network, x, used), _record_features(network, stepped, used)
    sides = {title: side for title, _, side in stages(network)}
    maps = [
        stage_map(
            title, (after[title] - before[title]).square().sum(0).sqrt(), here, sides.get(title, 1)
        )
        for title in before
    ]
    field = _receptive_field(network, x, used, here)
    shown = x[0].permute(1, 2, 0).cpu().numpy()
    seen = stage_map("receptive field of the output", field, here)
    return Influence(shown, here, tuple(maps), seen)


def pixels_for(restorer: Restorer, pixels: NDArray[Any]) -> NDArray[Any]:
    """Return an image (H, W) or (H, W, C) as the model takes it: in gray for a gray model."""
    is_gray = restorer.task is not None and restorer.task.channels == 1
    return to_color_mode(pixels, "gray") if is_gray and pixels.ndim == 3 else pixels


def diffusivities(network: nn.Module) -> list[Diffusivity]:
    """Return the learned diffusivity of each heat operator in a network; [] if it has none."""
    found = []
    for title, stage, side in stages(network):
        embedding = getattr(stage, "fve", None)
        if not isinstance(embedding, Tensor):
            continue
        operators = [part for part in stage.modules() if isinstance(part, HeatConduction2d)]
        for index, operator in enumerate(operators):
            with torch.no_grad():
                k = operator.diffusivity(embedding).float().cpu().numpy()
            name = f"{title}, block {index + 1}" if len(operators) > 1 else title
            found.append(Diffusivity(name, k, side))
    return found


def stages(network: nn.Module) -> list[tuple[str, nn.Module, int]]:
    """Return name, module and side of a token in image pixels of each stage, in execution order.

    Raises:
        VHeatIRError: the network is neither ``VHeatIR`` nor ``VHeatIRUNet``.
    """
    if isinstance(network, VHeatIR):
        groups = enumerate(network.groups, 1)
        return [(f"group {i}", group, network.downscale) for i, group in groups]
    if isinstance(network, VHeatIRUNet):
        scales = [(i, network.downscale * 2**i) for i in range(len(network.encoder))]
        down = [(f"down {i + 1}", network.encoder[i], side) for i, side in scales]
        up = [(f"up {i + 1}", network.decoder[i], side) for i, side in reversed(scales)]
        return [*down, ("coarsest scale", network.body, network.multiple), *up]
    raise VHeatIRError(
        f"the stages of a {type(network).__name__} are unknown: give a VHeatIR or VHeatIRUNet"
    )


def _record_features(network: nn.Module, x: Tensor, level: Any) -> dict[str, Tensor]:
    """Return the features (C, h, w) after each stage, and the output as ``"result"``."""
    seen: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for title, stage, _ in stages(network):

            def keep(module: nn.Module, _: Any, output: Tensor, title: str = title) -> None:
                is_channels_last = isinstance(module, HeatGroup)
                features = output[0].permute(2, 0, 1) if is_channels_last else output[0]
                seen[title] = features.float().clone()  # later stages may overwrite it in-place

            hooks.enter_context(stage.register_forward_hook(keep))
        seen["result"] = network(x, level)[0].float()
    return seen


def _receptive_field(network: nn.Module, x: Tensor, level: Any, here: tuple[int, int]) -> Tensor:
    with torch.enable_grad():
        source = x.clone().requires_grad_()
        result = network(source, level)
        (gradient,) = torch.autograd.grad(result[0, :, here[0], here[1]].sum(), source)
    return gradient[0].abs().sum(0)


def stage_map(title: str, values: Tensor, here: tuple[int, int], pixel: int = 1) -> StageMap:
    """Describe the influence (h, w) of the pixel ``here``, for tokens of ``pixel`` image pixels."""
    rows = (torch.arange(values.shape[0], device=values.device) + 0.5) * pixel - here[0] - 0.5
    columns = (torch.arange(values.shape[1], device=values.device) + 0.5) * pixel - here[1] - 0.5
    distance = (rows[:, None].square() + columns.square()).sqrt().flatten()
    order = distance.argsort()
    share = values.flatten()[order].double().cumsum(0)
    inside = int(torch.searchsorted(share, 0.9 * share[-1]))
    radius = float(distance[order[min(inside, len(order) - 1)]])
    return StageMap(title, values.cpu().numpy(), pixel, radius)
