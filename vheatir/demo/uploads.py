"""Uploaded files: a header check of format and size precedes decoding."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vheatir.image_io import StrPath
from vheatir.inference import Choice, choose_model
from vheatir.inference.files import Photograph, read_photograph_file

# Uploads whose choice is kept; a choice is a few numbers.
_MOST_CHOICES = 200
# Gradio's cache has a folder for each file, named by a SHA-256 in hexadecimal.
_FILE_FOLDERS = "[0-9a-f]" * 64


def read_upload(path: StrPath, max_pixels: int) -> Photograph:
    """Read an uploaded image upright, keeping its channels and bit depth.

    Args:
        path: the uploaded file.
        max_pixels: reject larger images by their header, before decoding.

    Returns:
        The photograph, with pixels of (H, W), (H, W, 3) or (H, W, 4).

    Raises:
        VHeatIRError: not an image, damaged, or too large; names the file, not its folder.
    """
    photo = read_photograph_file(path, max_pixels, repr(Path(path).name))
    gray_and_alpha = photo.pixels.ndim == 3 and photo.pixels.shape[2] == 2
    if not gray_and_alpha:
        return photo
    # The profile of a gray image does not fit RGB.
    metadata = replace(photo.metadata, icc=None)
    return replace(photo, pixels=photo.pixels[:, :, [0, 0, 0, 1]], metadata=metadata)


def delete_old(folder: StrPath, tracked: Collection[set[Any]], age: float) -> None:
    """Delete old files that gradio's own deletion misses, and folders that became empty.

    Gradio's deletion stops permanently if a request adds a file while it runs, it does not track
    uploads whose connection broke, and it leaves the folder of each file.

    Args:
        folder: gradio's cache; an upload in progress is a file directly in it.
        tracked: the files that gradio tracks, by component.
        age: seconds since the last write after which a file or an empty folder is deleted.
    """
    cache = Path(folder)
    known = [Path(file) for files in tracked for file in tuple(files)]
    for path in (*cache.glob("tmp*"), *known):
        with suppress(OSError):  # not yet in place, or deleted by gradio
            if path.is_file() and time.time() - path.stat().st_mtime > age:
                path.unlink()
                for files in tracked:
                    files.discard(str(path))
    for path in cache.glob(_FILE_FOLDERS):
        with suppress(OSError):  # not empty
            # A new folder may be about to get its file.
            if time.time() - path.stat().st_mtime > age:
                path.rmdir()


class Choices:
    """Automatic's choice for the latest uploads, made once for each file; thread-safe.

    An upload is inspected when it arrives and restored later. Only the choice is kept, never
    pixels, and only a request that names the file gets it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: dict[tuple[str, int], Choice] = {}  # oldest first

    def choose(self, path: StrPath, photo: Photograph) -> Choice:
        """Return the choice for a file that :func:`read_upload` read."""
        try:
            key = os.fspath(path), os.stat(path).st_mtime_ns
        except FileNotFoundError:  # deleted since it was read
            return _choose(photo)
        with self._lock:
            choice = self._found[key] = self._found.get(key) or _choose(photo)
            if len(self._found) > _MOST_CHOICES:
                del self._found[next(iter(self._found))]
            return choice


def _choose(photo: Photograph) -> Choice:
    return choose_model(photo.pixels, photo.quality, photo.codec)


def describe(image: NDArray[Any]) -> str:
    """Return size, depth and channels, such as ``"640 × 480, 8-bit RGB"``."""
    channels = 1 if image.ndim == 2 else image.shape[2]
    kind = {1: "gray", 3: "RGB", 4: "RGB with alpha"}.get(channels, f"{channels} channels")
    return f"{image.shape[1]} × {image.shape[0]}, {8 * image.dtype.itemsize}-bit {kind}"
