"""The pixel loss of an option file: one of BasicSR's, the user's own, or :class:`PSNRLoss`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from vheatir.archs import check_arguments
from vheatir.basicsr_import import import_basicsr
from vheatir.colors import MATLAB_LUMA
from vheatir.errors import VHeatIRError, first_line

import_basicsr()

import basicsr.losses  # noqa: E402, F401  registers them
from basicsr.utils.registry import LOSS_REGISTRY  # noqa: E402


class PSNRLoss(nn.Module):
    """Negative PSNR in dB, averaged over the images of a batch, as in NAFNet (arXiv 2204.04676).

    ``loss_weight * mean(10 log10(MSE + 1e-8))``, with the MSE of each image.

    Args:
        loss_weight: factor of the loss.
        reduction: ``"mean"``.
        toY: compare luma, Y of MATLAB's ``rgb2ycbcr``, instead of RGB.

    Shape: two images (B, C, H, W) in [0, 1], C = 3 with ``toY``, to a scalar.

    Raises:
        VHeatIRError: another ``reduction``.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        reduction: str = "mean",
        toY: bool = False,  # noqa: N803 (the name in NAFNet's option files)
    ) -> None:
        super().__init__()
        if reduction != "mean":
            raise VHeatIRError(f"reduction {reduction!r} of PSNRLoss: only 'mean' is allowed")
        self.loss_weight = loss_weight
        self.luma_only = toY

    def forward(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the loss of ``pred``."""
        difference = pred - target
        if self.luma_only:  # the offset of Y cancels out
            weights = difference.new_tensor(MATLAB_LUMA).reshape(1, 3, 1, 1)
            difference = (difference * weights).sum(dim=1) / 255
        mse = difference.square().flatten(1).mean(dim=1)
        return self.loss_weight * 10 / math.log(10) * torch.log(mse + 1e-8).mean()


def build_pixel_loss(options: Mapping[str, Any], channels: int, size: int) -> nn.Module:
    """Build a loss and try it once: it must compare two images and return one number.

    Args:
        options: ``type``, ``"PSNRLoss"`` or a name in BasicSR's ``LOSS_REGISTRY``, and the keyword
            arguments of its class.
        channels: channels of the images.
        size: side of the training crops in pixels.

    Raises:
        VHeatIRError: an unknown type or argument, or a loss of another kind, such as one of GANs.
    """
    arguments = dict(options)
    name = arguments.pop("type")
    function = known_losses()[name]
    check_arguments(f"option of {name}", function, arguments)
    usable = "use a loss that is called as loss(pred, target) and returns one number"
    try:
        loss: nn.Module = function(**arguments)
        gap = _gap(loss, channels, size)
    except VHeatIRError:
        raise
    except Exception as error:  # the loss may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise VHeatIRError(f"loss type {name} cannot be used ({reason}): {usable}") from error
    if not gap > 0:
        raise VHeatIRError(
            f"loss type {name} does not compare two images, as it is not smallest for equal ones: "
            f"{usable}"
        )
    return loss


def known_losses() -> dict[str, Any]:
    """Return the classes of all losses that an option file may name, now."""
    return {"PSNRLoss": PSNRLoss, **dict(iter(LOSS_REGISTRY))}


def _gap(loss: nn.Module, channels: int, size: int) -> float:
    """Return the loss of a flat gray image against dark noise, minus that of the noise itself."""
    # Draws no global random numbers, so that the loss has no influence on the run's.
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, channels, size, size, generator=generator) / 4
    gray = torch.full_like(noise, 0.5)
    with torch.random.fork_rng(devices=[]):
        values = [loss(image.clone().requires_grad_(), noise) for image in (gray, noise)]
    for value in values:
        if not isinstance(value, Tensor) or value.numel() != 1:
            kind = f"shape {list(value.shape)}" if isinstance(value, Tensor) else type(value)
            raise TypeError(f"it returns {kind}")
        if not value.requires_grad:
            raise TypeError("it returns a number without a gradient")
    return float(values[0].detach() - values[1].detach())
