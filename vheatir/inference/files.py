"""Read and write photographs: upright pixels, with metadata preserved.

OpenCV keeps 16 bits but drops metadata; Pillow does the reverse. Here Pillow opens every file and
decodes 8 bits, OpenCV decodes 16, and pillow-heif reads HEIF. ICC profile, EXIF, XMP and
resolution are kept with the pixels, which stay in the RGB colour space of the file.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError, features

from vheatir.colors import to_8_bits
from vheatir.errors import UnsupportedImageError, VHeatIRError, first_line
from vheatir.image_io import (
    HEIF_SUFFIXES,
    MAX_PIXELS,
    StrPath,
    decode_image,
    decode_with_opencv,
    encode_image,
    largest_of_pnm,
    open_header,
    png_chunks,
    read_file,
)
from vheatir.inference.estimate import jpeg_quality
from vheatir.inference.exif import (
    ORIENTATION,
    add_directories,
    exif_for_tiff,
    exif_of_tiff,
    texts,
    upright_exif,
)
from vheatir.inference.heif import (
    HeifHeader,
    check_header,
    decode_heif,
    is_heif,
    read_header,
    to_16_bits,
)
from vheatir.inference.profiles import HDR, icc_transfer, make_icc
from vheatir.inference.raw import RAW_SUFFIXES, is_raw

#: Output formats by file suffix.
FORMAT_OF_SUFFIX = {
    ".png": "png",
    ".jpg": "jpg",
    ".jpeg": "jpg",
    ".jpe": "jpg",
    ".jfif": "jpg",
    ".webp": "webp",
    ".tif": "tiff",
    ".tiff": "tiff",
}

_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16", "I;16B", "I;16L"})
_JPEG_START, _PNG_START = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"
_JPEG_QUALITY = 95
_JPEG_LARGEST = {"exif": 65_533, "xmp": 65_504}  # bytes that fit into a segment of a JPEG file
_PNG_LARGEST_ICC = 2**20  # bytes of a profile that Pillow reads
_RESOLUTION = 282  # tag of a TIFF
_PNG_KEPT = frozenset({b"gAMA", b"cHRM", b"sRGB", b"cICP", b"tEXt", b"zTXt", b"iTXt"})
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_XMP_TAG = 700
_AFTER_IHDR = 33
_ICC_COLOR_SPACE = slice(16, 20)  # in the header of a profile
_WEBP_FIRST_CHUNK = 12  # after RIFF, the size and WEBP


@dataclass(frozen=True)
class Metadata:
    """Metadata of an image file.

    Attributes:
        icc: colour profile.
        exif: EXIF block of an upright image, with Pillow's prefix; empty for none.
        xmp: XMP packet without the orientation.
        dpi: horizontal and vertical resolution.
        png_chunks: complete colour and text chunks of a PNG file.
    """

    icc: bytes | None = None
    exif: bytes = b""
    xmp: bytes | None = None
    dpi: tuple[float, float] | None = None
    png_chunks: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Photograph:
    """A photograph read from a file.

    Attributes:
        pixels: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4): gray, gray and alpha, RGB, RGBA;
            ``uint8`` or ``uint16``; upright.
        format: format of the file, such as ``"JPEG"``.
        quality: JPEG quality, 1 to 100; None for other formats.
        codec: ``"WebP"`` or ``"AVIF"`` if this compressed the pixels with loss; else None. AVIF
            always counts as lossy.
        metadata: everything else.
        upright: whether the file stores its pixels upright too.
    """

    pixels: NDArray[Any]
    format: str
    quality: int | None = None
    metadata: Metadata = Metadata()
    upright: bool = True
    codec: str | None = None


def read_photograph(data: bytes, name: str, max_pixels: int) -> Photograph:
    """Decode an image file upright, with its channels, bit depth and metadata.

    Args:
        data: the file's bytes.
        name: name of the file in error messages.
        max_pixels: reject larger images from their header, before decoding them.

    Raises:
        UnsupportedImageError: a raw file, HDR, or HEIF without the package that reads it.
        VHeatIRError: not an image, damaged or truncated, too large, animated, of several pages,
            or of an unsupported colour mode.
    """
    try:
        if not data.startswith((_JPEG_START, _PNG_START)):
            if is_raw(data):
                raise _raw_error(name)
            if is_heif(data):
                return _read_heif(data, name, max_pixels)
        with open_header(data, name, max_pixels) as image:
            return _decode(data, name, image, max_pixels)
    except (VHeatIRError, MemoryError):
        raise
    except UnidentifiedImageError:
        raise VHeatIRError(
            f"{name} is not an image that can be read: "
            "use PNG, JPEG, BMP, TIFF, WebP, PNM, HEIC or AVIF"
        ) from None
    except Exception as error:  # decoders raise arbitrary exceptions on damaged files
        reason = first_line(error) if str(error) else "truncated"
        raise VHeatIRError(f"{name} is damaged: {reason}") from None


def read_photograph_file(
    path: StrPath, max_pixels: int = MAX_PIXELS, name: str | None = None
) -> Photograph:
    """Read an image file; see :func:`read_photograph`.

    Args:
        path: the file.
        max_pixels: reject larger images from their header.
        name: name of the file in error messages; the quoted path by default.

    Raises:
        VHeatIRError: the file cannot be opened, or is not an image that can be restored.
    """
    shown = repr(str(path)) if name is None else name
    if Path(path).suffix.lower() in RAW_SUFFIXES:
        raise _raw_error(shown)
    return read_photograph(read_file(path, shown), shown, max_pixels)


def default_suffix(path: StrPath) -> str:
    """Return the default suffix of the output file.

    The suffix of the input if that format can be written; ``".jpg"`` for HEIF and AVIF of 8 bits
    without transparency; else ``".png"``. Reads the header of a file with a HEIF suffix.

    Args:
        path: the input file.
    """
    suffix = Path(path).suffix
    if suffix.lower() in FORMAT_OF_SUFFIX:
        return suffix
    if suffix.lower() not in HEIF_SUFFIXES:
        return ".png"
    try:
        with Path(path).open("rb") as file:
            if file.read(3) == _JPEG_START:  # a JPEG with a HEIF suffix
                return ".jpg"
            header = read_header(file)
    except (OSError, ValueError):  # raised when it is read
        return ".png"
    return ".jpg" if header.depth == 8 and not header.alpha else ".png"


def default_format(photo: Photograph) -> str:
    """Return the default output format where no suffix specifies one."""
    if photo.format in ("HEIF", "AVIF"):
        opaque = photo.pixels.ndim == 2 or photo.pixels.shape[2] == 3
        return "jpg" if opaque and photo.pixels.dtype == np.uint8 else "png"
    known = {"JPEG": "jpg", "MPO": "jpg", "WEBP": "webp", "TIFF": "tiff"}
    return known.get(photo.format, "png")


def encode_photograph(pixels: NDArray[Any], fmt: str, metadata: Metadata) -> bytes:
    """Encode a photograph with its metadata.

    PNG, TIFF and WebP are lossless; JPEG has quality 95 without chroma subsampling. JPEG and WebP
    are limited to 8 bits: 16-bit pixels are rounded.

    Args:
        pixels: as in :class:`Photograph`.
        fmt: ``"png"``, ``"jpg"``, ``"webp"`` or ``"tiff"``.
        metadata: written as far as the format supports it.

    Raises:
        VHeatIRError: transparency in JPEG, or an image too large for the format.
    """
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    is_rgb = channels > 2 or fmt == "webp" or (channels == 2 and pixels.dtype == np.uint16)
    if is_rgb and metadata.icc and metadata.icc[_ICC_COLOR_SPACE] == b"GRAY":
        metadata = replace(metadata, icc=None)
    if fmt == "jpg" and channels in (2, 4):
        raise VHeatIRError("JPEG does not support transparency: write PNG, WebP or TIFF")
    if fmt in ("jpg", "webp"):
        pixels = to_8_bits(pixels)
    try:
        if fmt == "png":
            return _encode_png(pixels, metadata)
        if fmt == "tiff" and pixels.dtype == np.uint16 and channels > 1:
            return _encode_deep_tiff(pixels, metadata)
        if fmt == "tiff":
            return _encode_with_pillow(pixels, "TIFF", metadata, **_tiff_options(metadata))
        kept = {"exif": metadata.exif, "xmp": metadata.xmp}
        if fmt == "webp":
            return _encode_with_pillow(pixels, "WEBP", metadata, lossless=True, exact=True, **kept)
        kept = {
            key: value for key, value in kept.items() if len(value or b"") <= _JPEG_LARGEST[key]
        }
        return _encode_with_pillow(
            pixels, "JPEG", metadata, quality=_JPEG_QUALITY, subsampling=0, **kept
        )
    except (OSError, ValueError, RuntimeError, SystemError, struct.error) as error:
        raise VHeatIRError(f"cannot be written as {fmt} ({error}): write PNG") from None


def apply_orientation(image: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and flip an image by its EXIF orientation (1 to 8); other values have no effect."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return np.ascontiguousarray(image)


def _raw_error(name: str) -> UnsupportedImageError:
    return UnsupportedImageError(
        f"{name} is a raw file, which is not supported: develop it to TIFF, PNG or JPEG first"
    )


def _refuse_hdr(name: str, transfer: int | None) -> None:
    if transfer in HDR:
        raise UnsupportedImageError(
            f"{name} is HDR ({HDR[transfer]}), which is not supported: convert it to SDR first"
        )


def _read_heif(data: bytes, name: str, max_pixels: int) -> Photograph:
    """Read HEIF or AVIF; the pixels are decoded only if the header passes all checks."""
    header = read_header(io.BytesIO(data))
    check_header(name, header, max_pixels)
    _refuse_hdr(name, header.cicp[1] if header.cicp else None)
    if header.codec == "av01":
        return _read_avif(data, name, header, max_pixels)
    pixels, info = decode_heif(data, name)
    nclx = info.get("nclx_profile")
    cicp = (nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None
    # The EXIF orientation refers to the sensor: irot and imir of the file are already applied.
    metadata = Metadata(
        _profile(name, info.get("icc_profile"), header.cicp or cicp, pixels),
        upright_exif(info.get("exif") or b"", *pixels.shape[:2]),
        _kept_xmp(info.get("xmp")),
    )
    return Photograph(pixels, "HEIF", metadata=metadata)


def _read_avif(data: bytes, name: str, header: HeifHeader, max_pixels: int) -> Photograph:
    if not features.check("avif"):
        raise UnsupportedImageError(
            f"{name} is AVIF, which this Pillow cannot read: pip install --upgrade pillow"
        )
    with open_header(data, name, max_pixels, ("AVIF",)) as image:
        photo = _decode(data, name, image, max_pixels, header.depth)
    icc = _profile(name, photo.metadata.icc, header.cicp, photo.pixels)
    return replace(photo, metadata=replace(photo.metadata, icc=icc), codec="AVIF")


def _decode_deep_avif(
    data: bytes, name: str, size: tuple[int, int], depth: int
) -> NDArray[np.uint16]:
    deep = decode_with_opencv(data)
    if deep is None or deep.dtype != np.uint16 or deep.shape[1::-1] != size:
        raise UnsupportedImageError(
            f"{name} is AVIF of {depth} bits, which this OpenCV cannot read: "
            "pip install --upgrade opencv-python"
        )
    return to_16_bits(deep, depth)


def _profile(
    name: str, icc: bytes | None, cicp: tuple[int, int] | None, pixels: NDArray[Any]
) -> bytes | None:
    """Return the ICC profile to write: that of the file, or one made from its code points."""
    _refuse_hdr(name, cicp[1] if cicp else None)
    if icc:
        _refuse_hdr(name, icc_transfer(icc))
        return icc
    coloured = pixels.ndim == 3 and pixels.shape[2] >= 3
    return make_icc(*cicp) if cicp and coloured else None


def _check_kind(name: str, image: Image.Image) -> None:
    # An MPO is a JPEG followed by a preview or a second view: its first image is the photo.
    if image.format != "MPO" and getattr(image, "n_frames", 1) > 1:
        raise VHeatIRError(f"{name} contains several images or pages: use one file per image")
    if image.mode not in _MODES:
        raise VHeatIRError(
            f"{name} has the colour mode {image.mode}: convert it to RGB or gray of 8 or 16 bits"
        )


def _decode(
    data: bytes, name: str, image: Image.Image, max_pixels: int, depth: int = 8
) -> Photograph:
    """Decode a file with Pillow, or with OpenCV if it has 16 bits, or AVIF with a larger depth."""
    _check_kind(name, image)
    icc = image.info.get("icc_profile")
    _refuse_hdr(name, icc_transfer(icc) if icc else None)
    code_points = None
    if image.format == "PNG":
        code_points = _png_code_points(data)
        _refuse_hdr(name, code_points[1] if code_points else None)
    # Pillow and OpenCV apply the orientation of a TIFF, and Pillow then forgets it. In AVIF, Pillow
    # maps irot and imir to this tag, replacing the orientation in EXIF.
    found = _read_exif(image).get(ORIENTATION)
    orientation = found if isinstance(found, int) else 1
    deep = _is_deep(data, image)
    mode = image.mode
    # Pillow detects truncated files; OpenCV would fill in the missing part.
    image.load()
    if depth > 8:
        pixels: NDArray[Any] = _decode_deep_avif(data, name, image.size, depth)
    elif deep:
        pixels = decode_image(data, name, max_pixels)
        if mode in ("LA", "PA") and pixels.ndim == 3 and pixels.shape[2] == 4:
            pixels = np.ascontiguousarray(pixels[:, :, [0, 3]])
        transparent = image.info.get("transparency")
        if pixels.ndim == 2 and isinstance(transparent, int):
            alpha = np.where(pixels == transparent, 0, np.iinfo(pixels.dtype).max)
            pixels = np.stack([pixels, alpha.astype(pixels.dtype)], axis=2)
    elif mode in ("1", "P", "PA") or (mode in ("L", "RGB") and image.has_transparency_data):
        target = "L" if mode == "1" else "RGB"
        if image.has_transparency_data:
            target = "LA" if mode == "L" else "RGBA"
        pixels = np.array(image.convert(target))
    else:
        pixels = np.array(image)
    if pixels.dtype not in (np.uint8, np.uint16):
        raise VHeatIRError(f"{name} has {pixels.dtype} pixels: convert it to 8 or 16 bits")
    if image.format != "TIFF":
        pixels = apply_orientation(pixels, orientation)
    tables = getattr(image, "quantization", None)
    metadata = _read_metadata(data, image, pixels.shape)
    if orientation in (5, 6, 7, 8) and metadata.dpi:
        metadata = replace(metadata, dpi=metadata.dpi[::-1])
    if code_points:
        metadata = replace(metadata, icc=_profile(name, metadata.icc, code_points, pixels))
    quality = jpeg_quality(tables) if tables else None
    upright = orientation not in range(2, 9)  # other values have no effect
    codec = "WebP" if image.format == "WEBP" and _is_lossy_webp(data) else None
    return Photograph(pixels, str(image.format), quality, metadata, upright, codec)


def _is_lossy_webp(data: bytes) -> bool:
    """Whether the pixels of a WebP file are in a lossy chunk (VP8) or a lossless one (VP8L)."""
    at = _WEBP_FIRST_CHUNK
    while (kind := data[at : at + 4]) not in (b"", b"VP8 ", b"VP8L"):
        size = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + size + size % 2  # chunks start at even positions
    return kind == b"VP8 "


def _is_deep(data: bytes, image: Image.Image) -> bool:
    if image.format == "PNG":
        return data[24] == 16  # IHDR: the bit depth
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (1,))  # type: ignore[attr-defined]
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8
    # PNM with another white than 255: decode_image scales it; Pillow would round differently.
    return image.format == "PPM" and image.mode != "1" and largest_of_pnm(data) != 255


def _read_exif(image: Image.Image) -> Image.Exif:
    try:
        return image.getexif()
    except Exception:  # a damaged EXIF block must not prevent reading the image
        return Image.Exif()


def _read_metadata(data: bytes, image: Image.Image, shape: Sequence[int]) -> Metadata:
    info = image.info
    xmp = info.get("xmp") or info.get(_XMP_KEYWORD.decode())
    if isinstance(xmp, str):
        xmp = xmp.encode()
    dpi = info.get("dpi")
    if image.format == "TIFF" and _RESOLUTION not in image.tag_v2:  # type: ignore[attr-defined]
        dpi = None  # Pillow's default is 1
    resolution = None
    if dpi and all(float(value) > 0 for value in dpi):
        resolution = (float(dpi[0]), float(dpi[1]))
    chunks = tuple(_kept_chunks(data)) if image.format == "PNG" else ()
    return Metadata(
        info.get("icc_profile"), _exif_block(image, shape), _kept_xmp(xmp), resolution, chunks
    )


def _kept_xmp(xmp: bytes | None) -> bytes | None:
    """Remove the orientation from an XMP packet, the fallback of readers if EXIF has none.

    A packet that describes a gain map (Ultra HDR) is dropped, since the map is not kept.
    """
    if not xmp or b"hdrgm:" in xmp:
        return None
    # One blank at most: a longer match would take quadratic time on padding.
    xmp = re.sub(rb'\s?tiff:Orientation\s*=\s*(["\'])\d+\1', b"", xmp)
    return re.sub(rb"<tiff:Orientation>\s*\d+\s*</tiff:Orientation>", b"", xmp)


def _exif_block(image: Image.Image, shape: Sequence[int]) -> bytes:
    """Return the EXIF block of an opened file, made upright; empty if it is damaged."""
    try:
        if image.format == "TIFF":
            return exif_of_tiff(image.getexif())
        block = image.info.get("exif")
        if not block and (profile := image.info.get("Raw profile type exif")):
            block = bytes.fromhex("".join(profile.split("\n")[3:]))  # a PNG of ImageMagick
        return upright_exif(block, shape[0], shape[1]) if block else b""
    except Exception:  # as in _read_exif
        return b""


def _kept_chunks(data: bytes) -> Iterator[bytes]:
    """Yield the chunks of a PNG file to copy; EXIF, ICC and XMP are written separately."""
    for kind, start, end in png_chunks(data):
        is_rewritten = data.startswith((_XMP_KEYWORD + b"\0", b"Raw profile type "), start + 8)
        if kind in _PNG_KEPT and not is_rewritten:
            yield data[start:end]


def _png_code_points(data: bytes) -> tuple[int, int] | None:
    """Return colour primaries and transfer characteristics of a PNG file's cICP chunk."""
    chunks = (c for c in _kept_chunks(data) if c[4:8] == b"cICP" and len(c) > 12)
    return next(((c[8], c[9]) for c in chunks), None)


def _chunk(kind: bytes, body: bytes) -> bytes:
    checksum = zlib.crc32(kind + body)
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", checksum)


def _encode_with_pillow(
    pixels: NDArray[Any], kind: str, metadata: Metadata, **options: Any
) -> bytes:
    options |= {"icc_profile": metadata.icc, "dpi": metadata.dpi}
    out = io.BytesIO()
    given = {name: value for name, value in options.items() if value not in (None, b"")}
    Image.fromarray(pixels).save(out, kind, **given)
    return out.getvalue()


def _encode_png(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    if pixels.dtype == np.uint16:
        if pixels.ndim == 3 and pixels.shape[2] == 2:
            # OpenCV cannot write gray with alpha.
            pixels = pixels[:, :, [0, 0, 0, 1]]
        data = encode_image(pixels, ".png")
    else:
        data = _encode_with_pillow(pixels, "PNG", Metadata())
    return add_png_metadata(data, metadata)


def add_png_metadata(data: bytes, metadata: Metadata) -> bytes:
    """Return a PNG file with metadata inserted."""
    chunks = [*metadata.png_chunks]
    if metadata.icc and len(metadata.icc) <= _PNG_LARGEST_ICC:
        chunks.insert(0, _chunk(b"iCCP", b"ICC profile\0\0" + zlib.compress(metadata.icc)))
    if metadata.dpi:
        across, down = (round(value / 0.0254) for value in metadata.dpi)
        chunks.append(_chunk(b"pHYs", struct.pack(">IIB", across, down, 1)))
    if metadata.exif:
        chunks.append(_chunk(b"eXIf", metadata.exif.removeprefix(b"Exif\0\0")))
    if metadata.xmp:
        chunks.append(_chunk(b"iTXt", _XMP_KEYWORD + b"\0\0\0\0\0" + metadata.xmp))
    return data[:_AFTER_IHDR] + b"".join(chunks) + data[_AFTER_IHDR:]


def _tiff_options(metadata: Metadata) -> dict[str, Any]:
    # Pillow cannot compress a TIFF with nested EXIF directories.
    exif = exif_for_tiff(metadata.exif)
    nested = bool({ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo} & set(exif))
    if metadata.xmp:
        exif[_XMP_TAG] = metadata.xmp
    return {"exif": exif, "compression": "raw" if nested else "tiff_deflate"}


def _encode_deep_tiff(pixels: NDArray[Any], metadata: Metadata) -> bytes:
    """Encode 16-bit colours, which Pillow cannot."""
    import tifffile

    if pixels.shape[2] == 2:  # neither Pillow nor OpenCV reads gray with alpha of 16 bits
        pixels = pixels[:, :, [0, 0, 0, 1]]
    exif = exif_for_tiff(metadata.exif)
    tags: list[tuple[int, str, int, Any, bool]] = [
        (tag, "s", 0, text, True) for tag, text in texts(exif).items()
    ]
    if metadata.xmp:
        tags.append((_XMP_TAG, "B", len(metadata.xmp), metadata.xmp, True))
    out = io.BytesIO()
    tifffile.imwrite(
        out,
        pixels,
        photometric="rgb",
        planarconfig="contig",
        extrasamples=["unassalpha"] if pixels.shape[2] == 4 else None,
        compression="zlib",
        predictor=False,
        iccprofile=metadata.icc,
        resolution=metadata.dpi,
        resolutionunit="inch" if metadata.dpi else None,
        software=False,
        metadata=None,
        extratags=tags,
    )
    return add_directories(out.getvalue(), exif)
