"""Uploaded files: nothing is decoded before its header says that it is an image of sane size."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from vheatir.errors import VHeatIRError
from vheatir.image_io import decode_image

_ORIENTATION = 0x0112  # the EXIF tag


def read_upload(path: str | os.PathLike[str], max_pixels: int) -> NDArray[Any]:
    """Read an uploaded image upright, keeping its channels and bit depth.

    Args:
        path: the uploaded file.
        max_pixels: refuse larger images by their header, before decoding them.

    Returns:
        (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``, RGB(A), turned as EXIF tells.

    Raises:
        VHeatIRError: no image, damaged, or too large; names the file, not its folder.
    """
    name = repr(Path(path).name)
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images; they are measured below.
            warnings.simplefilter("ignore")
            with Image.open(path) as header:
                _check_size(name, *header.size, max_pixels)
                # After the check: in a PNG it may stand behind the pixels, which it then decodes.
                orientation = int(header.getexif().get(_ORIENTATION, 1))
    except Image.DecompressionBombError:
        raise VHeatIRError(f"{name} is too large: {_megapixels(max_pixels)} at most") from None
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError):
        raise VHeatIRError(
            f"{name} is no image that can be read: use PNG, JPEG, BMP, TIFF, WebP or PNM"
        ) from None
    return apply_orientation(decode_image(Path(path).read_bytes(), name), orientation)


def apply_orientation(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Turn and mirror an image as its EXIF orientation (1 to 8) says; others leave it alone."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def describe(image: NDArray[Any]) -> str:
    """Say size, depth and channels, such as ``"640 × 480, 8-bit RGB"``."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    kind = {1: "gray", 3: "RGB", 4: "RGB with alpha"}.get(channels, f"{channels} channels")
    return f"{image.shape[1]} × {image.shape[0]}, {8 * image.dtype.itemsize}-bit {kind}"


def _check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise VHeatIRError(
            f"{name} has {width} x {height} pixels ({_megapixels(width * height)}): "
            f"{_megapixels(max_pixels)} at most, make it smaller"
        )


def _megapixels(pixels: int) -> str:
    return f"{pixels / 1e6:.3g} megapixels"
