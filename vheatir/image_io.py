"""Image files in and out: the one place where pixels meet the disk.

Arrays are ``(H, W)`` for gray and ``(H, W, C)`` in R, G, B(, A) order for colour, as stored:
``uint8`` or ``uint16``.
"""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vheatir.errors import VHeatIRError

# OpenCV 5 has its log level in a module of its own, OpenCV 4 beside everything else.
_cv2_logging: Any = getattr(cv2.utils, "logging", cv2)
_CV2_SILENT = 0

IMAGE_SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
)

#: Suffixes of images that only :mod:`vheatir.inference` reads, not the readers of training data.
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})

#: Pillow's names of the formats that are read. Bytes of any other never reach a decoder, whatever
#: the file is called.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")

#: Largest image that is decoded where nobody has set a limit, in pixels.
MAX_PIXELS = 150_000_000

_JPEG_SCAN, _JPEG_END = b"\xff\xda", b"\xff\xd9"
_PNG_FIRST_CHUNK, _PNG_AROUND = 8, 12  # bytes before the first chunk; around a chunk's contents


def list_images(
    folder: str | os.PathLike[str], more_suffixes: frozenset[str] = frozenset()
) -> list[Path]:
    """Return every image file below ``folder``, sorted by path.

    Args:
        folder: where to look.
        more_suffixes: to take besides ``IMAGE_SUFFIXES``, in lower case.

    Raises:
        VHeatIRError: the folder is missing or holds no image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VHeatIRError(
            f"image folder {str(root)!r} does not exist: give an existing folder, "
            "or fetch the data sets with datasets/prepare.py"
        )
    wanted = IMAGE_SUFFIXES | more_suffixes
    images = sorted(path for path in root.rglob("*") if path.suffix.lower() in wanted)
    if not images:
        read = sorted(IMAGE_SUFFIXES | (more_suffixes & HEIF_SUFFIXES))
        raise VHeatIRError(
            f"image folder {str(root)!r} holds no image: files ending in {', '.join(read)} are read"
        )
    return images


def decode_image(
    data: bytes, name: str = "image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.generic]:
    """Decode an encoded image, keeping its channels and bit depth; of several pages, the first.

    Args:
        data: the file's bytes.
        name: for messages.
        max_pixels: refuse larger images by their header, before decoding them.

    Raises:
        VHeatIRError: no image of the formats that are read, damaged, cut off or too large, or
            its pixels are no 8 or 16 bits.
    """
    refused = VHeatIRError(
        f"{name} cannot be read as an image: the file is damaged or of another format; "
        "PNG, JPEG, BMP, TIFF, WebP and PNM are read"
    )
    try:
        with open_header(data, name, max_pixels) as header:
            cut_off = _is_cut_off(data, header.format)
    except VHeatIRError:
        raise
    except Exception:  # whatever a damaged header provokes
        raise refused from None
    if cut_off:
        raise refused
    image = decode_with_opencv(data)
    if image is None:
        raise refused
    if image.dtype not in (np.uint8, np.uint16):
        raise VHeatIRError(f"{name} has {image.dtype} pixels: convert it to 8 or 16 bits")
    return image


def decode_with_opencv(data: bytes) -> NDArray[np.generic] | None:
    """Decode bytes whose header was checked; None where OpenCV cannot. It prints nothing."""
    level = _cv2_logging.getLogLevel()
    _cv2_logging.setLogLevel(_CV2_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        _cv2_logging.setLogLevel(level)
    return None if image is None else _swap_red_and_blue(image)


def _is_cut_off(data: bytes, fmt: str | None) -> bool:
    """Tell whether a file ends before its pixels do, in ways that OpenCV takes badly.

    It fills up a JPEG with gray (before its release 5), and makes room for a PNG's chunk of 4 GB
    before it sees that the file has no more than a few bytes.
    """
    if fmt == "JPEG":
        return data.rfind(_JPEG_END) < data.rfind(_JPEG_SCAN)
    if fmt != "PNG":
        return False
    at, kind = _PNG_FIRST_CHUNK, b""
    while kind != b"IEND" and at + _PNG_AROUND <= len(data):
        length, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        at += length + _PNG_AROUND
    return kind != b"IEND" or at > len(data)


@contextlib.contextmanager
def open_header(
    data: bytes, name: str, max_pixels: int, formats: tuple[str, ...] = FORMATS
) -> Iterator[Image.Image]:
    """Open an image with Pillow, which reads its header and decodes nothing.

    Args:
        data: the file's bytes.
        name: for messages.
        max_pixels: refuse larger images.
        formats: Pillow's names of those that are opened.

    Raises:
        VHeatIRError: too large.
        PIL.UnidentifiedImageError: no image of the formats that are read.
        Exception: whatever else a damaged file provokes, also in the body of the with statement.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images, measured here, and of odd EXIF, which is dropped.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=formats) as image:
                check_size(name, *image.size, max_pixels)
                yield image
    except Image.DecompressionBombError:
        raise VHeatIRError(f"{name} is too large: {megapixels(max_pixels)} at most") from None


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Refuse an image of more than ``max_pixels``."""
    if width * height > max_pixels:
        raise VHeatIRError(
            f"{name} has {width} x {height} pixels ({megapixels(width * height)}): "
            f"{megapixels(max_pixels)} at most, make it smaller"
        )


def megapixels(pixels: int) -> str:
    """Say a number of pixels in words."""
    return f"{pixels / 1e6:.3g} megapixels"


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
    """Write ``data`` to ``path`` so that the file is either the old one or the whole new one.

    When it returns, file and name have reached the disk: a power cut takes neither.
    """
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
    _sync_folder(target.parent)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Delete what a kill inside :func:`write_bytes_atomically` has left of the file ``name``."""
    for path in folder.glob(f".{name}.*"):
        if path.is_file():
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where the system and the file system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        with contextlib.suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)


def _swap_red_and_blue(image: NDArray[Any]) -> NDArray[Any]:
    """Convert between OpenCV's B, G, R(, A) order and R, G, B(, A)."""
    if image.ndim == 3 and image.shape[2] == 1:
        return image[:, :, 0]
    if image.ndim == 3 and image.shape[2] == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.ndim == 3 and image.shape[2] == 4:
        return cv2.cvtColor(image, cv2.COLOR_BGRA2RGBA)
    return image
