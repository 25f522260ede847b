"""HEIF and AVIF: header parsing before decoding, and decoding of HEIF.

Boxes follow ISO/IEC 14496-12 and 23008-12.
"""

from __future__ import annotations

import io
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import UnsupportedImageError, VHeatIRError
from vheatir.image_io import check_size, megapixels
from vheatir.inference.heif_streams import av1_sequence, read_uint

_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1 avif avis".split())
_SEQUENCE_BRANDS = frozenset(b"hevc hevx hevm hevs msf1".split())
_DERIVED = frozenset({"grid", "iovl", "iden"})
_AV1 = "av01"
_CODECS = frozenset({_AV1, "hvc1", "hev1"})
_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
_MAX_META_BYTES = 1 << 26
_MAX_ITEMS = 65_536
# Blocks and tiles are coded completely, so more pixels may be coded than the image has.
_SLACK_FACTOR, _SLACK_PIXELS = 3, 1 << 22
_SEQUENCE_HEADER_BYTES = 1 << 16  # bytes of an AV1 item that contain its sequence header
# Many items can share one property: of a long one, only the beginning is looked at.
_PROPERTY_BYTES = 256


@dataclass(frozen=True)
class HeifHeader:
    """Properties of the primary image of a HEIF or AVIF file, from its boxes.

    Attributes:
        codec: item type of the coded pixels, such as ``"hvc1"`` or ``"av01"``.
        width: in pixels, before the rotation given in the file.
        height: likewise.
        coded_pixels: number of pixels to decode, including tiles and transparency.
        depth: bits per channel.
        alpha: whether there is transparency.
        cicp: colour primaries and transfer characteristics as code points; None if absent.
        sequence: whether the file is a sequence of images.
    """

    codec: str
    width: int
    height: int
    coded_pixels: int
    depth: int
    alpha: bool
    cicp: tuple[int, int] | None
    sequence: bool


def is_heif(data: bytes) -> bool:
    """Whether a file is HEIF or AVIF, judged by its brands.

    Args:
        data: the file's bytes, or their beginning.
    """
    return bool(_BRANDS & set(_brands(data)))


def read_header(file: BinaryIO) -> HeifHeader:
    """Read the boxes of a HEIF or AVIF file without decoding it.

    Args:
        file: open for reading; only its boxes and the headers of AV1 streams are read.

    Raises:
        ValueError: the boxes are damaged or not those of an image, or the file is truncated.
    """
    try:
        return _read_header(file)
    except (struct.error, IndexError, KeyError):
        raise ValueError("the boxes of the file are damaged or truncated") from None


def check_header(name: str, header: HeifHeader, max_pixels: int) -> None:
    """Reject files that must not be decoded.

    Raises:
        VHeatIRError: too large, or a sequence.
        UnsupportedImageError: an unsupported codec.
    """
    check_size(name, header.width, header.height, max_pixels)
    if header.coded_pixels > _SLACK_FACTOR * max_pixels + _SLACK_PIXELS:
        raise VHeatIRError(
            f"{name} needs {megapixels(header.coded_pixels)} to be decoded: "
            f"{megapixels(max_pixels)} at most, reduce its size"
        )
    if header.sequence:
        raise VHeatIRError(f"{name} is a sequence of images: use one file per image")
    if header.codec not in _CODECS:
        raise UnsupportedImageError(
            f"{name} is HEIF with the codec {header.codec!r}, which is not supported: "
            "convert it to PNG or JPEG"
        )


def decode_heif(data: bytes, name: str) -> tuple[NDArray[Any], dict[str, Any]]:
    """Decode the primary image of a HEIF file with pillow-heif, which applies irot and imir.

    Args:
        data: the file's bytes, with the header already checked.
        name: name of the file in error messages.

    Returns:
        The upright pixels, (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``, and
        pillow-heif's metadata: ``icc_profile``, ``exif``, ``xmp`` and ``nclx_profile``, if any.

    Raises:
        UnsupportedImageError: pillow-heif is not installed.
        Exception: any exception of the decoder on a damaged file.
    """
    try:
        import pillow_heif
    except ImportError:
        raise UnsupportedImageError(
            f"{name} is HEIC/HEIF, which needs another package: pip install pillow-heif"
        ) from None
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = file[file.primary_index]
    pixels = np.asarray(image)
    if image.premultiplied_alpha:
        raise UnsupportedImageError(f"{name} has premultiplied alpha: convert it to PNG")
    if pixels.dtype != np.uint8:
        pixels = to_16_bits(pixels, int(image.mode.rpartition(";")[2].rstrip("L")))
    return pixels, image.info


def to_16_bits(pixels: NDArray[Any], depth: int) -> NDArray[np.uint16]:
    """Rescale values of ``depth`` bits, such as 10 or 12, to 16 bits, rounded to nearest."""
    high = (1 << depth) - 1
    return ((pixels.astype(np.uint32) * 65535 + high // 2) // high).astype(np.uint16)


def _brands(data: bytes) -> list[bytes]:
    if data[4:8] != b"ftyp" or len(data) < 16:
        return []
    end = min(int.from_bytes(data[:4], "big"), len(data), 512)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]


def _read_header(file: BinaryIO) -> HeifHeader:
    size = file.seek(0, os.SEEK_END)
    for kind, start, end in _boxes(file, 0, size):
        if kind == b"meta" and end - start <= _MAX_META_BYTES:
            break
    else:
        raise ValueError("the file contains no image")
    brands = _brands(_read(file, 0, 512))
    if not _BRANDS & set(brands):
        raise ValueError("the file contains no image")
    meta = io.BytesIO(_read(file, start, end - start))
    boxes = {kind: span for kind, *span in _boxes(meta, 4, end - start)}
    items = _items(meta, boxes)
    _set_properties(meta, boxes[b"iprp"], items)
    idat = start + boxes[b"idat"][0] if b"idat" in boxes else 0
    _set_extents(meta, boxes[b"iloc"], items, idat, size)
    version, _ = _full_box(meta, boxes[b"pitm"][0])
    primary = read_uint(meta, 4 if version else 2)
    image = items[primary]
    if b"ispe" not in image.properties:
        raise ValueError("the file does not give the size of its image")
    width, height = image.size
    shown = _coded_items([primary], items)
    alphas = [key for key, each in items.items() if each.is_alpha_of(primary)]
    hidden = _coded_items(alphas, items)
    found = {key: _read_stream(file, items[key]) for key in {primary, *shown, *hidden}}
    nclx = (items[key].nclx or found[key][1] for key in (primary, *shown))
    return HeifHeader(
        codec=items[shown[-1]].kind,
        width=width,
        height=height,
        coded_pixels=sum(max(found[k][0], math.prod(items[k].size)) for k in (*shown, *hidden)),
        depth=max(items[key].depth for key in shown),
        alpha=bool(alphas),
        cicp=next((code for code in nclx if code), None),
        sequence=brands[0] in _SEQUENCE_BRANDS,
    )


@dataclass
class _Item:
    """An item of the file.

    Attributes:
        kind: the item type.
        properties: contents of the first property of each kind; ``colr`` by its colour type too.
        references: the items that it refers to, by kind of the reference.
        extents: offset and length of its data in the file.
    """

    kind: str
    properties: dict[bytes, bytes] = field(default_factory=dict)
    references: dict[bytes, list[int]] = field(default_factory=dict)
    extents: list[tuple[int, int]] = field(default_factory=list)

    def is_alpha_of(self, key: int) -> bool:
        """Whether this item is the alpha channel of another."""
        kind = self.properties.get(b"auxC", b"")[4:_PROPERTY_BYTES].split(b"\0")[0]
        return kind in _ALPHA and key in self.references.get(b"auxl", ())

    @property
    def size(self) -> tuple[int, int]:
        """Return width and height by the size property; 0 if absent."""
        width, height = struct.unpack_from(">II", self.properties.get(b"ispe", bytes(12)), 4)
        return width, height

    @property
    def nclx(self) -> tuple[int, int] | None:
        """Return the code points by the colour property."""
        if b"colrnclx" not in self.properties:
            return None
        primaries, transfer = struct.unpack_from(">HH", self.properties[b"colrnclx"], 4)
        return primaries, transfer

    @property
    def depth(self) -> int:
        """Return bits per channel, from the codec configuration or else the pixel property."""
        hvcc, av1c, pixi = (self.properties.get(kind) for kind in (b"hvcC", b"av1C", b"pixi"))
        if hvcc is not None:
            return 8 + max(hvcc[17] & 7, hvcc[18] & 7)
        if av1c is not None:
            return 8 + 2 * (av1c[2] >> 6 & 1) + 2 * (av1c[2] >> 5 & 1)
        return max(pixi[5:_PROPERTY_BYTES], default=8) if pixi is not None else 8


def _read(file: BinaryIO, start: int, length: int) -> bytes:
    file.seek(start)
    return file.read(length)


def _boxes(file: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the contents of each box in a part of a file."""
    while at + 8 <= end:
        file.seek(at)
        size, kind, head = read_uint(file, 4), file.read(4), 8
        if size == 1:
            size, head = read_uint(file, 8), 16
        elif size == 0:
            size = end - at
        if size < head:
            raise ValueError("a box is smaller than its header")
        # The last box of a truncated file may extend beyond its end.
        yield kind, at + head, min(at + size, end)
        at += size


def _full_box(file: BinaryIO, start: int) -> tuple[int, int]:
    """Read version and flags, with which the contents of some boxes start."""
    file.seek(start)
    return read_uint(file, 1), read_uint(file, 3)


def _items(meta: BinaryIO, boxes: dict[bytes, list[int]]) -> dict[int, _Item]:
    """Return the items by ID, with relations."""
    items: dict[int, _Item] = {}
    start, end = boxes[b"iinf"]
    version, _ = _full_box(meta, start)
    for kind, at, _ in _boxes(meta, start + (8 if version else 6), end):
        version, _ = _full_box(meta, at)
        if kind == b"infe" and version >= 2:
            key = read_uint(meta, 2 if version == 2 else 4)
            read_uint(meta, 2)
            items[key] = _Item(meta.read(4).decode("latin-1"))
    if b"iref" in boxes:
        start, end = boxes[b"iref"]
        version, _ = _full_box(meta, start)
        width = 4 if version else 2
        for kind, at, _ in _boxes(meta, start + 4, end):
            meta.seek(at)
            item = items.get(read_uint(meta, width), _Item(""))
            targets = [read_uint(meta, width) for _ in range(read_uint(meta, 2))]
            item.references.setdefault(kind, []).extend(targets)
    return items


def _set_properties(meta: BinaryIO, span: list[int], items: dict[int, _Item]) -> None:
    known: list[tuple[bytes, bytes]] = []
    for kind, start, end in _boxes(meta, *span):
        if kind == b"ipco":
            known += [(each, _read(meta, a, b - a)) for each, a, b in _boxes(meta, start, end)]
        elif kind == b"ipma":
            version, flags = _full_box(meta, start)
            index_width, id_width = 2 if flags & 1 else 1, 4 if version else 2
            for _ in range(read_uint(meta, 4)):
                item = items.get(read_uint(meta, id_width), _Item(""))
                for _ in range(read_uint(meta, 1)):
                    # without the first bit, which marks essential properties
                    index = read_uint(meta, index_width) & (0x7FFF if index_width == 2 else 0x7F)
                    if index:
                        name, body = known[index - 1]
                        name += body[:4] if name == b"colr" else b""
                        item.properties.setdefault(name, body)


def _set_extents(
    meta: BinaryIO, span: list[int], items: dict[int, _Item], idat: int, size: int
) -> None:
    """Set where the data of the items is.

    Raises:
        ValueError: an extent lies beyond the end of the file, or there are too many.
    """
    version, _ = _full_box(meta, span[0])
    widths = read_uint(meta, 2)
    offset_width, length_width, base_width, index_width = (
        widths >> shift & 15 for shift in (12, 8, 4, 0)
    )
    id_width = 4 if version == 2 else 2
    extents = 0
    for _ in range(read_uint(meta, id_width)):
        item = items.get(read_uint(meta, id_width), _Item(""))
        method = read_uint(meta, 2) & 15 if version else 0
        read_uint(meta, 2)
        base = read_uint(meta, base_width) + (idat if method == 1 else 0)
        count = read_uint(meta, 2)
        extents += count
        # Without offset and length, an extent takes no bytes in the box and is the complete file.
        if extents > _MAX_ITEMS or (count > 1 and offset_width == length_width == 0):
            raise ValueError("the data of its items consists of too many parts")
        for _ in range(count):
            read_uint(meta, index_width if version else 0)
            offset = base + read_uint(meta, offset_width)
            length = read_uint(meta, length_width)
            if meta.tell() > span[1]:
                raise IndexError
            if method > 1 or not item.kind:
                continue
            if offset + length > size:
                raise ValueError("truncated")
            item.extents.append((offset, length or size - offset))


def _coded_items(images: list[int], items: dict[int, _Item]) -> list[int]:
    """Return the coded items of images: themselves, or their tiles, repeated as often as used."""
    parts: list[int] = []
    waiting = [*images]
    for _ in range(_MAX_ITEMS):
        if not waiting:
            return parts
        key = waiting.pop()
        if items[key].kind in _DERIVED:
            waiting += items[key].references.get(b"dimg", ())
            if len(waiting) > _MAX_ITEMS:  # an item may refer to itself, many times
                break
        else:
            parts.append(key)
    raise ValueError("the image consists of too many parts")


def _read_stream(file: BinaryIO, item: _Item) -> tuple[int, tuple[int, int] | None]:
    """Return number of pixels and code points, if any, according to an item's AV1 stream.

    Of HEVC, libheif refuses streams larger than the item's size property by itself.
    """
    if item.kind == _AV1 and item.extents:
        offset, length = item.extents[0]
        start = _read(file, offset, min(length, _SEQUENCE_HEADER_BYTES))
        config = item.properties.get(b"av1C", b"")[4 : 4 + _SEQUENCE_HEADER_BYTES]
        return av1_sequence(start) or av1_sequence(config) or (0, None)
    return 0, None
