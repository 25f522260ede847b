"""ICC profiles from colour code points (ITU-T H.273; "nclx" in HEIF, "CICP" in PNG)."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

#: HDR transfer characteristics by code point.
HDR = {16: "PQ", 18: "HLG"}

_D65, _C, _DCI = (0.3127, 0.3290), (0.310, 0.316), (0.314, 0.351)
# Chromaticities of red, green, blue and white, by code point (ITU-T H.273, table 2).
_PRIMARIES = {
    1: ((0.640, 0.330), (0.300, 0.600), (0.150, 0.060), _D65),
    4: ((0.670, 0.330), (0.210, 0.710), (0.140, 0.080), _C),
    5: ((0.640, 0.330), (0.290, 0.600), (0.150, 0.060), _D65),
    6: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    7: ((0.630, 0.340), (0.310, 0.595), (0.155, 0.070), _D65),
    9: ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), _D65),
    11: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _DCI),
    12: ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), _D65),
    22: ((0.630, 0.340), (0.295, 0.605), (0.155, 0.077), _D65),
}
_NAMES = {1: "BT.709", 9: "BT.2020", 11: "DCI-P3", 12: "Display P3"}
# Exponents of the transfer characteristics that are pure power functions. Image viewers apply the
# sRGB curve to all others, including those of television.
_GAMMA = {4: 2.2, 5: 2.8, 8: 1.0, 17: 2.6}
_SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_UNSPECIFIED, _SRGB = 2, 1

_BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
_D50 = np.array([0.9642, 1.0, 0.8249])
_HEADER = 128


def make_icc(primaries: int, transfer: int) -> bytes | None:
    """Create the ICC profile of an RGB colour space from its code points.

    Args:
        primaries: colour primaries of ITU-T H.273, such as 12 for Display P3.
        transfer: transfer characteristics of ITU-T H.273, such as 13 for sRGB.

    Returns:
        A version 4 profile; None for sRGB, which needs none, and for primaries that are reserved
        or not RGB.
    """
    primaries = _SRGB if primaries == _UNSPECIFIED else primaries
    if primaries not in _PRIMARIES or (primaries == _SRGB and transfer not in _GAMMA):
        return None
    red, green, blue, white = (
        np.array([x / y, 1.0, (1 - x - y) / y]) for x, y in _PRIMARIES[primaries]
    )
    columns = np.stack([red, green, blue], axis=1)
    to_xyz = columns * np.linalg.solve(columns, white)
    gains = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    adapt = np.linalg.inv(_BRADFORD) @ np.diag(gains) @ _BRADFORD
    colours = adapt @ to_xyz
    gamma = _GAMMA.get(transfer)
    curve = _curve(0, (gamma,)) if gamma else _curve(3, _SRGB_CURVE)
    name = f"{_NAMES.get(primaries, f'H.273 primaries {primaries}')}, "
    name += f"gamma {gamma:g}" if gamma else "sRGB curve"
    return _profile(
        {
            b"desc": _text(name),
            b"cprt": _text("No copyright, use freely"),
            b"wtpt": _xyz(_D50),
            b"chad": b"sf32" + bytes(4) + _fixed(adapt.ravel()),
            b"rXYZ": _xyz(colours[:, 0]),
            b"gXYZ": _xyz(colours[:, 1]),
            b"bXYZ": _xyz(colours[:, 2]),
            b"rTRC": curve,
            b"gTRC": curve,
            b"bTRC": curve,
        }
    )


def icc_transfer(icc: bytes) -> int | None:
    """Return the transfer characteristics in the ``cicp`` tag of a profile; None without one."""
    # The tag's contents start with its type and four reserved bytes, unlike its place in the table.
    at = icc.find(b"cicp" + bytes(4), _HEADER)
    return icc[at + 9] if 0 <= at < len(icc) - 9 else None


def _profile(tags: dict[bytes, bytes]) -> bytes:
    start = _HEADER + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    places: dict[bytes, int] = {}
    for kind, data in tags.items():
        if data not in places:  # tags may share their data
            places[data] = start + len(body)
            body += data + bytes(-len(data) % 4)
        table += struct.pack(">4sII", kind, places[data], len(data))
    size = start + len(body)
    header = struct.pack(">I4xI4s4s4s", size, 0x04300000, b"mntr", b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s", 2026, 1, 1, 0, 0, 0, b"acsp")
    header = header.ljust(68, b"\0") + _fixed(_D50)
    return header.ljust(_HEADER, b"\0") + table + body


def _text(text: str) -> bytes:
    encoded = text.encode("utf-16-be")
    head = struct.pack(">4s4xII2s2sII", b"mluc", 1, 12, b"en", b"US", len(encoded), 28)
    return head + encoded


def _xyz(values: NDArray[np.float64]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _curve(kind: int, parameters: tuple[float, ...]) -> bytes:
    return b"para" + bytes(4) + struct.pack(">HH", kind, 0) + _fixed(np.array(parameters))


def _fixed(values: NDArray[np.float64]) -> bytes:
    """Encode numbers as s15Fixed16."""
    return np.rint(values * 65536).astype(">i4").tobytes()
