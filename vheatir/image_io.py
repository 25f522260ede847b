"""Image files in and out: the one place where pixels meet the disk.

Arrays are ``(H, W)`` for gray and ``(H, W, C)`` in R, G, B(, A) order for colour, as stored:
``uint8`` or ``uint16``.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)


def list_images(folder: str | os.PathLike[str]) -> list[Path]:
    """Return every image file below ``folder``, sorted by path.

    Raises:
        VHeatIRError: the folder is missing or holds no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VHeatIRError(
            f"image folder {str(root)!r} does not exist: give an existing folder, "
            "or fetch the data sets with datasets/prepare.py"
        )
    images = sorted(path for path in root.rglob("*") if path.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise VHeatIRError(
            f"image folder {str(root)!r} holds no image: "
            f"files ending in {', '.join(sorted(IMAGE_SUFFIXES))} are read"
        )
    return images


def decode_image(data: bytes, name: str = "image") -> NDArray[np.generic]:
    """Decode an encoded image, keeping its channels and bit depth.

    Raises:
        VHeatIRError: the bytes are no image that OpenCV can decode.
    """
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise VHeatIRError(
            f"{name} cannot be read as an image: the file is damaged or of another format; "
            "PNG, JPEG, BMP, TIFF, WebP and PNM are read"
        )
    return _swap_red_and_blue(image)


def read_image(path: str | os.PathLike[str]) -> NDArray[np.generic]:
    """Read an image file, keeping its channels and bit depth.

    Returns:
        Array of shape (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``, RGB(A) order.

    Raises:
        VHeatIRError: the file is missing or no image.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise VHeatIRError(f"{str(path)!r} cannot be opened: {error.strerror}") from None
    return decode_image(data, repr(str(path)))


def encode_image(image: NDArray[np.generic], suffix: str = ".png") -> bytes:
    """Encode an array as an image file of the format ``suffix`` names.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``, RGB(A) order.
        suffix: ``".png"``, ``".jpg"`` and so on.
    """
    done, data = cv2.imencode(suffix, _swap_red_and_blue(image))
    if not done:
        raise VHeatIRError(f"an image cannot be written as {suffix!r}: use .png")
    return data.tobytes()


def write_image(path: str | os.PathLike[str], image: NDArray[np.generic]) -> None:
    """Write an image file; a failure leaves nothing half-written behind.

    Args:
        path: target; its suffix picks the format.
        image: see :func:`encode_image`.
    """
    target = Path(path)
    write_bytes_atomically(target, encode_image(image, target.suffix.lower()))


def write_bytes_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write ``data`` to ``path`` so that the file is either the old one or the whole new one."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _swap_red_and_blue(image: NDArray[Any]) -> NDArray[Any]:
    """Convert between OpenCV's B, G, R(, A) order and R, G, B(, A)."""
    if image.ndim == 3 and image.shape[2] == 1:
        return image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.ndim == 3 and image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    return image
