"""The :class:`Restorer`: restore images of any supported type with one model."""

from __future__ import annotations

import copy
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib import import_module
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vheatir.colors import MATLAB_LUMA, RGB_PER_MATLAB_LUMA
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.hardware import (
    available_memory,
    has_native_bf16,
    is_out_of_memory,
    pick_device,
    tf32_products,
)
from vheatir.image_io import StrPath
from vheatir.inference.choose import Choice, choose_model
from vheatir.inference.estimate import color_channels, estimate_sigma, jpeg_quality, sample_areas
from vheatir.inference.files import read_photograph_file
from vheatir.inference.images import unpack
from vheatir.inference.mixed import (
    COMPRESSED,
    MixedNetwork,
    compression_evidence,
    photo_weight,
    rounded,
)
from vheatir.inference.strength import parse_strength
from vheatir.inference.tiled import Level, Progress, restore_tensor
from vheatir.inference.tiled import self_ensemble as restore_by_self_ensemble
from vheatir.plugins import import_modules
from vheatir.tasks import TASKS, Task, format_levels
from vheatir.tiles import AUTO_TILE
from vheatir.weights import LoadedModel, level_range, load_weights
from vheatir.zoo import load_model

log = logging.getLogger(__name__)

_SMALLEST_AUTO_TILE = 64
# tile="auto" runs the whole image if one float32 feature map (pixels x channels) takes less than
# 256 MB, about a tenth of the peak memory, and less than 1/30 of the available memory.
_MAX_WHOLE_FEATURE_MAP = 64_000_000
_MEMORY_SHARE = 30
# Channels at the finest scale, for a network without ``conv_last``.
_DEFAULT_CHANNELS = 32

# Two models are compared on nine crops of 128 x 128, or the whole image up to that size.
_COMPARED_CROP = 128
_CROPS_PER_SIDE = 3
_SMALLEST_COMPARED = 16

_PRECISIONS = ("float32", "bfloat16", "float16")  # names of torch's dtypes
_BACKENDS = ("torch", "openvino")
# Imported by its name where it is asked for: a plug-in, whose package stands above this one.
_OPENVINO = "vheatir.export.openvino_backend"


@dataclass(frozen=True)
class Restoration:
    """A restored image and how it was computed.

    Attributes:
        image: the restored image, of the same type as the input.
        level: the level used, given or estimated; None for a model that takes none. For a level
            map, its mean.
        estimated: whether the level was estimated from the image.
        tile: largest side of the tiles in pixels; None for the whole image at once.
        seconds: total time, including conversion from and to the image type.
        retried: whether low precision gave non-finite pixels and float32 was used instead.
        choice: the chosen model and the reason, for ``Restorer("auto")``; else None.
    """

    image: Any
    level: float | None
    estimated: bool
    tile: int | None
    seconds: float
    retried: bool
    choice: Choice | None = None


class Restorer:
    """Restore images with one model.

    - Gray image, colour model: restored as RGB with equal channels; their mean is returned.
    - Gray stored as RGB: treated as gray; the channels stay equal.
    - Colour image, luma model (task ``jpeg_gray``): the luma is restored, the chroma kept.
    - Colour image, gray denoiser: an error, since the noise in the chroma would remain.

    Args:
        model: name of a released model or task, path of a weight file or of a folder of
            :func:`vheatir.hub.save_pretrained`, ``hf://org/name`` or ``hf://org/name@revision``
            on the Hugging Face Hub, or a loaded model; ``"auto"`` chooses a released model for
            each image (:class:`AutoRestorer`).
        device: ``"auto"`` for CUDA or MPS if available, else the CPU; or any torch device.
        precision: ``"float32"``, or ``"bfloat16"`` or ``"float16"`` under autocast, which is
            faster on a GPU (and on a CPU with AMX or AVX-512 BF16); ``"auto"``: bfloat16 if the
            device supports it natively, else float32. Images of which at least 40 % is black or
            white always use float32.
        backend: what computes the network: ``"torch"``, or ``"openvino"``, on the CPU alone, in
            float32 or bfloat16; see docs/restore.md. It needs ``pip install 'vheatir[openvino]'``.
        imports: modules to import first, which register networks that are not part of the package;
            see :func:`vheatir.load_weights`.

    Attributes:
        precision: the precision in use, with ``"auto"`` resolved.
        takes_level: whether the model takes a level (a noise sigma); otherwise it is blind.

    Raises:
        VHeatIRError: no such model, no such device, or a backend that is not installed or does
            not support the model, the device or the precision.

    Example:
        >>> from vheatir.bundled import heldout_photographs
        >>> photograph = heldout_photographs()["chelsea"][:64, :64]
        >>> restorer = Restorer("denoise_color_small", "cpu")
        >>> restorer.level_range
        (0.0, 55.0)
        >>> restored = restorer.restore(photograph, level=10)
        >>> restored.shape, restored.dtype
        ((64, 64, 3), dtype('uint8'))
    """

    def __new__(cls, model: object = None, *args: Any, **kwargs: Any) -> Restorer:
        """Create an :class:`AutoRestorer` for the model ``"auto"``."""
        return object.__new__(AutoRestorer if cls is Restorer and model == "auto" else cls)

    def __init__(
        self,
        model: StrPath | LoadedModel,
        device: str | torch.device = "auto",
        *,
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32",
        backend: Literal["torch", "openvino"] = "torch",
        imports: Sequence[str] = (),
    ) -> None:
        _check_precision(precision)
        self.device = _pick_device(device, backend)
        if backend == "openvino" and precision == "float16":
            raise VHeatIRError("the backend 'openvino' has no float16: use float32 or bfloat16")
        if precision == "auto":
            precision = "bfloat16" if has_native_bf16(self.device) else "float32"
            log.info("precision auto: %s on this %s", precision, self.device.type)
        self.precision = precision
        self.model = open_model(model, imports)
        self.network: nn.Module = self.model.network.to(self.device).eval()
        if backend == "openvino":
            self.network = import_module(_OPENVINO).OpenVinoNetwork(self.model)
        self.info: dict[str, Any] = dict(self.model.info)
        self.task: Task | None = TASKS.get(str(self.info.get("task")))
        self._dtype: torch.dtype = getattr(torch, precision)
        # trained on pairs alone: no task, but the colour mode
        self._color = self.task.color if self.task else self.info.get("color")
        # a foreign network need not say its channels
        channels = 1 if self._color in ("gray", "luma") else 3
        self._channels = int(getattr(self.network, "in_chans", channels))
        self.takes_level = bool(getattr(self.network, "takes_level", False))

    @property
    def name(self) -> str:
        """Name of the model, or of its file; ``"auto"`` for an :class:`AutoRestorer`."""
        return self.model.name

    @property
    def level_range(self) -> tuple[float, float] | None:
        """Smallest and largest level the model was trained for; None if its file does not say."""
        return level_range(self.info)

    def nearest_level(self, level: float | None) -> float | None:
        """Clip an estimated level to the trained range; None for a model that takes no level.

        Args:
            level: sigma on 0..255, or None.
        """
        if level is None or not self.takes_level:
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
                :func:`vheatir.inference.images.unpack`. Alpha is kept unchanged.
            level: sigma on the scale 0..255 or JPEG quality 1..100; (H, W) for one per pixel;
                None to estimate sigma from the image. A blind model only checks it against
                the trained range. A model for a task without a level (``photo``) raises an error.
            strength: strength of the restoration in percent, 0 to 150: one number, or (luma,
                chroma). 0 gives exactly the input and 100 exactly the network's result; see
                :func:`vheatir.inference.strength.apply_strength`.
            tile: largest side of the tiles in pixels, None for the whole image, ``"auto"`` to
                choose by image size and available memory, with smaller tiles when memory runs out.
            self_ensemble: average over the eight flips and rotations: slightly better, eight times
                slower.
            progress: called as ``progress(done, total)`` after each tile.

        Returns:
            Image of the same type, size, channels, dtype and range (an array for a path).

        Raises:
            VHeatIRError: an image or level the model does not support, a strength out of range,
                insufficient memory, or non-finite values from the model.
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
        """Restore one image and return the level, the tile size and the time with it.

        Arguments and errors as in :meth:`restore`.
        """
        began = time.perf_counter()
        wanted = parse_strength(strength)
        parts = unpack(image)
        colors = _without_equal_channels(parts.colors)
        used, estimated = self._resolve_level(level, colors)
        planes = self._to_network_channels(colors)
        restored, used_tile, retried = self._run(planes, used, tile, self_ensemble, progress)
        restored = self._from_network_channels(restored, planes, colors)
        result = parts.repack(restored.expand_as(parts.colors), wanted)
        reported = float(used.float().mean()) if isinstance(used, Tensor) else used
        seconds = time.perf_counter() - began
        return Restoration(result, reported, estimated, used_tile, seconds, retried)

    def network_input(
        self, image: Any, level: float | None = None
    ) -> tuple[Tensor, float | Tensor | None]:
        """Return the network input for an image, for inspection of the network.

        Arguments and errors as in :meth:`restore`.

        Returns:
            (B, C, H, W) with the network's channels, float32 in [0, 1], on the network's device,
            and the level, or None for a model that takes none.
        """
        colors = _without_equal_channels(unpack(image).colors)
        used, _ = self._resolve_level(level, colors)
        return self._to_network_channels(colors).to(self.device), used

    def _to_network_channels(self, colors: Tensor) -> Tensor:
        if colors.shape[1] == self._channels:
            return colors
        if self._channels == 3:
            return colors.expand(-1, 3, -1, -1)
        if self._color == "luma":
            return _luma(colors)
        name = self.info.get("name") or self.info.get("task") or "this model"
        colour_task = "jpeg_color" if self.task and "jpeg" in self.task.name else "denoise_color"
        raise VHeatIRError(
            f"{name!r} restores gray images, but the image is in colour: "
            f"use a {colour_task!r} model, or convert the image to gray"
        )

    def _from_network_channels(self, restored: Tensor, planes: Tensor, colors: Tensor) -> Tensor:
        if restored.shape[1] == colors.shape[1]:
            return restored
        if colors.shape[1] == 1:
            return restored.mean(1, keepdim=True)
        return colors + (restored - planes) * RGB_PER_MATLAB_LUMA

    def _resolve_level(self, level: object, colors: Tensor) -> tuple[float | Tensor | None, bool]:
        blind = None
        if self.task is not None and self.task.level_name is None:
            blind = f"for the task {self.task.name!r}"
        elif self.task is None and "color" in self.info:
            blind = "trained on pairs"
        if blind and level is not None:
            raise VHeatIRError(f"a model {blind} takes no level, since it is blind: omit the level")
        if level is None:
            if not self.takes_level:
                return None, False
            if self.task is not None and self.task.kind != "denoise":
                raise VHeatIRError("this model needs the JPEG quality: give a level, 1 to 100")
            sigmas = [estimate_sigma(each.permute(1, 2, 0).cpu().numpy()) for each in colors]
            clipped = [self.nearest_level(sigma) for sigma in sigmas]
            return (clipped[0] if len(clipped) == 1 else torch.tensor(clipped)), True
        given: float | Tensor
        if isinstance(level, (np.ndarray, Tensor)) and level.ndim > 0:
            given = _as_level_tensor(torch.as_tensor(level, dtype=torch.float32), colors)
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
        # Also rejects NaN.
        if not (low <= lowest and highest <= high and math.isfinite(highest)):
            raise VHeatIRError(
                f"{name} {format_levels((lowest, highest))}: this model is trained for "
                f"{name} {format_levels((low, high))}"
            )
        return (given if self.takes_level else None), False

    def _run(
        self,
        x: Tensor,
        level: Level,
        tile: Literal["auto"] | int | None,
        self_ensemble: bool,
        progress: Progress | None,
    ) -> tuple[Tensor, int | None, bool]:
        """Run the network, halving an automatic tile size while memory is insufficient."""
        auto = tile == "auto"
        if isinstance(tile, str) and not auto:
            raise VHeatIRError(f"tile {tile!r}: give 'auto', None or a number of pixels")
        side = self._auto_tile(x) if isinstance(tile, str) else tile
        run = restore_by_self_ensemble if self_ensemble else restore_tensor
        dtype, retried = self._dtype, False
        if dtype != torch.float32 and _is_mostly_clipped(x):
            log.info("image mostly black or white: using float32 instead of %s", dtype)
            dtype = torch.float32
        while True:
            try:
                with (
                    tf32_products(self.device, dtype),
                    torch.autocast(self.device.type, dtype=dtype, enabled=dtype != torch.float32),
                ):
                    out = run(self.network, x, level, tile=side, progress=progress)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                smaller = _halve(side, x)
                if not auto or smaller is None:
                    work = f"tiles of {side}" if side else "the whole image"
                    raise VHeatIRError(
                        f"not enough memory for {work}: give a smaller tile, or a smaller model"
                    ) from None
            else:
                if torch.isfinite(out).all():
                    return out, side, retried
                if dtype == torch.float32:
                    raise VHeatIRError(
                        "the model returned NaN or infinite pixels, even in float32: its weights "
                        "are damaged or its training diverged; use another weights file"
                    )
                log.warning("non-finite pixels in %s: retrying in float32", dtype)
                dtype, retried = torch.float32, True
                continue
            # Outside the except block, whose traceback would keep the failed tensors alive.
            log.warning("out of memory with tile %s: retrying with %d", side, smaller)
            side = smaller
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    def _auto_tile(self, x: Tensor) -> int | None:
        """Return a tile size that fits the memory budget; None if the whole image does."""
        channels = _feature_channels(self.network)
        budget: float = _MAX_WHOLE_FEATURE_MAP
        available = available_memory(self.device)
        if available is not None:
            budget = min(budget, available / 4 / _MEMORY_SHARE)
        if x.shape[0] * x.shape[-2] * x.shape[-1] * channels <= budget:
            return None
        side = AUTO_TILE
        while side > _SMALLEST_AUTO_TILE and x.shape[0] * side**2 * channels > budget:
            side //= 2
        return side


class AutoRestorer(Restorer):
    """Restore each image with the model chosen by :func:`choose_model`.

    Returned by ``Restorer("auto")``. Models are loaded on first use and cached.

    Args:
        model: ``"auto"``.
        device: see :class:`Restorer`.
        precision: precision of every model; see :class:`Restorer`.
        backend: backend of every model; see :class:`Restorer`.
        imports: modules to import; the released models need none.
        load: factory of the restorer for a task; ``Restorer`` by default.

    Example:
        >>> from vheatir.bundled import heldout_photographs
        >>> photograph = heldout_photographs()["coffee"][:96, :96]
        >>> noise = np.random.default_rng(0).normal(0, 20, photograph.shape)
        >>> noisy = (photograph + noise).clip(0, 255).astype(np.uint8)
        >>> result = Restorer("auto", "cpu").restore_detailed(noisy)
        >>> result.choice.model, round(result.level)
        ('denoise_color', 20)
    """

    def __init__(
        self,
        model: str = "auto",
        device: str | torch.device = "auto",
        *,
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32",
        backend: Literal["torch", "openvino"] = "torch",
        imports: Sequence[str] = (),
        load: Callable[[str], Restorer] | None = None,
    ) -> None:
        _check_precision(precision)
        self.device = _pick_device(device, backend)
        if imports:
            import_modules(imports)
        self.info = {"name": self.name}
        self.task = None
        self.takes_level = False
        own = partial(Restorer, device=self.device, precision=precision, backend=backend)
        self._load = cache(load or own)
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """``"auto"``, since the models have names of their own."""
        return "auto"

    def __getattr__(self, name: str) -> Any:
        """Raise a clear error for attributes that only a single-model restorer has."""
        if name in ("model", "network", "precision", "_channels"):
            raise _NoAttributeError(
                f"Restorer('auto') has no {name.lstrip('_')} of its own: "
                "name a model, such as 'photo'"
            )
        raise AttributeError(name)

    def restore_detailed(self, image: Any, level: Any = None, **options: Any) -> Restoration:
        """Choose a model for one image and restore it; the choice is in ``Restoration.choice``.

        Arguments and errors as in :meth:`Restorer.restore`. A level or a batch of several images
        raises an error.
        """
        began = time.perf_counter()
        if level is not None:
            raise VHeatIRError("Restorer('auto') takes no level: name a model, or omit the level")
        parse_strength(options.get("strength", 100))  # also where nothing is to be restored
        quality = codec = None
        if isinstance(image, (str, os.PathLike)):
            photograph = read_photograph_file(image)
            image, quality, codec = photograph.pixels, photograph.quality, photograph.codec
        elif tables := getattr(image, "quantization", None):  # a JPEG file opened by Pillow
            quality = jpeg_quality(tables)
        choice, restorer, level = self.choose(_single_image(image), quality, codec)
        if restorer is None:
            seconds = time.perf_counter() - began
            copied = image.clone() if isinstance(image, Tensor) else image.copy()
            return Restoration(copied, None, False, None, seconds, False, choice)
        result = restorer.restore_detailed(image, level, **options)
        seconds = time.perf_counter() - began
        estimated = result.level is not None
        return replace(result, estimated=estimated, seconds=seconds, choice=choice)

    def choose(
        self, image: NDArray[Any], quality: int | None = None, codec: str | None = None
    ) -> tuple[Choice, Restorer | None, float | None]:
        """Return the choice for an image, its model (None to leave the image unchanged) and level.

        Of two candidates, both restore parts of the image first, see :func:`compare_models`.
        Arguments as in :func:`choose_model`.
        """
        choice = compare_models(choose_model(image, quality, codec), self.restorer, image)
        restorer = self.restorer_for(choice)
        return choice, restorer, restorer.nearest_level(choice.level) if restorer else None

    def restorer_for(self, choice: Choice) -> Restorer | None:
        """Return the restorer for a choice; None to leave the image unchanged."""
        return load_choice(choice, self.restorer)

    def restorer(self, task: str) -> Restorer:
        """Return the restorer for a task, loaded on first use."""
        with self._lock:  # so that two threads do not load it twice
            return self._load(task)


class _NoAttributeError(VHeatIRError, AttributeError):
    """An attribute that a restorer of many models lacks; ``hasattr`` is False."""


def _single_image(image: Any) -> NDArray[Any]:
    """Return the colours of one image, (H, W, C) in [0, 1]."""
    colors = unpack(image).colors
    if colors.shape[0] != 1:
        raise VHeatIRError(
            f"Restorer('auto') takes one image at a time, not {colors.shape[0]}: call it for "
            "each, or name a model"
        )
    return colors[0].permute(1, 2, 0).cpu().numpy()


def compare_models(choice: Choice, load: Callable[[str], Restorer], image: NDArray[Any]) -> Choice:
    """Decide between the JPEG model and ``photo``, by their results on parts of the image.

    First of all, whether the image was compressed, if the choice leaves that open.

    Args:
        choice: see :func:`choose_model`; returned as it is if nothing is left open.
        load: returns the restorer for a task.
        image: the image that the choice was made for, as for :func:`choose_model`.

    Returns:
        A choice of one model, or of two with the share of the first. If one of your own models
        takes a level, the other is chosen.
    """
    settled = replace(choice, if_compressed=None)
    compressed = choice.if_compressed or choice
    if compressed.model is None or compressed.second is None or compressed.share is not None:
        return settled
    jpeg, photo = load(compressed.model), load(compressed.second)
    colors = color_channels(image)
    if jpeg.takes_level or photo.takes_level or min(colors.shape[:2]) < _SMALLEST_COMPARED:
        return settled if choice.if_compressed else _share(compressed, float(jpeg.takes_level))
    crops = _crops(colors)
    before, by_jpeg = _pixels(crops), _pixels(jpeg.restore(crops))
    if choice.if_compressed:
        evidence = compression_evidence(before, by_jpeg, choice.estimate.luma)
        if evidence < COMPRESSED:
            return settled
    by_photo = _pixels(photo.restore(crops))
    return _share(compressed, rounded(photo_weight(before, by_photo, by_jpeg)))


def _share(choice: Choice, weight: float) -> Choice:
    """Return a choice of the JPEG model and ``photo``, with the weight of ``photo``."""
    if weight < 0.5:
        second = choice.second if weight > 0 else None
        return replace(choice, second=second, share=1 - weight)
    second = choice.model if weight < 1 else None
    message = f"{choice.message}, noise ({choice.estimate})"
    return replace(choice, model=choice.second, second=second, share=weight, message=message)


def _crops(colors: NDArray[Any]) -> Tensor:
    """Return evenly spaced crops of an image, (N, 1 or 3, h, w) in [0, 1]; a small one as one."""
    most = (_COMPARED_CROP * _CROPS_PER_SIDE) ** 2
    areas = sample_areas(colors.shape, most, _COMPARED_CROP, _CROPS_PER_SIDE)
    return torch.cat([unpack(colors[area]).colors for area in areas])


def _pixels(images: Tensor) -> NDArray[np.float32]:
    """Convert (N, C, H, W) in [0, 1] to (N, H, W, C) on 0..255."""
    pixels: NDArray[np.float32] = 255 * images.permute(0, 2, 3, 1).numpy(force=True)
    return pixels


def load_choice(choice: Choice, load: Callable[[str], Restorer]) -> Restorer | None:
    """Return the restorer for a choice; None to leave the image unchanged.

    Args:
        choice: see :func:`compare_models`.
        load: returns the restorer for a task.
    """
    if choice.model is None:
        return None
    first = load(choice.model)
    if choice.second is None or choice.share is None:
        return first
    return mix(first, load(choice.second), choice.share)


def mix(first: Restorer, second: Restorer, share: float) -> Restorer:
    """Return a restorer whose result is the weighted mean of those of two.

    Args:
        first: restorer of a blind model.
        second: another one, on the same device; if one is for gray, images have to be gray.
        share: weight of the first result, 0 to 1.
    """
    mixed = copy.copy(min(first, second, key=lambda each: each._channels))
    mixed.network = MixedNetwork(first.network, second.network, share)
    name = f"{100 * share:.0f} % {first.name} + {100 * (1 - share):.0f} % {second.name}"
    mixed.info = {**mixed.info, "name": name}
    mixed.model = replace(mixed.model, network=mixed.network, info=mixed.info)
    return mixed


def describe_restoration(
    result: Restoration, restorer: Restorer, strength: tuple[float, float], found: str = ""
) -> str:
    """Describe in one line what was found in an image and done to it.

    Args:
        result: the result of ``restorer``.
        restorer: the restorer of one model.
        strength: strength of luma and chroma, in percent.
        found: the degradation that was found; empty if none was looked for.
    """
    parts = [f"found {found}"] if found else []
    if result.level is not None:
        unit = (restorer.task.level_name if restorer.task else None) or "level"
        how = "estimated" if result.estimated else "given"
        if f"{unit} {result.level:.1f}" not in found:
            parts.append(f"{unit} {result.level:.1f} ({how})")
    tile = f", tile {result.tile}" if result.tile else ""
    luma, chroma = strength
    strength_text = f", strength {luma:g} %" if luma != 100 else ""
    if luma != chroma:
        strength_text = f", luma {luma:g} %, chroma {chroma:g} %"
    done = "; ".join(parts) or "restored"
    return f"{done} -> {restorer.name}{tile}{strength_text}, {result.seconds:.1f} s"


def open_model(model: StrPath | LoadedModel, imports: Sequence[str] = ()) -> LoadedModel:
    """Load a model that is given by its name, by a file or folder or by an address on the Hub.

    Args:
        model: the name of a released one or of a task, a ``.safetensors`` or ``.pth`` file, a
            folder of :func:`vheatir.hub.save_pretrained`, ``hf://org/name`` or
            ``hf://org/name@revision``, or a loaded model, which is returned.
        imports: see :func:`vheatir.weights.load_weights`.

    Raises:
        VHeatIRError: see :func:`vheatir.zoo.load_model`, :func:`vheatir.weights.load_weights` and
            :func:`vheatir.hub.from_pretrained`.
    """
    if not isinstance(model, (str, os.PathLike)):
        return model
    text = os.fspath(model)
    if text.startswith("hf://"):
        from vheatir.hub import from_address

        return from_address(text, imports=imports)
    if os.path.isfile(os.path.join(text, "config.json")):
        from vheatir.hub import from_pretrained

        return from_pretrained(text, imports=imports)
    is_path = isinstance(model, os.PathLike) or text.endswith((".safetensors", ".pth"))
    if is_path or os.path.isfile(text):
        return load_weights(text, imports=imports)
    return load_model(text)


def _feature_channels(network: nn.Module) -> float:
    """Return the number of channels of the finest feature map, per pixel of the image."""
    if isinstance(network, MixedNetwork):
        return max(_feature_channels(each) for each in (network.first, network.second))
    last = getattr(network, "conv_last", None)
    channels = float(last.in_channels if isinstance(last, nn.Conv2d) else _DEFAULT_CHANNELS)
    downscale = getattr(network, "downscale", 1)
    return channels / (downscale**2 if isinstance(downscale, int) else 1)


def _check_precision(precision: str) -> None:
    if precision not in ("auto", *_PRECISIONS):
        raise VHeatIRError(f"precision {precision!r}: allowed: auto, {', '.join(_PRECISIONS)}")


def _pick_device(device: str | torch.device, backend: str) -> torch.device:
    """Return the device for a backend, see :class:`Restorer`.

    Raises:
        VHeatIRError: the backend is unknown or not installed, or has no such device.
    """
    if backend not in _BACKENDS:
        raise unknown_name("backend", backend, _BACKENDS)
    if backend == "torch":
        return pick_device(device)
    if str(device) not in ("auto", "cpu"):
        raise VHeatIRError(
            f"the backend 'openvino' runs on the CPU alone, not on {str(device)!r}: give the "
            "device 'auto' or 'cpu', or the backend 'torch'"
        )
    import_module(_OPENVINO).require_openvino()
    return torch.device("cpu")


def _without_equal_channels(colors: Tensor) -> Tensor:
    """Return one channel of (B, C, H, W) if all are equal in every image, else all channels."""
    first = colors[:, :1]
    return first if all(torch.equal(first, each) for each in colors.split(1, 1)[1:]) else colors


def _luma(rgb: Tensor) -> Tensor:
    """Y of MATLAB's ``rgb2ycbcr``, (B, 1, H, W), black at 16/255 and white at 235/255."""
    weights = rgb.new_tensor(MATLAB_LUMA).reshape(1, 3, 1, 1)
    return ((rgb * weights).sum(1, keepdim=True) + 16) / 255


def _as_level_tensor(level: Tensor, colors: Tensor) -> Tensor:
    """Reshape levels per image or per pixel to (B,) or (B, 1, H, W)."""
    batch, _, height, width = colors.shape
    if tuple(level.shape) == (batch,):
        return level
    pixels = height * width
    if level.shape[-2:] == (height, width) and level.numel() in (pixels, batch * pixels):
        return level.reshape(-1, 1, height, width).expand(batch, -1, -1, -1)
    raise VHeatIRError(
        f"levels of shape {tuple(level.shape)} do not fit the image: "
        f"give one number, or one per pixel as ({height}, {width})"
    )


def _halve(side: int | None, x: Tensor) -> int | None:
    """Halve the tile size (or the longer side of the image); None if that would be too small."""
    half = min((side or max(x.shape[-2:])) // 2, AUTO_TILE) // 8 * 8
    return half if half >= _SMALLEST_AUTO_TILE else None


def _is_mostly_clipped(x: Tensor) -> bool:
    """Whether at least 40 % of the values of (N, C, H, W) are clipped to black or white.

    On flat clipped areas the result is accurate to 1/255, so that the rounding errors of low
    precision dominate: up to 3.4 dB (of 74) with the released models. On clipped noise they are
    systematic: 0.05 dB.
    """
    return int(((x <= 0) | (x >= 1)).sum()) >= 0.4 * x.numel()
