"""Size and colours from the headers of the AV1 streams inside AVIF files.

They follow section 5.5 of the specification of AV1. The boxes of a file may claim any size, but
decoders allocate that of the stream.
"""

from __future__ import annotations

import io
from typing import BinaryIO

_OBU_SEQUENCE_HEADER = 1
_EXTENSION, _HAS_SIZE = 4, 2  # flags of an OBU's first byte
_MAX_UNITS = 64  # up to the sequence header, which is normally the first or second


class _Bits:
    """Bit reader with the descriptors ``f(n)`` and ``uvlc()`` of the specification."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def f(self, count: int) -> int:
        """Read an unsigned number of ``count`` bits."""
        if count > self._left:
            raise ValueError("the stream's header is truncated")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def uvlc(self) -> int:
        """Read an unsigned Exp-Golomb number."""
        zeros = 0
        while not self.f(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("the stream's header is damaged")
        return (1 << zeros) - 1 + self.f(zeros)


def read_uint(file: BinaryIO, size: int) -> int:
    """Read an unsigned big-endian number of ``size`` bytes; IndexError beyond the end."""
    data = file.read(size)
    if len(data) < size:
        raise IndexError
    return int.from_bytes(data, "big")


def av1_sequence(stream: bytes) -> tuple[int, tuple[int, int] | None] | None:
    """Read the first sequence header of an AV1 stream.

    Args:
        stream: the beginning of an item's data, or the OBUs of the ``av1C`` box.

    Returns:
        Maximum number of pixels, and (colour primaries, transfer characteristics) or None if the
        header has none; None if there is no header.

    Raises:
        ValueError: the data is damaged.
        IndexError: likewise.
    """
    file = io.BytesIO(stream)
    for _ in range(_MAX_UNITS):
        if file.tell() >= len(stream):
            return None
        head = read_uint(file, 1)
        if head & _EXTENSION:
            file.read(1)
        unit = file.read(_leb128(file) if head & _HAS_SIZE else -1)
        if (head >> 3) & 15 == _OBU_SEQUENCE_HEADER:
            return _sequence_header(_Bits(unit[:256]))
    raise ValueError("the stream has no header at its beginning")


def _leb128(file: BinaryIO) -> int:
    """Read an unsigned number in groups of seven bits, the lowest first."""
    value = 0
    for shift in range(0, 63, 7):
        byte = read_uint(file, 1)
        value |= (byte & 127) << shift
        if byte < 128:
            break
    return value


def _sequence_header(bits: _Bits) -> tuple[int, tuple[int, int] | None]:
    f = bits.f
    profile = f(3)
    f(1)
    reduced = f(1)
    if reduced:
        f(5)
    else:
        _skip_operating_points(bits)
    across, down = f(4) + 1, f(4) + 1
    pixels = (f(across) + 1) * (f(down) + 1)
    if not reduced and f(1):
        f(7)
    f(3)
    if not reduced:
        f(4)
        order_hint = f(1)
        f(2 * order_hint)
        if (f(1) or f(1)) and not f(1):
            f(1)
        f(3 * order_hint)
    f(3)
    if f(1) and profile == 2:
        f(1)
    if profile != 1:
        f(1)
    return pixels, (f(8), f(8)) if f(1) else None


def _skip_operating_points(bits: _Bits) -> None:
    f, delay_bits = bits.f, 0
    if f(1):
        f(64)
        if f(1):
            bits.uvlc()
        if f(1):
            delay_bits = f(5) + 1
            f(42)
    display_delay = f(1)
    for _ in range(f(5) + 1):
        f(12)
        if f(5) > 7:
            f(1)
        if delay_bits and f(1):
            f(2 * delay_bits + 1)
        if display_delay and f(1):
            f(4)
