"""Uploaded files: nothing is decoded before its header says that it is an image of sane size."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vheatir.errors import VHeatIRError
from vheatir.inference.files import read_photograph


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
        data = Path(path).read_bytes()
    except OSError as error:
        raise VHeatIRError(f"{name} cannot be opened: {error.strerror}") from None
    pixels = read_photograph(data, name, max_pixels).pixels
    gray_and_alpha = pixels.ndim == 3 and pixels.shape[2] == 2
    return pixels[:, :, [0, 0, 0, 1]] if gray_and_alpha else pixels


def refuse_addresses(component: Any) -> None:
    """Keep a gradio component from fetching what a request names by its address.

    Through the API a file can be given as ``http://…``, and gradio would fetch it: the server
    would ask other machines on a stranger's behalf.
    """
    keep = component.async_move_resource_to_block_cache

    async def refuse(source: Any) -> str | None:
        if "://" in str(source):
            raise ValueError("files are uploaded, not fetched from an address")
        moved: str | None = await keep(source)
        return moved

    component.async_move_resource_to_block_cache = refuse


def delete_unfinished(folder: str | os.PathLike[str], age: float) -> None:
    """Delete what uploads whose connection broke have left, which gradio itself never does.

    Args:
        folder: gradio's cache; while an upload goes on, its file lies directly in it.
        age: seconds since the last byte came.
    """
    for path in Path(folder).glob("tmp*"):
        with contextlib.suppress(OSError):  # a finished upload has just been moved away
            if path.is_file() and time.time() - path.stat().st_mtime > age:
                path.unlink()


def describe(image: NDArray[Any]) -> str:
    """Say size, depth and channels, such as ``"640 × 480, 8-bit RGB"``."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    kind = {1: "gray", 3: "RGB", 4: "RGB with alpha"}.get(channels, f"{channels} channels")
    return f"{image.shape[1]} × {image.shape[0]}, {8 * image.dtype.itemsize}-bit {kind}"
