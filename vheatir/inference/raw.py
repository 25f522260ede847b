"""Detection of camera raw files by content; they must be developed before restoration.

Most are TIFF files whose first image is a small preview, which a TIFF reader would mistake for the
photograph.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Literal

#: Suffixes of raw files.
RAW_SUFFIXES = frozenset(
    ".3fr .arw .cr2 .cr3 .crw .dcr .dng .erf .fff .gpr .iiq .k25 .kdc .mef .mos .mrw .nef .nrw "
    ".orf .pef .raf .raw .rw2 .rwl .sr2 .srf .srw .x3f".split()
)

# Signatures at the start of a file: Fujifilm, Sigma, Minolta, Olympus, Panasonic, older Canon.
_SIGNATURES = (b"FUJIFILMCCD-RAW", b"FOVb", b"\0MRM", b"IIRO", b"IIRS", b"MMOR", b"IIU\0")
_CRW, _CR2, _CR3, _IIQ = b"HEAPCCDR", b"CR", b"ftypcrx ", (b"IIII", b"MMMM")

_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _SUBIFDS, _DNG_VERSION = 254, 259, 262, 330, 50706
_READ_TAGS = frozenset({_SUBFILE, _COMPRESSION, _PHOTOMETRIC, _SUBIFDS})
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
# Compressions of Sony, Epson, Samsung, Nikon, Kodak and Pentax.
_RAW_COMPRESSIONS = frozenset({32767, 32769, 32770, 34713, 65000, 65535})
_MAX_DIRECTORIES = 64
_MAX_ENTRIES = 256  # of a directory; those of a damaged file may all extend to its end
_SHORT, _LONG, _IFD, _LONG8, _IFD8 = 3, 4, 13, 16, 18
_WIDTHS = {_SHORT: 2, _LONG: 4, _IFD: 4, _LONG8: 8, _IFD8: 8}  # bytes


def is_raw(data: bytes) -> bool:
    """Whether a file contains raw sensor data, regardless of its suffix.

    A TIFF is raw if any directory has a DNG version, a colour filter array, linear raw data or a
    vendor-specific compression, or if the first is a preview of an image in a nested directory.

    Args:
        data: the file's bytes.
    """
    if data.startswith(_SIGNATURES) or data[6:14] == _CRW or data[4:12] == _CR3:
        return True
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
        return False
    if (data[:4] == b"II*\0" and data[8:10] == _CR2) or data[8:12] in _IIQ:
        return True
    with suppress(IndexError):  # the TIFF reader reports the damage
        for number, tags in enumerate(_directories(data)):
            if _DNG_VERSION in tags or tags.get(_COMPRESSION, [1])[0] in _RAW_COMPRESSIONS:
                return True
            if tags.get(_PHOTOMETRIC, [1])[0] in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW):
                return True
            if number == 0 and tags.get(_SUBFILE, [0])[0] & 1 and _SUBIFDS in tags:
                return True
    return False


def _directories(data: bytes) -> Iterator[dict[int, list[int]]]:
    """Yield the tags of all TIFF directories, including nested ones, with the needed values."""
    order: Literal["little", "big"] = "little" if data[:2] == b"II" else "big"
    big = data[2:4] in (b"+\0", b"\0+")
    width, count_width, size = (8, 8, 20) if big else (4, 2, 12)

    def uint(at: int, width: int) -> int:
        if at + width > len(data):
            raise IndexError
        return int.from_bytes(data[at : at + width], order)

    waiting = [uint(8 if big else 4, width)]
    seen = {0}
    while waiting and len(seen) <= _MAX_DIRECTORIES:
        at = waiting.pop(0)
        if at in seen:
            continue
        seen.add(at)
        count = uint(at, count_width)
        at += count_width
        tags: dict[int, list[int]] = {}
        end = min(at + min(count, _MAX_ENTRIES) * size, len(data) - size + 1)
        for entry in range(at, end, size):
            tag, kind, number = uint(entry, 2), uint(entry + 2, 2), uint(entry + 4, width)
            values = []
            if tag in _READ_TAGS and kind in _WIDTHS and number <= _MAX_DIRECTORIES:
                each = _WIDTHS[kind]
                place = entry + size - width
                place = uint(place, width) if number * each > width else place
                values = [uint(place + index * each, each) for index in range(number)]
            tags[tag] = values or [0]
        yield tags
        waiting += tags.get(_SUBIFDS, [])
        after = at + count * size
        if after + width <= len(data):
            waiting.append(uint(after, width))
