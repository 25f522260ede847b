"""Convert images of any supported type to a tensor and back.

:func:`unpack` converts an array, PIL image, tensor or file to colours in [0, 1]; the result's
:attr:`Unpacked.repack` converts restored colours back to the original type.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vheatir.errors import VHeatIRError
from vheatir.inference.files import read_photograph_file
from vheatir.inference.strength import apply_strength

#: Strength of luma and chroma, in percent.
Strength = tuple[float, float]

_FULL_STRENGTH: Strength = (100.0, 100.0)
_ARRAY_DTYPES = ("uint8", "uint16", "float16", "float32", "float64")
_PIL_MODES = frozenset({"L", "LA", "RGB", "RGBA", "I;16", "F"})

# A float image with noise may exceed [0, 1]; beyond this limit, its scale is not [0, 1].
_MAX_ABS_VALUE = 4.0


@dataclass(frozen=True)
class Unpacked:
    """An image as network input, with its inverse conversion.

    Attributes:
        colors: (B, 1, H, W) for gray or (B, 3, H, W), float32, black at 0 and white at 1.
        repack: converts restored ``colors``, clipped to [0, 1], to an image of the original type,
            with a strength of luma and chroma; see
            :func:`vheatir.inference.strength.apply_strength`.
    """

    colors: Tensor
    repack: Callable[[Tensor, Strength], Any]


def unpack(image: object) -> Unpacked:
    """Convert an image of any supported type to colours and a function to convert back.

    Args:
        image: one of

            - NumPy array (H, W) or (H, W, C), C = 1 to 4 for gray, gray and alpha, RGB, RGBA;
              uint8, uint16, or floating in [0, 1];
            - PIL image; modes other than L, LA, RGB, RGBA, I;16 and F are converted to RGB or RGBA;
            - path of an image file, returned as an array, upright according to EXIF;
            - tensor (H, W), (C, H, W) or (B, C, H, W), uint8 or floating in [0, 1].

    Raises:
        VHeatIRError: the type, shape, dtype or range is unsupported, or the image is empty.
    """
    if isinstance(image, (str, os.PathLike)):
        return _unpack_array(read_photograph_file(image).pixels)
    if isinstance(image, Image.Image):
        return _unpack_pil(image)
    if isinstance(image, Tensor):
        return _unpack_tensor(image)
    if isinstance(image, np.ndarray):
        return _unpack_array(image)
    raise VHeatIRError(
        f"cannot restore a {type(image).__name__}: "
        "give a NumPy array, a PIL image, a torch tensor or the path of an image file"
    )


def _unpack_array(image: NDArray[Any]) -> Unpacked:
    if image.ndim not in (2, 3) or (image.ndim == 3 and not 1 <= image.shape[2] <= 4):
        raise VHeatIRError(
            f"an array of shape {image.shape} is not an image: give (H, W) or (H, W, C), C = 1 to 4"
        )
    if image.dtype.name not in _ARRAY_DTYPES:
        raise VHeatIRError(
            f"an array of {image.dtype.name} cannot be restored: allowed: "
            f"{', '.join(_ARRAY_DTYPES)} (floating images in [0, 1])"
        )
    if image.size == 0:
        raise VHeatIRError(f"an array of shape {image.shape} is empty: give at least one pixel")
    planes = image if image.ndim == 3 else image[:, :, None]
    count = 3 if planes.shape[2] >= 3 else 1
    alpha = planes[:, :, count:]
    white = {"uint8": 255, "uint16": 65535}.get(image.dtype.name, 1)
    # A new C-contiguous array (C, H, W), which torch wraps without a further copy.
    scaled = np.array(planes[:, :, :count].transpose(2, 0, 1), dtype=np.float32, order="C")
    if white != 1:
        scaled /= np.float32(white)
    colors = torch.from_numpy(scaled)[None]
    _check_values(colors, image.dtype.name)

    def repack(restored: Tensor, strength: Strength = _FULL_STRENGTH) -> NDArray[Any]:
        # In-place: avoid a copy of a large photograph at each step.
        scaled = restored[0].clamp(0, 1).mul_(white)
        plain = (scaled.round_() if white != 1 else scaled).permute(1, 2, 0).cpu().numpy()
        # With the dtype: by default, big-endian arrays become native.
        result = np.concatenate([plain.astype(image.dtype), alpha], axis=2, dtype=image.dtype)
        result = result.reshape(image.shape)
        return result if strength == _FULL_STRENGTH else apply_strength(image, result, *strength)

    return Unpacked(colors, repack)


def _unpack_pil(image: Image.Image) -> Unpacked:
    if image.mode in _PIL_MODES:
        supported = image
    elif image.mode.startswith("I"):
        raise VHeatIRError(
            f"a PIL image of mode {image.mode} has no defined white: convert it to I;16, L or RGB"
        )
    else:
        supported = image.convert("RGBA" if image.has_transparency_data else "RGB")
    parts = _unpack_array(np.asarray(supported))

    def repack(restored: Tensor, strength: Strength = _FULL_STRENGTH) -> Image.Image:
        result = Image.fromarray(parts.repack(restored, strength))
        # EXIF (including the orientation, which is not applied), ICC profile, resolution.
        dropped = {"transparency"}
        if image.mode in ("CMYK", "LAB"):  # the result is RGB
            dropped.add("icc_profile")
        result.info = {key: value for key, value in image.info.items() if key not in dropped}
        return result

    return Unpacked(parts.colors, repack)


def _unpack_tensor(image: Tensor) -> Unpacked:
    if image.ndim not in (2, 3, 4) or (image.ndim > 2 and not 1 <= image.shape[-3] <= 4):
        raise VHeatIRError(
            f"a tensor of shape {tuple(image.shape)} is not an image: "
            "give (H, W), (C, H, W) or (B, C, H, W), C = 1 to 4"
        )
    if image.dtype != torch.uint8 and not image.is_floating_point():
        raise VHeatIRError(
            f"a tensor of {image.dtype} cannot be restored: "
            "allowed: torch.uint8, or floating in [0, 1]"
        )
    if image.numel() == 0:
        raise VHeatIRError(
            f"a tensor of shape {tuple(image.shape)} is empty: give at least one pixel"
        )
    planes = image.detach().reshape(-1, *((1,) if image.ndim == 2 else ()), *image.shape[-3:])
    count = 3 if planes.shape[1] >= 3 else 1
    white = 255 if image.dtype == torch.uint8 else 1
    colors = planes[:, :count].to(torch.float32) / white
    _check_values(colors, str(image.dtype))

    def repack(restored: Tensor, strength: Strength = _FULL_STRENGTH) -> Tensor:
        plain = restored.to(image.device).clamp(0, 1) * white
        plain = (plain.round() if white != 1 else plain).to(image.dtype)
        if strength != _FULL_STRENGTH:
            pairs = zip(planes[:, :count], plain, strict=True)
            plain = torch.stack([_apply_tensor_strength(*pair, strength) for pair in pairs])
        return torch.cat([plain, planes[:, count:]], dim=1).reshape(image.shape)

    return Unpacked(colors, repack)


def _apply_tensor_strength(before: Tensor, restored: Tensor, strength: Strength) -> Tensor:
    """Apply the strength to colours (C, H, W)."""
    # NumPy has no bfloat16; every other dtype is kept.
    dtype = torch.float32 if before.dtype == torch.bfloat16 else before.dtype
    arrays = [each.permute(1, 2, 0).to("cpu", dtype).numpy() for each in (before, restored)]
    mixed = torch.from_numpy(apply_strength(arrays[0], arrays[1], *strength))
    return mixed.permute(2, 0, 1).to(before)


def _check_values(colors: Tensor, dtype: str) -> None:
    low, high = (float(value) for value in torch.aminmax(colors))
    if not math.isfinite(low) or not math.isfinite(high):
        raise VHeatIRError("the image contains NaN or infinite values: replace them first")
    largest = max(-low, high)
    if largest > _MAX_ABS_VALUE:
        raise VHeatIRError(
            f"a {dtype} image reaches {largest:g}, but white is 1: divide it by its white (255?)"
        )
