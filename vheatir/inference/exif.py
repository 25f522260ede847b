"""EXIF blocks of upright images, with everything else in them kept.

Blocks are changed in place. Pillow would write them anew, which loses text that is not ASCII and
moves the manufacturer's notes (MakerNote), although these contain absolute offsets.
"""

from __future__ import annotations

import struct
from contextlib import suppress

from PIL import ExifTags, Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

#: Start of an EXIF block in a JPEG file.
PREFIX = b"Exif\0\0"
ORIENTATION = 0x0112
_WIDTH, _HEIGHT = 0xA002, 0xA003  # of the image, in the Exif directory
_INTEROPERABILITY = 0xA005
_THUMBNAIL, _THUMBNAIL_LENGTH = 0x0201, 0x0202  # in the second directory
_PADDING = 64  # bytes that may follow the thumbnail
_SHORT, _LONG = 3, 4
# Tags of Pillow that hold text, in the first directory of a TIFF.
_TEXTS = (270, 271, 272, 305, 306, 315, 33432)
# TIFF's own tags, most of which describe how pixels are stored.
_LAYOUT_TAGS = range(254, 347)
# The first directory of a TIFF also has the layout of its strips: keep descriptive tags only.
_DESCRIPTIVE_TAGS = frozenset({*_TEXTS, ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo})


def upright_exif(block: bytes, height: int, width: int) -> bytes:
    """Return an EXIF block for an upright image, without orientation and thumbnail.

    Args:
        block: an EXIF block, with or without :data:`PREFIX`.
        height: of the upright image in pixels, for blocks that state it.
        width: likewise.

    Returns:
        The block with :data:`PREFIX`; empty if it is damaged or holds nothing but the orientation.
    """
    data = bytearray(block.removeprefix(PREFIX))
    order = {b"II": "<", b"MM": ">"}.get(bytes(data[:2]))
    if order is None:
        return b""
    try:
        (first,) = struct.unpack_from(order + "I", data, 4)
        entries, following = _directory(data, order, first)
        if not entries.keys() - {ORIENTATION}:
            return b""
        if ORIENTATION in entries:
            upright = (ORIENTATION, _SHORT, 1, 1, 0)
            struct.pack_into(order + "HHIHH", data, entries[ORIENTATION], *upright)
        if ExifTags.IFD.Exif in entries:
            details, _ = _directory(data, order, _value(data, order, entries[ExifTags.IFD.Exif]))
            for tag, side in ((_WIDTH, width), (_HEIGHT, height)):
                if tag in details:
                    struct.pack_into(order + "HHII", data, details[tag], tag, _LONG, 1, side)
        _remove_thumbnail(data, order, following)
    except struct.error:
        return b""
    return PREFIX + bytes(data)


def _directory(data: bytes | bytearray, order: str, at: int) -> tuple[dict[int, int], int]:
    """Return the offset of each entry of a directory by its tag, and that after the last one."""
    (count,) = struct.unpack_from(order + "H", data, at)
    end = at + 2 + 12 * count
    starts = range(at + 2, end, 12)
    return {struct.unpack_from(order + "HHII", data, start)[0]: start for start in starts}, end


def _value(data: bytes | bytearray, order: str, entry: int) -> int:
    """Return the number or offset that an entry holds."""
    value: int = struct.unpack_from(order + "I", data, entry + 8)[0]
    return value


def _remove_thumbnail(data: bytearray, order: str, pointer: int) -> None:
    """Remove the second directory, which has a thumbnail of the image before.

    Args:
        data: the block, changed in place.
        order: byte order of the numbers.
        pointer: offset of the second directory's offset.
    """
    (at,) = struct.unpack_from(order + "I", data, pointer)
    if not at:
        return
    struct.pack_into(order + "I", data, pointer, 0)
    with suppress(struct.error):  # a damaged directory, which nothing refers to any more
        entries, _ = _directory(data, order, at)
        if {_THUMBNAIL, _THUMBNAIL_LENGTH} <= entries.keys():
            start = _value(data, order, entries[_THUMBNAIL])
            end = start + _value(data, order, entries[_THUMBNAIL_LENGTH])
            if pointer < start and len(data) - _PADDING <= end:
                del data[start:]


def exif_of_tiff(exif: Image.Exif) -> bytes:
    """Serialise the EXIF of a TIFF file, without the layout of its pixels and the orientation."""
    for tag in list(exif):
        if tag not in _DESCRIPTIVE_TAGS:
            del exif[tag]
    if not len(exif):
        return b""
    _encode_texts(exif)
    return exif.tobytes()


def exif_for_tiff(block: bytes) -> Image.Exif:
    """Return the EXIF to write into a TIFF file; empty for a damaged block."""
    exif = Image.Exif()
    try:
        exif.load(block)
        for tag in list(exif):
            if tag in _LAYOUT_TAGS and tag not in _TEXTS:
                del exif[tag]
        _encode_texts(exif)
        exif.tobytes()  # fails if the types of a damaged block do not fit its tags
    except Exception:  # of many kinds
        return Image.Exif()
    return exif


def texts(exif: Image.Exif) -> dict[int, bytes]:
    """Return the texts of the first directory, as stored, by tag."""
    return {tag: exif[tag] for tag in _TEXTS if isinstance(exif.get(tag), bytes)}


def _encode_texts(exif: Image.Exif) -> None:
    """Encode text as it was stored: Pillow decodes Latin-1, but would write ASCII."""
    for tag in _TEXTS:
        text = exif.get(tag)
        if isinstance(text, str):
            exif[tag] = text.encode("latin-1", "replace")


def add_directories(tiff: bytes, exif: Image.Exif) -> bytes:
    """Return a TIFF file of one image with the Exif and GPS directories added.

    The first directory is written again at the end, with two more entries.
    """
    added = {tag: exif.get_ifd(tag) for tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo)}
    added = {tag: values for tag, values in added.items() if values}
    if not added:
        return tiff
    order = "<" if tiff.startswith(b"II") else ">"
    (at,) = struct.unpack_from(order + "I", tiff, 4)
    old, _ = _directory(tiff, order, at)
    entries = {tag: tiff[start : start + 12] for tag, start in old.items()}
    tiff += bytes(len(tiff) % 2)
    start = len(tiff) + 2 + 12 * (len(entries) + len(added)) + 4
    directories = b""
    for tag, values in added.items():
        directory = ImageFileDirectory_v2(tiff[:8], group=tag)
        for name, value in values.items():
            if name != _INTEROPERABILITY:  # the offset of a directory that stays behind
                directory[name] = value
        entries[tag] = struct.pack(order + "HHII", tag, _LONG, 1, start + len(directories))
        directories += directory.tobytes(start + len(directories))
        directories += bytes(len(directories) % 2)
    first = struct.pack(order + "H", len(entries)) + b"".join(
        entries[tag] for tag in sorted(entries)
    )
    header = tiff[:4] + struct.pack(order + "I", len(tiff))
    return header + tiff[8:] + first + bytes(4) + directories
