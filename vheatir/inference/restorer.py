"""Restore an image of any kind with one model: the class most users need."""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from vheatir.errors import VHeatIRError
from vheatir.hardware import has_native_bf16, pick_device, tf32_products
from vheatir.inference.estimate import estimate_sigma
from vheatir.inference.images import unpack
from vheatir.inference.memory import memory_at_hand
from vheatir.inference.strength import parse_strength
from vheatir.inference.tiled import MIN_TILE, Level, Progress, restore_tensor
from vheatir.inference.tiled import self_ensemble as restore_by_self_ensemble
from vheatir.tasks import TASKS, Task

if TYPE_CHECKING:
    from vheatir.inference.choose import Choice
    from vheatir.weights import LoadedModel

log = logging.getLogger(__name__)

AUTO_TILE = 512
OVERLAP = 32
_SMALLEST_AUTO_TILE = 64
# Auto: the whole image while one activation (pixels x channels, float32) stays below 256 MB, a
# tenth or so of the peak, and below a thirtieth of the memory at hand.
_WHOLE_ACTIVATION = 64_000_000
_MEMORY_SHARE = 30
# Channels at the finest scale of a network that does not tell them.
_USUAL_CHANNELS = 32

_PRECISIONS = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Restoration:
    """A restored image and how it came about.

    Attributes:
        image: the restored image, of the kind that was given.
        level: the level used, given or estimated; None for a model that takes none. For a level
            map, its mean.
        estimated: whether the level was estimated from the image.
        tile: largest side of the tiles in pixels; None for the whole image at once.
        seconds: time from the image taken apart to the image put together.
        retried: whether low precision gave non-finite pixels and float32 had to be used.
        choice: of ``Restorer("auto")``: which model, and why; None of others.
    """

    image: Any
    level: float | None
    estimated: bool
    tile: int | None
    seconds: float
    retried: bool
    choice: Choice | None = None


class Restorer:
    """Restores images with one model.

    Gray images and a colour model: the gray is restored as an RGB image of equal channels, whose
    mean is returned. Gray stored as RGB is treated as gray, and its channels stay equal. Colour
    images and a luma model (task ``jpeg_gray``): the luma is restored and the chroma kept. Colour
    images and a gray denoiser are refused, since the noise in the chroma would stay.

    Args:
        model: name of a released model or task, path of a weights file, or a loaded model;
            ``"auto"`` chooses a released model for each image
            (:class:`vheatir.inference.auto.AutoRestorer`).
        device: ``"auto"`` for CUDA or MPS where there is one, or any torch device.
        precision: ``"float32"``, or ``"bfloat16"`` or ``"float16"`` under autocast, which a
            GPU (and a CPU with AMX or AVX-512 BF16) computes faster; ``"auto"``: bfloat16 where
            the device multiplies it natively, else float32. Pictures two fifths or more of which are black
            or white are restored in float32 all the same.

    Attributes:
        precision: the one in use, also where ``"auto"`` was asked for.

    Raises:
        VHeatIRError: no such model, or no such device.
    """

    def __new__(cls, model: object = None, *args: Any, **kwargs: Any) -> Restorer:
        """Make an ``AutoRestorer`` for ``"auto"``."""
        if cls is Restorer and model == "auto":
            from vheatir.inference.auto import AutoRestorer

            return object.__new__(AutoRestorer)
        return object.__new__(cls)

    def __init__(
        self,
        model: str | os.PathLike[str] | LoadedModel,
        device: str | torch.device = "auto",
        *,
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32",
    ) -> None:
        if precision not in ("auto", *_PRECISIONS):
            raise VHeatIRError(f"precision {precision!r}: allowed: auto, {', '.join(_PRECISIONS)}")
        self.device = pick_device(device)
        if precision == "auto":
            precision = "bfloat16" if has_native_bf16(self.device) else "float32"
            log.info("precision auto: %s on this %s", precision, self.device.type)
        self.precision = precision
        self.model = _load(model)
        self.network: nn.Module = self.model.network.to(self.device).eval()
        self.info: dict[str, Any] = dict(self.model.info)
        self.task: Task | None = TASKS.get(str(self.info.get("task")))
        self._dtype = _PRECISIONS[precision]
        self._channels = int(self.network.in_chans)  # type: ignore[arg-type]
        self._takes_level = bool(getattr(self.network, "takes_level", False))

    @property
    def takes_level(self) -> bool:
        """Whether the model takes a level (noise of a range of sigmas); others are blind."""
        return self._takes_level

    @property
    def level_range(self) -> tuple[float, float] | None:
        """Smallest and largest level the model is trained for, if its file tells."""
        trained = self.info.get("level")
        if trained is None:
            return None
        if isinstance(trained, (int, float)):
            return float(trained), float(trained)
        low, high = trained
        return float(low), float(high)

    def nearest_level(self, level: float | None) -> float | None:
        """Return the level to give for one that was measured: None for a model that takes none.

        Args:
            level: sigma on 0..255; one that the model is not trained for becomes the nearest.
        """
        if level is None or not self._takes_level:
            return None
        low, high = self.level_range or (0.0, math.inf)
        return min(max(level, low), high)

    def restore(
        self,
        image: Any,
        level: float | np.ndarray[Any, Any] | Tensor | None = None,
        *,
        strength: float | tuple[float, float] = 100,
        tile: Literal["auto"] | int | None = "auto",
        self_ensemble: bool = False,
        progress: Progress | None = None,
    ) -> Any:
        """Restore one image.

        Args:
            image: NumPy array, PIL image, path of an image file, or tensor; see
                :func:`vheatir.inference.images.unpack`. Alpha passes through untouched.
            level: sigma on the scale 0..255 or JPEG quality 1..100; (H, W) for one per pixel;
                None to estimate sigma from the image. Ignored by a blind model, which only
                checks that it is trained for it. A model for a task without a level
                (``photo``) refuses one.
            strength: how much of the restoration, in percent, 0 to 150: one number, or (luma,
                chroma). 0 gives the image itself and 100 the network's result, bit for bit; see
                :func:`vheatir.inference.strength.apply_strength`.
            tile: largest side of the tiles in pixels, None for the whole image, ``"auto"`` to
                choose by the image's size; auto halves the tiles when memory runs out.
            self_ensemble: mean over the eight flips and rotations: a little better, eight times
                slower.
            progress: called as ``progress(done, total)`` after each tile.

        Returns:
            Image of the same kind, size, channels, dtype and range (a path gives an array).

        Raises:
            VHeatIRError: an image or level the model cannot take, a strength out of range, memory
                that does not suffice, or a model that returns non-finite values.
        """
        return self.restore_detailed(
            image,
            level,
            strength=strength,
            tile=tile,
            self_ensemble=self_ensemble,
            progress=progress,
        ).image

    def restore_detailed(
        self,
        image: Any,
        level: float | np.ndarray[Any, Any] | Tensor | None = None,
        *,
        strength: float | tuple[float, float] = 100,
        tile: Literal["auto"] | int | None = "auto",
        self_ensemble: bool = False,
        progress: Progress | None = None,
    ) -> Restoration:
        """Restore one image, and tell the level, the tile and the time used.

        Args and errors: as for :meth:`restore`.
        """
        began = time.perf_counter()
        wanted = parse_strength(strength)
        parts = unpack(image)
        colors = _without_equal_channels(parts.colors)
        used, estimated = self._pick_level(level, colors)
        planes = self._to_network_channels(colors)
        restored, used_tile, retried = self._run(planes, used, tile, self_ensemble, progress)
        restored = self._from_network_channels(restored, planes, colors)
        result = parts.repack(restored.expand_as(parts.colors), wanted)
        told = float(used.float().mean()) if isinstance(used, Tensor) else used
        seconds = time.perf_counter() - began
        return Restoration(result, told, estimated, used_tile, seconds, retried)

    def network_input(
        self, image: Any, level: float | None = None
    ) -> tuple[Tensor, float | Tensor | None]:
        """Return what the network is called with for an image: for looking into it.

        Args and errors: as for :meth:`restore`.

        Returns:
            (B, C, H, W) with the network's channels, float32 in [0, 1], on the network's device,
            and the level, or None for a model that takes none.
        """
        colors = _without_equal_channels(unpack(image).colors)
        return self._to_network_channels(colors).to(self.device), self._pick_level(level, colors)[0]

    def _to_network_channels(self, colors: Tensor) -> Tensor:
        if colors.shape[1] == self._channels:
            return colors
        if self._channels == 3:
            return colors.expand(-1, 3, -1, -1)
        if self.task is not None and self.task.color == "luma":
            return _luma(colors)
        name = self.info.get("name") or self.info.get("task") or "this model"
        colour_task = "jpeg_color" if self.task and "jpeg" in self.task.name else "denoise_color"
        raise VHeatIRError(
            f"{name!r} restores gray images, but the image has colours: "
            f"use a {colour_task!r} model, or convert the image to gray"
        )

    def _from_network_channels(self, restored: Tensor, planes: Tensor, colors: Tensor) -> Tensor:
        if restored.shape[1] == colors.shape[1]:
            return restored
        if colors.shape[1] == 1:
            return restored.mean(1, keepdim=True)
        # With the chroma kept, a step of Y in MATLAB's rgb2ycbcr is 255/219 steps of R, G and B.
        return colors + (restored - planes) * (255 / 219)

    def _pick_level(self, level: object, colors: Tensor) -> tuple[float | Tensor | None, bool]:
        if level is not None and self.task is not None and not self.task.has_level:
            raise VHeatIRError(
                f"a model for the task {self.task.name!r} takes no level, it judges the image "
                "itself: leave the level out"
            )
        if level is None:
            if not self._takes_level:
                return None, False
            if self.task is not None and self.task.degradation != "noise":
                raise VHeatIRError("this model needs the JPEG quality: give a level, 1 to 100")
            low, high = self.level_range or (0.0, math.inf)
            sigmas = [estimate_sigma(each.permute(1, 2, 0).cpu().numpy()) for each in colors]
            clipped = [min(max(sigma, low), high) for sigma in sigmas]
            return (clipped[0] if len(clipped) == 1 else torch.tensor(clipped)), True
        given: float | Tensor
        if isinstance(level, (np.ndarray, Tensor)) and level.ndim > 0:
            given = torch.as_tensor(level, dtype=torch.float32)
            given = _as_level_tensor(given, colors)
            lowest, highest = float(given.min()), float(given.max())
        else:
            try:
                given = lowest = highest = float(level)  # type: ignore[arg-type]
            except (TypeError, ValueError):
                raise VHeatIRError(
                    f"level {level!r}: give a number, an array of one per pixel, or None"
                ) from None
        name = self.task.level_name if self.task else "level"
        low, high = self.level_range or (0.0, math.inf)
        # Written so that NaN fails too.
        if not (low <= lowest and highest <= high and math.isfinite(highest)):
            trained = f"{low:g}" if low == high else f"{low:g} to {high:g}"
            shown = f"{lowest:g}" if lowest == highest else f"{lowest:g} to {highest:g}"
            raise VHeatIRError(f"{name} {shown}: this model is trained for {name} {trained}")
        return (given if self._takes_level else None), False

    def _run(
        self,
        x: Tensor,
        level: Level,
        tile: Literal["auto"] | int | None,
        self_ensemble: bool,
        progress: Progress | None,
    ) -> tuple[Tensor, int | None, bool]:
        """Restore, halving an automatic tile while memory does not suffice."""
        auto = tile == "auto"
        if isinstance(tile, str) and not auto:
            raise VHeatIRError(f"tile {tile!r}: give 'auto', None or a number of pixels")
        side = self._auto_tile(x) if isinstance(tile, str) else tile
        run = restore_by_self_ensemble if self_ensemble else restore_tensor
        dtype, retried = self._dtype, False
        if dtype != torch.float32 and _is_mostly_clipped(x):
            log.info("mostly black or white: float32 instead of %s", dtype)
            dtype = torch.float32
        while True:
            overlap = min(OVERLAP, (side or MIN_TILE) // 2)
            try:
                with (
                    tf32_products(self.device, dtype),
                    torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32),
                ):
                    out = run(self.network, x, level, tile=side, overlap=overlap, progress=progress)
            except (RuntimeError, MemoryError) as error:
                if not _is_out_of_memory(error):
                    raise
                smaller = _halve(side, x)
                if not auto or smaller is None:
                    raise VHeatIRError(
                        f"memory does not suffice for tiles of {side or 'the whole image'}: "
                        "give a smaller tile, or a smaller model"
                    ) from None
            else:
                if torch.isfinite(out).all():
                    return out, side, retried
                if dtype == torch.float32:
                    raise VHeatIRError(
                        "the model returned NaN or infinite pixels, in float32 too: its weights "
                        "are damaged or its training diverged; use another weights file"
                    )
                log.warning("non-finite pixels in %s: retrying in float32", dtype)
                dtype, retried = torch.float32, True
                continue
            # Outside the handler: its traceback would keep the failed tensors alive.
            log.warning("out of memory with tile %s: retrying with %d", side, smaller)
            side = smaller
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _auto_tile(self, x: Tensor) -> int | None:
        """None for the whole image where its activations fit the budget, else a tile that does."""
        last = getattr(self.network, "conv_last", None)
        channels = float(last.in_channels if isinstance(last, nn.Conv2d) else _USUAL_CHANNELS)
        channels /= int(getattr(self.network, "downscale", 1)) ** 2
        budget: float = _WHOLE_ACTIVATION
        at_hand = memory_at_hand(self.device)
        if at_hand is not None:
            budget = min(budget, at_hand / 4 / _MEMORY_SHARE)
        if x.shape[0] * x.shape[-2] * x.shape[-1] * channels <= budget:
            return None
        side = AUTO_TILE
        while side > _SMALLEST_AUTO_TILE and x.shape[0] * side**2 * channels > budget:
            side //= 2
        return side


def _load(model: str | os.PathLike[str] | LoadedModel) -> LoadedModel:
    if not isinstance(model, (str, os.PathLike)):
        return model
    text = os.fspath(model)
    if isinstance(model, os.PathLike) or text.endswith(".safetensors") or os.path.isfile(text):
        from vheatir.weights import load_weights

        return load_weights(text)
    import vheatir

    return vheatir.load_model(text)


def _without_equal_channels(colors: Tensor) -> Tensor:
    """Return one channel of (B, C, H, W) if all are equal in every image, else all."""
    first = colors[:, :1]
    return first if all(torch.equal(first, each) for each in colors.split(1, 1)[1:]) else colors


def _luma(rgb: Tensor) -> Tensor:
    """Y of MATLAB's ``rgb2ycbcr``, (B, 1, H, W), black at 16/255 and white at 235/255."""
    weights = rgb.new_tensor([65.481, 128.553, 24.966]).reshape(1, 3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + 16) / 255


def _as_level_tensor(level: Tensor, colors: Tensor) -> Tensor:
    """Bring levels per image or per pixel to (B,) or (B, 1, H, W)."""
    batch, _, height, width = colors.shape
    if tuple(level.shape) == (batch,):
        return level
    if tuple(level.shape[-2:]) == (height, width) and level.numel() in (
        height * width,
        batch * height * width,
    ):
        return level.reshape(-1, 1, height, width).expand(batch, -1, -1, -1)
    raise VHeatIRError(
        f"levels of shape {tuple(level.shape)} do not fit the image: "
        f"give one number, or one per pixel as ({height}, {width})"
    )


def _halve(side: int | None, x: Tensor) -> int | None:
    """Half the tile (of the image's longer side), or None if that would be too small."""
    half = (side or max(x.shape[-2:])) // 2
    half = min(half, AUTO_TILE) // 8 * 8
    return half if half >= _SMALLEST_AUTO_TILE else None


def _is_mostly_clipped(x: Tensor) -> bool:
    """Tell whether at least two fifths of (N, C, H, W) are black or white, as of noise on them.

    Where that is flat, a network's result is right to within a step of 1/255, and the steps of low
    precision would be all that is left to see and to measure: up to 3.4 dB (of 74) in the released
    models. Where it is noise, they are systematic: 0.05 dB.
    """
    return int(((x <= 0) | (x >= 1)).sum()) >= 0.4 * x.numel()


def _is_out_of_memory(error: BaseException) -> bool:
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return "out of memory" in text or "can't allocate memory" in text or "not enough memory" in text
