"""Detection of camera raw files by content; they must be developed before restoration.

Most are TIFF files whose first image is a small preview, which a TIFF reader would mistake for the
photograph.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

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
_SHORT, _LONG, _IFD, _LONG8, _IFD8 = 3, 4, 13, 16, 18
_LETTERS = {_SHORT: "H", _LONG: "I", _IFD: "I", _LONG8: "Q", _IFD8: "Q"}


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
    try:
        for number, tags in enumerate(_directories(data)):
            if _DNG_VERSION in tags or tags.get(_COMPRESSION, [1])[0] in _RAW_COMPRESSIONS:
                return True
            if tags.get(_PHOTOMETRIC, [1])[0] in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW):
                return True
            if number == 0 and tags.get(_SUBFILE, [0])[0] & 1 and _SUBIFDS in tags:
                return True
    except (struct.error, IndexError):
        pass  # the TIFF reader reports the damage
    return False


def _directories(data: bytes) -> Iterator[dict[int, list[int]]]:
    """Yield the tags of all TIFF directories, including nested ones, with the needed values."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    pointer, count_kind, head = ("Q", "Q", "HHQ") if big else ("I", "H", "HHI")
    width = struct.calcsize(order + pointer)
    size = struct.calcsize(order + head) + width
    waiting = [struct.unpack_from(order + pointer, data, 8 if big else 4)[0]]
    seen: set[int] = set()
    while waiting and len(seen) < _MAX_DIRECTORIES:
        at = waiting.pop(0)
        if at == 0 or at in seen:
            continue
        seen.add(at)
        (count,) = struct.unpack_from(order + count_kind, data, at)
        at += struct.calcsize(order + count_kind)
        tags: dict[int, list[int]] = {}
        for entry in range(at, min(at + count * size, len(data) - size + 1), size):
            tag, kind, number = struct.unpack_from(order + head, data, entry)
            tags[tag] = []
            if tag in _READ_TAGS and kind in _LETTERS and 0 < number <= _MAX_DIRECTORIES:
                form = f"{order}{number}{_LETTERS[kind]}"
                place = entry + size - width
                if struct.calcsize(form) > width:
                    (place,) = struct.unpack_from(order + pointer, data, place)
                tags[tag] = list(struct.unpack_from(form, data, place))
        yield {tag: values or [0] for tag, values in tags.items()}
        waiting += tags.get(_SUBIFDS, [])
        after = at + count * size
        if after + width <= len(data):
            waiting.append(struct.unpack_from(order + pointer, data, after)[0])
