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
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import UnsupportedImageError, VHeatIRError
from vheatir.image_io import check_size, megapixels
from vheatir.inference.heif_streams import av1_sequence, hevc_sizes

#: Error message for a missing optional package.
MISSING = "is HEIC/HEIF, which needs another package: pip install 'vheatir[heif]'"

_BRANDS = frozenset(b"heic heix heim heis hevc hevx hevm hevs mif1 mif2 msf1 avif avis".split())
_SEQUENCE_BRANDS = frozenset(b"hevc hevx hevm hevs msf1".split())
_DERIVED = frozenset({b"grid", b"iovl", b"iden"})
_HEVC, _AV1 = frozenset({b"hvc1", b"hev1"}), b"av01"
_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
_MAX_META_BYTES = 1 << 26
_MAX_ITEMS = 65_536
# Blocks and tiles are coded completely, so more pixels may be coded than the image has.
_SLACK_FACTOR, _SLACK_PIXELS = 3, 1 << 22
_SEQUENCE_HEADER_BYTES = 1 << 16  # bytes of an AV1 item that contain its sequence header


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
        whole: whether all data that the items refer to is present.
    """

    codec: str
    width: int
    height: int
    coded_pixels: int
    depth: int
    alpha: bool
    cicp: tuple[int, int] | None
    sequence: bool
    whole: bool


def is_heif(data: bytes) -> bool:
    """Whether a file is HEIF or AVIF, judged by its brands.

    Args:
        data: the file's bytes, or their beginning.
    """
    return bool(_BRANDS & set(_brands(data)))


def read_header(file: BinaryIO, streams: bool = True) -> HeifHeader:
    """Read the boxes of a HEIF or AVIF file without decoding it.

    Args:
        file: open for reading; without ``streams``, only the boxes are read.
        streams: also read size and colours from the headers of the coded streams.

    Raises:
        ValueError: the boxes are damaged, truncated or not those of an image.
    """
    try:
        return _read_header(file, streams)
    except (struct.error, IndexError, KeyError, RecursionError):
        raise ValueError("the boxes of the file are damaged or truncated") from None


def written_suffix(path: str | os.PathLike[str]) -> str:
    """Return the default output suffix of a file with a HEIF suffix.

    ``".jpg"`` for 8 bits without transparency, else ``".png"``, from the header alone. An
    unreadable file gets ``".png"``; the error is raised when it is read.
    """
    try:
        with Path(path).open("rb") as file:
            if file.read(3) == b"\xff\xd8\xff":  # a JPEG with a HEIF suffix
                return ".jpg"
            header = read_header(file, streams=False)
    except (OSError, ValueError):
        return ".png"
    return ".jpg" if header.depth == 8 and not header.alpha else ".png"


def check_header(name: str, header: HeifHeader, max_pixels: int) -> None:
    """Reject files that must not be decoded.

    Raises:
        VHeatIRError: too large, truncated, or a sequence.
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
    if header.codec != "av01" and header.codec.encode("latin-1") not in _HEVC:
        raise UnsupportedImageError(
            f"{name} is HEIF with the codec {header.codec!r}, which is not supported: "
            "convert it to PNG or JPEG"
        )
    if not header.whole:
        raise VHeatIRError(f"{name} is damaged: truncated")


@dataclass(frozen=True)
class HeifImage:
    """The decoded primary image of a HEIF file, upright.

    Attributes:
        pixels: (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``.
        icc: colour profile.
        exif: EXIF block.
        xmp: XMP packet.
        cicp: as in :class:`HeifHeader`, from the stream if the boxes have none.
    """

    pixels: NDArray[Any]
    icc: bytes | None
    exif: bytes | None
    xmp: bytes | None
    cicp: tuple[int, int] | None


def decode_heif(data: bytes, name: str) -> HeifImage:
    """Decode the primary image of a HEIF file with pillow-heif, which applies irot and imir.

    Args:
        data: the file's bytes, with the header already checked.
        name: name of the file in error messages.

    Raises:
        UnsupportedImageError: pillow-heif is not installed.
        Exception: any exception of the decoder on a damaged file.
    """
    try:
        import pillow_heif
    except ImportError:
        raise UnsupportedImageError(f"{name} {MISSING}") from None
    file = pillow_heif.open_heif(io.BytesIO(data), convert_hdr_to_8bit=False, hdr_to_16bit=False)
    image = file[file.primary_index]
    pixels = np.asarray(image)
    if image.premultiplied_alpha:
        raise UnsupportedImageError(f"{name} has premultiplied alpha: convert it to PNG")
    if pixels.dtype != np.uint8:
        pixels = to_16_bits(pixels, int(image.mode.rpartition(";")[2].rstrip("L")))
    nclx = image.info.get("nclx_profile")
    cicp = (nclx["color_primaries"], nclx["transfer_characteristics"]) if nclx else None
    info = image.info
    return HeifImage(pixels, info.get("icc_profile"), info.get("exif"), info.get("xmp"), cicp)


def to_16_bits(pixels: NDArray[Any], depth: int) -> NDArray[np.uint16]:
    """Rescale values of ``depth`` bits, such as 10 or 12, to 16 bits, rounded to nearest."""
    high = (1 << depth) - 1
    return ((pixels.astype(np.uint32) * 65535 + high // 2) // high).astype(np.uint16)


def _brands(data: bytes) -> list[bytes]:
    if data[4:8] != b"ftyp" or len(data) < 16:
        return []
    end = min(int.from_bytes(data[:4], "big"), len(data), 512)
    return [data[8:12], *(data[at : at + 4] for at in range(16, end - 3, 4))]


def _read_header(file: BinaryIO, streams: bool) -> HeifHeader:
    size = file.seek(0, os.SEEK_END)
    brands: list[bytes] = []
    meta, meta_at = b"", 0
    for kind, start, end in _file_boxes(file, size):
        if kind == b"ftyp" and not brands:
            file.seek(start - 8)
            brands = _brands(file.read(512))
        elif kind == b"meta" and end - start <= _MAX_META_BYTES:
            file.seek(start)
            meta, meta_at = file.read(end - start), start
            break
    if not (_BRANDS & set(brands)) or not meta:
        raise ValueError("the file contains no image")
    boxes = {kind: (start, end) for kind, start, end in _boxes(meta, 4, len(meta))}
    items = _items(meta, boxes)
    idat = meta_at + boxes[b"idat"][0] if b"idat" in boxes else 0
    whole = _set_extents(meta, boxes, items, idat, size)
    start = boxes[b"pitm"][0]
    primary = _read_uint(meta, start + 4, 4 if meta[start] else 2)
    image = items[primary]
    ispe = image.first(b"ispe")
    if ispe is None:
        raise ValueError("the file does not give the size of its image")
    width, height = struct.unpack_from(">II", ispe, 4)
    shown = _coded_items(primary, items)
    alphas = [k for k, each in items.items() if primary in each.alpha_of]
    hidden = [part for alpha in alphas for part in _coded_items(alpha, items)]
    found = {
        key: _read_stream(file, items[key]) if streams else _Stream(0, None)
        for key in {*shown, *hidden}
    }
    nclx = (_nclx(items[key]) or found[key].cicp for key in (primary, *shown))
    return HeifHeader(
        codec=items[shown[-1]].kind.decode("latin-1"),
        width=width,
        height=height,
        coded_pixels=sum(max(found[k].pixels, items[k].pixels) for k in (*shown, *hidden)),
        depth=max(_depth(items[key]) for key in shown),
        alpha=bool(alphas),
        cicp=next((code for code in nclx if code), None),
        sequence=brands[0] in _SEQUENCE_BRANDS,
        whole=whole,
    )


@dataclass
class _Item:
    """An item of the file: its type, properties, relations and data extents."""

    kind: bytes
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    extents: list[tuple[int, int]] = field(default_factory=list)  # offset and length in the file
    inputs: tuple[int, ...] = ()
    auxiliary_of: tuple[int, ...] = ()

    def first(self, kind: bytes) -> bytes | None:
        """Return the contents of the first property of a kind."""
        return next((body for each, body in self.properties if each == kind), None)

    @property
    def alpha_of(self) -> tuple[int, ...]:
        """Return the items for which this item is the alpha channel."""
        kind = (self.first(b"auxC") or bytes(4))[4:].split(b"\0")[0]
        return self.auxiliary_of if kind in _ALPHA else ()

    @property
    def pixels(self) -> int:
        """Return the number of pixels according to the size property."""
        ispe = self.first(b"ispe")
        return 0 if ispe is None else math.prod(struct.unpack_from(">II", ispe, 4))


@dataclass(frozen=True)
class _Stream:
    """Pixel count and code points of a coded stream."""

    pixels: int
    cicp: tuple[int, int] | None


def _read_uint(data: bytes, at: int, size: int) -> int:
    if at + size > len(data):
        raise IndexError
    return int.from_bytes(data[at : at + size], "big")


def _file_boxes(file: BinaryIO, size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the contents of each box of a file."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        for kind, start, end in _boxes(head, 0, size - at):
            yield kind, at + start, at + end
            at += end
            break


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start and end of the contents of each box in a part of ``data``."""
    while at + 8 <= end:
        size, kind, head = _read_uint(data, at, 4), data[at + 4 : at + 8], 8
        if size == 1:
            size, head = _read_uint(data, at + 8, 8), 16
        elif size == 0:
            size = end - at
        if size < head:
            raise ValueError("a box is smaller than its header")
        # The last box of a truncated file may extend beyond its end.
        yield kind, at + head, min(at + size, end)
        at += size


def _items(meta: bytes, boxes: dict[bytes, tuple[int, int]]) -> dict[int, _Item]:
    """Return the items by ID, with properties and relations."""
    items: dict[int, _Item] = {}
    start, end = boxes[b"iinf"]
    for kind, at, _ in _boxes(meta, start + (8 if meta[start] else 6), end):
        if kind == b"infe" and meta[at] >= 2:
            width = 2 if meta[at] == 2 else 4
            items[_read_uint(meta, at + 4, width)] = _Item(meta[at + 6 + width : at + 10 + width])
    if b"iref" in boxes:
        start, end = boxes[b"iref"]
        width = 4 if meta[start] else 2
        for kind, at, _ in _boxes(meta, start + 4, end):
            count = _read_uint(meta, at + width, 2)
            first = at + width + 2
            targets = tuple(_read_uint(meta, first + i * width, width) for i in range(count))
            item = items.get(_read_uint(meta, at, width))
            if item is not None and kind == b"dimg":
                item.inputs += targets
            elif item is not None and kind == b"auxl":
                item.auxiliary_of += targets
    known: list[tuple[bytes, bytes]] = []
    for kind, start, end in _boxes(meta, *boxes[b"iprp"]):
        if kind == b"ipco":
            known += [(each, meta[a:b]) for each, a, b in _boxes(meta, start, end)]
        elif kind == b"ipma":
            _associate(meta, start, items, known)
    return items


def _associate(
    meta: bytes, at: int, items: dict[int, _Item], known: list[tuple[bytes, bytes]]
) -> None:
    id_width, index_width = 4 if meta[at] else 2, 2 if meta[at + 3] & 1 else 1
    count = _read_uint(meta, at + 4, 4)
    at += 8
    for _ in range(count):
        item = items.get(_read_uint(meta, at, id_width))
        number = _read_uint(meta, at + id_width, 1)
        at += id_width + 1
        for _ in range(number):
            index = _read_uint(meta, at, index_width) & (0x7FFF if index_width == 2 else 0x7F)
            at += index_width
            if item is not None and index:
                item.properties.append(known[index - 1])


def _set_extents(
    meta: bytes, boxes: dict[bytes, tuple[int, int]], items: dict[int, _Item], idat: int, size: int
) -> bool:
    """Set the data extents of the items; return whether all of them lie inside the file."""
    at, end = boxes[b"iloc"]
    version = meta[at]
    widths = [meta[at + 4] >> 4, meta[at + 4] & 15, meta[at + 5] >> 4, meta[at + 5] & 15]
    offset_width, length_width, base_width, index_width = widths
    wide = 4 if version == 2 else 2
    count = _read_uint(meta, at + 6, wide)
    at += 6 + wide
    whole = True
    for _ in range(count):
        item = items.get(_read_uint(meta, at, wide))
        at += wide
        method = 0
        if version:
            method = _read_uint(meta, at, 2) & 15
            at += 2
        base = _read_uint(meta, at + 2, base_width)
        number = _read_uint(meta, at + 2 + base_width, 2)
        at += 4 + base_width
        for _ in range(number):
            at += index_width if version else 0
            offset = base + _read_uint(meta, at, offset_width) + (idat if method == 1 else 0)
            length = _read_uint(meta, at + offset_width, length_width)
            at += offset_width + length_width
            if at > end:
                raise IndexError
            if method > 1 or item is None:
                continue
            whole &= offset + length <= size
            item.extents.append((offset, length or max(size - offset, 0)))
    return whole


def _coded_items(key: int, items: dict[int, _Item]) -> list[int]:
    """Return the coded items of an image: itself, or its tiles, repeated as often as used."""
    parts: list[int] = []
    waiting = [key]
    for _ in range(_MAX_ITEMS):
        if not waiting:
            return parts
        key = waiting.pop()
        if items[key].kind in _DERIVED:
            waiting += items[key].inputs
        else:
            parts.append(key)
    raise ValueError("the image consists of too many parts")


def _read_stream(file: BinaryIO, item: _Item) -> _Stream:
    """Read size and code points from the coded stream of an item."""
    if item.kind in _HEVC:
        config = item.first(b"hvcC") or b""
        data = b"".join(_extent(file, *each) for each in item.extents)
        return _Stream(max((w * h for w, h in hevc_sizes(config, data)), default=0), None)
    if item.kind == _AV1 and item.extents:
        offset, length = item.extents[0]
        sequence = av1_sequence(_extent(file, offset, min(length, _SEQUENCE_HEADER_BYTES)))
        sequence = sequence or av1_sequence((item.first(b"av1C") or b"")[4:])
        if sequence:
            return _Stream(sequence[0] * sequence[1], sequence[2])
    return _Stream(0, None)


def _extent(file: BinaryIO, offset: int, length: int) -> bytes:
    file.seek(offset)
    return file.read(length)


def _nclx(item: _Item) -> tuple[int, int] | None:
    for kind, body in item.properties:
        if kind == b"colr" and body[:4] == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", body, 4)
            return int(primaries), int(transfer)
    return None


def _depth(item: _Item) -> int:
    """Return bits per channel, from the codec configuration or else the pixel property."""
    hvcc, av1c, pixi = item.first(b"hvcC"), item.first(b"av1C"), item.first(b"pixi")
    if hvcc is not None:
        return 8 + max(hvcc[17] & 7, hvcc[18] & 7)
    if av1c is not None:
        return 8 + 2 * (av1c[2] >> 6 & 1) + 2 * (av1c[2] >> 5 & 1)
    return max(pixi[5:], default=8) if pixi is not None else 8
