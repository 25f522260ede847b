"""Size and colours from the headers of the coded streams inside HEIF and AVIF files.

Sequence parameter sets of HEVC follow ITU-T H.265, 7.3.2.2, sequence headers of AV1 section 5.5 of
its specification. The boxes of a file may claim any size, but decoders allocate that of the stream.
"""

from __future__ import annotations

from collections.abc import Iterator

_SPS = 33
_PROFILE_BITS, _SUBLAYER_PROFILE_BITS, _LEVEL_BITS = 96, 88, 8
_CHROMA_444 = 3
_OBU_SEQUENCE_HEADER = 1
_EXTENSION, _HAS_SIZE = 4, 2  # flags of an OBU's first byte


class _Bits:
    """Bit reader with the descriptors ``f(n)`` and ``ue(v)`` of the specifications."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def f(self, count: int) -> int:
        """Read an unsigned number of ``count`` bits."""
        if count > self._left:
            raise ValueError("the stream's header is truncated")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def ue(self) -> int:
        """Read an unsigned Exp-Golomb number (``uvlc`` in AV1)."""
        zeros = 0
        while not self.f(1):
            zeros += 1
            if zeros > 32:
                raise ValueError("the stream's header is damaged")
        return (1 << zeros) - 1 + self.f(zeros)


def hevc_sizes(config: bytes, stream: bytes) -> list[tuple[int, int]]:
    """Return (width, height) of every sequence parameter set.

    Args:
        config: contents of the ``hvcC`` box.
        stream: an item's data; empty to read the box alone.

    Raises:
        ValueError: the data is damaged.
        IndexError: likewise.
    """
    return [_sps_size(unit) for unit in (*_config_units(config), *_stream_units(config, stream))]


def av1_sequence(stream: bytes) -> tuple[int, int, tuple[int, int] | None] | None:
    """Read the first sequence header of an AV1 stream.

    Args:
        stream: the beginning of an item's data, or the OBUs of the ``av1C`` box.

    Returns:
        Maximum width and height, and (colour primaries, transfer characteristics) or None if the
        header has none; None if there is no header.

    Raises:
        ValueError: the data is damaged.
        IndexError: likewise.
    """
    at = 0
    while at < len(stream):
        head = stream[at]
        at += 2 if head & _EXTENSION else 1
        size = len(stream) - at
        if head & _HAS_SIZE:
            size, shift = 0, 0
            while True:
                byte = stream[at]
                at += 1
                size |= (byte & 127) << shift
                shift += 7
                if byte < 128 or shift > 56:
                    break
        if (head >> 3) & 15 == _OBU_SEQUENCE_HEADER:
            return _sequence_header(_Bits(stream[at : at + min(size, 256)]))
        at += size
    return None


def _config_units(config: bytes) -> Iterator[bytes]:
    at = 23
    for _ in range(config[22]):
        kind = config[at] & 63
        count = int.from_bytes(config[at + 1 : at + 3], "big")
        at += 3
        for _ in range(count):
            size = int.from_bytes(config[at : at + 2], "big")
            if kind == _SPS:
                yield config[at + 2 : at + 2 + size]
            at += 2 + size
            if at > len(config):
                raise ValueError("the hvcC box is truncated")


def _stream_units(config: bytes, stream: bytes) -> Iterator[bytes]:
    width, at = (config[21] & 3) + 1, 0
    while at + width < len(stream):
        size = int.from_bytes(stream[at : at + width], "big")
        at += width
        if (stream[at] >> 1) & 63 == _SPS:
            yield stream[at : at + size]
        at += size


def _sps_size(unit: bytes) -> tuple[int, int]:
    bits = _Bits(unit[2:512].replace(b"\0\0\3", b"\0\0"))
    bits.f(4)
    layers = bits.f(3)
    bits.f(1)
    bits.f(_PROFILE_BITS)
    present = [(bits.f(1), bits.f(1)) for _ in range(layers)]
    if layers:
        bits.f(2 * (8 - layers))
    for profile, level in present:
        bits.f(_SUBLAYER_PROFILE_BITS * profile)
        bits.f(_LEVEL_BITS * level)
    bits.ue()
    if bits.ue() == _CHROMA_444:
        bits.f(1)
    return bits.ue(), bits.ue()


def _sequence_header(bits: _Bits) -> tuple[int, int, tuple[int, int] | None]:
    f = bits.f
    profile = f(3)
    f(1)
    reduced = f(1)
    if reduced:
        f(5)
    else:
        _skip_operating_points(bits)
    across, down = f(4) + 1, f(4) + 1
    width, height = f(across) + 1, f(down) + 1
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
    return width, height, (f(8), f(8)) if f(1) else None


def _skip_operating_points(bits: _Bits) -> None:
    f, delay_bits = bits.f, 0
    if f(1):
        f(64)
        if f(1):
            bits.ue()
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
