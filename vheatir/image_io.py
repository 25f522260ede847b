"""Reading and writing of image files.

Arrays are (H, W) for gray and (H, W, C) in R, G, B(, A) order for colour, ``uint8`` or ``uint16``
as stored in the file.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import secrets
import warnings
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vheatir.errors import VHeatIRError, first_line

#: Path of a file or folder.
StrPath = str | os.PathLike[str]

_CV2_SILENT = 0

IMAGE_SUFFIXES = frozenset(
    ".png .jpg .jpeg .jpe .jfif .bmp .tif .tiff .webp .ppm .pgm .pbm .pnm".split()
)

#: Suffixes of formats that only :mod:`vheatir.inference` reads, not the training data readers.
HEIF_SUFFIXES = frozenset({".heic", ".heif", ".hif", ".avif"})

#: Supported formats, by their Pillow names. Data in any other format never reaches a decoder,
#: regardless of the file name.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")

#: Default limit on the size of decoded images, in pixels.
MAX_PIXELS = 150_000_000

_JPEG_END = b"\xd9"
# No stuffed zero, no restart. Of fill bytes only the last is matched: with \xff+, a search in a run
# of them would take quadratic time.
_JPEG_MARKER = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")
_PNM_HEADER = re.compile(rb"P[2356](?:\s|#[^\n\r]*[\n\r])+" + rb"(\d+)(?:\s|#[^\n\r]*[\n\r])+" * 3)
# A temporary file is called .START.RANDOM.
_TEMPORARY_START = 200  # bytes of the target's name
_TEMPORARY_BYTES = 6  # random bytes, in hexadecimal
# TIFF tags, and the values of theirs that OpenCV ignores.
_PHOTOMETRIC, _WHITE_IS_ZERO = 262, 0
_PLANES, _SEPARATE = 284, 2
_EXTRA_SAMPLES, _PREMULTIPLIED = 338, (1,)
# Sizes in bytes: the signature before the first chunk; length, type and CRC of a chunk.
_PNG_SIGNATURE, _PNG_CHUNK_OVERHEAD = 8, 12


def list_images(folder: StrPath, more_suffixes: frozenset[str] = frozenset()) -> list[Path]:
    """Return every image file below ``folder``, sorted by path.

    Args:
        folder: folder to search recursively.
        more_suffixes: suffixes to include besides ``IMAGE_SUFFIXES``, in lower case.

    Raises:
        VHeatIRError: the folder is missing or contains no images.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VHeatIRError(
            f"image folder {str(root)!r} does not exist: give an existing folder, "
            "or download the data sets with datasets/prepare.py"
        )
    found = (path for path in root.rglob("*") if is_image_name(path, more_suffixes))
    images = sorted(path for path in found if not path.is_dir())
    if not images:
        supported = sorted(IMAGE_SUFFIXES | (more_suffixes & HEIF_SUFFIXES))
        raise VHeatIRError(
            f"image folder {str(root)!r} contains no images: supported files end in "
            f"{', '.join(supported)}"
        )
    return images


def is_image_name(path: PurePath, more_suffixes: frozenset[str] = frozenset()) -> bool:
    """Whether a path is called like an image file; see :func:`list_images`."""
    # macOS writes a file ._NAME beside each NAME on other file systems.
    known = path.suffix.lower() in IMAGE_SUFFIXES | more_suffixes
    return known and not path.name.startswith("._")


def decode_image(
    data: bytes, name: str = "image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.generic]:
    """Decode an image with its original channels and bit depth; of several pages, the first.

    Args:
        data: contents of the image file.
        name: name of the image in error messages.
        max_pixels: larger images are rejected by their header, before decoding.

    Returns:
        Array of shape (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``, RGB(A) order.

    Raises:
        VHeatIRError: not an image of a supported format, damaged, truncated or too large, or its
            pixels have neither 8 nor 16 bits.
    """
    truncated, tags = True, dict[int, Any]()
    try:
        with open_header(data, name, max_pixels) as header:
            tags = dict(getattr(header, "tag_v2", {}))
            truncated = _is_truncated(data, header.format)
    except VHeatIRError:
        raise
    except Exception:  # a damaged header can raise anything
        pass
    image = None if truncated else decode_with_opencv(data)
    if image is None:
        raise VHeatIRError(
            f"{name} cannot be read as an image: the file is damaged or of another format; "
            "supported are PNG, JPEG, BMP, TIFF, WebP and PNM"
        )
    if image.dtype not in (np.uint8, np.uint16):
        raise VHeatIRError(f"{name} has {image.dtype} pixels: convert it to 8 or 16 bits")
    if image.dtype == np.uint16 and image.ndim == 3 and tags.get(_PLANES) == _SEPARATE:
        # OpenCV reads one plane, and returns uninitialised memory for the others.
        raise VHeatIRError(
            f"{name} is a 16-bit TIFF with separate colour planes, which is not supported: save it "
            "with interleaved channels, or as PNG"
        )
    return _to_full_range(image, data, tags)


def _to_full_range(
    image: NDArray[np.generic], data: bytes, tags: dict[int, Any]
) -> NDArray[np.generic]:
    """Apply what OpenCV ignores: the maximum value of PNM, inverted and premultiplied TIFF."""
    white = 255 if image.dtype == np.uint8 else 65_535
    largest = largest_of_pnm(data)
    if largest not in (None, 0, white):
        scaled = (image.astype(np.uint64) * white + largest // 2) // largest
        return scaled.clip(0, white).astype(image.dtype)
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO and image.dtype == np.uint16:
        return white - image
    if tags.get(_EXTRA_SAMPLES) == _PREMULTIPLIED and image.shape[2:] == (4,):
        colors, alpha = image[..., :3].astype(np.uint64), image[..., 3:].astype(np.uint64)
        colors = (colors * white + alpha // 2) // np.maximum(alpha, 1)
        return np.concatenate([colors.clip(0, white).astype(image.dtype), image[..., 3:]], axis=2)
    return image


def largest_of_pnm(data: bytes) -> int | None:
    """Return the value that means white in a PGM or PPM file; None for other data."""
    header = _PNM_HEADER.match(data)
    return int(header[3]) if header is not None else None


def decode_with_opencv(data: bytes) -> NDArray[np.generic] | None:
    """Decode image data with a validated header, silently; None if OpenCV cannot decode it."""
    cv2 = _import_opencv()
    # The log level functions are in cv2.utils.logging in OpenCV 5, and in cv2 itself in OpenCV 4.
    logging = getattr(cv2.utils, "logging", cv2)
    level = logging.getLogLevel()
    logging.setLogLevel(_CV2_SILENT)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None
    finally:
        logging.setLogLevel(level)
    return None if image is None else _swap_red_and_blue(image)


def _is_truncated(data: bytes, fmt: str | None) -> bool:
    """Whether a JPEG or PNG file is truncated in a way that OpenCV does not handle.

    OpenCV pads a truncated JPEG with gray (before release 5), and allocates the stated length of a
    PNG chunk, up to 4 GB, before it notices that the file is shorter.
    """
    if fmt in ("JPEG", "MPO"):
        return not _has_jpeg_end(data)
    if fmt != "PNG":
        return False
    kind, _, end = [(b"", 0, 0), *png_chunks(data)][-1]
    return kind != b"IEND" or end > len(data)


def _has_jpeg_end(data: bytes) -> bool:
    """Whether a JPEG's own end marker is there; other data, such as a video, may follow it."""
    at = 2
    while (found := _JPEG_MARKER.search(data, at)) is not None:
        if found[1] == _JPEG_END:
            return True
        at = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    return False


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield type, start and end of each chunk of a PNG file; the last one may be truncated."""
    kind, end = b"", _PNG_SIGNATURE
    while kind != b"IEND" and end + _PNG_CHUNK_OVERHEAD <= len(data):
        start, kind = end, data[end + 4 : end + 8]
        end += int.from_bytes(data[start : start + 4], "big") + _PNG_CHUNK_OVERHEAD
        yield kind, start, end


@contextlib.contextmanager
def open_header(
    data: bytes, name: str, max_pixels: int, formats: tuple[str, ...] = FORMATS
) -> Iterator[Image.Image]:
    """Open an image with Pillow, which reads only the header.

    Args:
        data: contents of the image file.
        name: name of the image in error messages.
        max_pixels: larger images are rejected.
        formats: accepted formats, by their Pillow names.

    Raises:
        VHeatIRError: the image is too large.
        PIL.UnidentifiedImageError: not an image of an accepted format.
        Exception: of any other type, if the file is damaged; also raised from the with block.
    """
    try:
        with warnings.catch_warnings():
            # Pillow warns about large images, checked below, and invalid EXIF, which is dropped.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=formats) as image:
                check_size(name, *image.size, max_pixels)
                yield image
    except Image.DecompressionBombError:
        raise VHeatIRError(f"{name} is too large: {megapixels(max_pixels)} at most") from None


def check_size(name: str, width: int, height: int, max_pixels: int) -> None:
    """Raise VHeatIRError for an image of more than ``max_pixels``."""
    if width * height > max_pixels:
        raise VHeatIRError(
            f"{name} has {width} x {height} pixels ({megapixels(width * height)}): "
            f"{megapixels(max_pixels)} at most, make it smaller"
        )


def megapixels(pixels: int) -> str:
    """Format a number of pixels in megapixels, for messages."""
    return f"{pixels / 1e6:.3g} megapixels"


def read_image(path: StrPath) -> NDArray[np.generic]:
    """Read an image file with its original channels and bit depth.

    Returns:
        Array of shape (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``, RGB(A) order.

    Raises:
        VHeatIRError: the file is missing or not a readable image, see :func:`decode_image`.
    """
    name = repr(str(path))
    return decode_image(read_file(path, name), name)


def read_file(path: StrPath, name: str) -> bytes:
    """Return the contents of a file.

    Args:
        path: the file.
        name: name of the file in the error message.

    Raises:
        VHeatIRError: the file cannot be opened.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise VHeatIRError(f"{name} cannot be opened: {error.strerror}") from None


def encode_image(image: NDArray[np.generic], suffix: str = ".png") -> bytes:
    """Encode an array as an image file.

    Args:
        image: (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``, RGB(A) order.
        suffix: file format, as ``".png"``, ``".jpg"`` and so on.

    Raises:
        VHeatIRError: the image cannot be written in this format.
    """
    done, data = _import_opencv().imencode(suffix, _swap_red_and_blue(image))
    if not done:
        raise VHeatIRError(f"the image cannot be written as {suffix!r}: use .png")
    return data.tobytes()


def write_image(path: StrPath, image: NDArray[np.generic]) -> None:
    """Write an image file atomically: a failure leaves no partial file.

    Args:
        path: output file; its suffix selects the format.
        image: see :func:`encode_image`.
    """
    target = Path(path)
    write_bytes_atomically(target, encode_image(image, target.suffix.lower()))


def write_output(path: StrPath, data: bytes) -> None:
    """Write a file that the user named, see :func:`write_bytes_atomically`.

    Raises:
        VHeatIRError: it cannot be written.
    """
    try:
        write_bytes_atomically(path, data)
    except OSError as error:
        raise VHeatIRError(
            f"{path} cannot be written: {error.strerror}: choose another folder"
        ) from None


def write_bytes_atomically(path: StrPath, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically: the file is either the old or the complete new one.

    File and directory entry are flushed to disk before returning, to survive a power failure.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # The longest file names have 255 bytes. Not mkstemp, whose files have another mode: reading the
    # umask to correct it would change the umask of other threads.
    start = target.name
    while len(os.fsencode(start)) > _TEMPORARY_START:  # whole characters
        start = start[:-1]
    temporary = target.with_name(f".{start}.{secrets.token_hex(_TEMPORARY_BYTES)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    handle = os.open(temporary, flags, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise
    _sync_folder(target.parent)


def remove_unfinished(folder: Path, name: str = "*") -> None:
    """Delete temporary files of ``name`` left by a killed :func:`write_bytes_atomically`."""
    for path in folder.glob(f".{name}." + "[0-9a-f]" * 2 * _TEMPORARY_BYTES):
        if path.is_file():
            path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Flush the directory entries of a folder to disk, where the platform supports it."""
    with contextlib.suppress(OSError):  # Windows cannot open folders
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _swap_red_and_blue(image: NDArray[Any]) -> NDArray[Any]:
    """Convert between OpenCV's B, G, R(, A) order and R, G, B(, A)."""
    cv2 = _import_opencv()
    codes = {(3,): cv2.COLOR_BGR2RGB, (4,): cv2.COLOR_BGRA2RGBA}
    channels = image.shape[2:]
    if channels in codes:
        return cv2.cvtColor(image, codes[channels])
    return image[:, :, 0] if channels == (1,) else image


def _import_opencv() -> Any:
    """Import OpenCV where a file needs it, so that arrays can be restored without it."""
    try:
        import cv2
    except ImportError as error:
        raise VHeatIRError(
            f"this image file needs OpenCV, which cannot be imported ({first_line(error)}): "
            "run 'pip install opencv-python'"
        ) from None
    return cv2
