"""Luma and chroma weights, and the conversion of images to the colour mode of a task."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError, unknown_name
from vheatir.tasks import ColorMode

#: Y of BT.601, with the range of R, G and B.
BT601_LUMA = (0.299, 0.587, 0.114)
#: Y, Cb and Cr of BT.601, (3, 3) ``float32``; chroma is centred on zero.
BT601_YCC = np.array(
    [BT601_LUMA, (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312)], np.float32
)
#: Y - 16 of MATLAB's ``rgb2ycbcr``, Y in 16..235, for R, G and B in [0, 1].
MATLAB_LUMA = (65.481, 128.553, 24.966)
#: Steps of R, G and B for one step of that Y, with fixed chroma.
RGB_PER_MATLAB_LUMA = 255 / 219


def matlab_luma(rgb: NDArray[Any]) -> NDArray[np.floating[Any]]:
    """Return Y of MATLAB's ``rgb2ycbcr``, 16..235, of (H, W, 3) with white at 255; not rounded."""
    return np.asarray(rgb @ (np.array(MATLAB_LUMA) / 255) + 16)


def to_8_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Round 16 bits to 8; 8-bit pixels are returned unchanged."""
    if pixels.dtype == np.uint8:
        return pixels
    # (x + 128) // 257 rounds to nearest; in 32 bits, since x + 128 can exceed 16 bits.
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def to_color_mode(image: NDArray[Any], mode: ColorMode) -> NDArray[np.uint8]:
    """Convert a decoded image to the colour mode of a task.

    Args:
        image: ``uint8`` or ``uint16``, (H, W), (H, W, 3) RGB or (H, W, 4) RGBA. Alpha is dropped;
            16 bits are rounded to 8.
        mode: ``"gray"``, OpenCV's gray (0.299 R + 0.587 G + 0.114 B); ``"luma"``, Y of MATLAB's
            ``rgb2ycbcr`` (16..235), rounded; or ``"rgb"``. A gray image is unchanged in ``"luma"``,
            as is usual for classic5, and repeated three times in ``"rgb"``.

    Returns:
        ``uint8`` of shape (H, W), or (H, W, 3) for ``"rgb"``; the input itself, not a copy, if
        nothing changes.

    Raises:
        VHeatIRError: unsupported dtype or shape, or unknown mode.
    """
    if mode not in ("gray", "luma", "rgb"):
        raise unknown_name("colour mode", mode, ("gray", "luma", "rgb"))
    if image.dtype == np.uint16:
        image = to_8_bits(image)
    if image.dtype != np.uint8:
        raise VHeatIRError(
            f"an image of {image.dtype} cannot be used: 8- and 16-bit integers are allowed, "
            "so convert the file"
        )
    if image.ndim == 2:
        return image if mode != "rgb" else np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise VHeatIRError(
            f"an image of shape {image.shape} cannot be used: (H, W), (H, W, 3) and (H, W, 4) are"
        )
    rgb = image[..., :3]
    if mode == "gray":
        import cv2

        return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.uint8)
    if mode == "luma":
        return np.rint(matlab_luma(rgb)).astype(np.uint8)
    return rgb
