"""EXIF blocks: upright, and otherwise as they were."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from vheatir.inference.exif import PREFIX, upright_exif
from vheatir.inference.files import encode_photograph, read_photograph

ARTIST = "Jörg Müller"
MAKER = b"Maker\0" + bytes(range(40))
THUMBNAIL = b"\xff\xd8 thumbnail \xff\xd9"
ASCII, SHORT, LONG, UNDEFINED = 2, 3, 4, 7


def directory(order: str, at: int, entries: list[tuple[int, int, Any]]) -> bytes:
    """Return a directory at an offset, without the offset of the next one; its data follow."""
    data_at, table, data = at + 2 + 12 * len(entries) + 4, b"", b""
    for tag, kind, value in entries:
        table += struct.pack(order + "HH", tag, kind)
        if isinstance(value, int):
            number = struct.pack(order + ("H" if kind == SHORT else "I"), value)
            table += struct.pack(order + "I", 1) + number.ljust(4, b"\0")
        else:
            table += struct.pack(order + "II", len(value), data_at + len(data))
            data += value + bytes(len(value) % 2)
    return struct.pack(order + "H", len(entries)) + table + b"NEXT" + data


def block(order: str = "<") -> bytes:
    """Return an EXIF block of an image of 9 x 6 pixels, to be turned, with a thumbnail."""
    artist = ARTIST.encode() + b"\0"
    first: list[tuple[int, int, Any]] = [(0x0112, SHORT, 6), (0x013B, ASCII, artist)]
    details_at = 8 + len(directory(order, 8, [*first, (0x8769, LONG, 0)]))
    details = directory(
        order, details_at, [(0x927C, UNDEFINED, MAKER), (0xA002, SHORT, 9), (0xA003, SHORT, 6)]
    ).replace(b"NEXT", bytes(4))
    second_at = details_at + len(details)
    places = [(0x0201, LONG, 0), (0x0202, LONG, len(THUMBNAIL))]
    thumbnail_at = second_at + len(directory(order, second_at, places))
    places[0] = (0x0201, LONG, thumbnail_at)
    parts = (
        directory(order, 8, [*first, (0x8769, LONG, details_at)]).replace(
            b"NEXT", struct.pack(order + "I", second_at)
        ),
        details,
        directory(order, second_at, places).replace(b"NEXT", bytes(4)),
        THUMBNAIL,
    )
    header = b"II*\0" if order == "<" else b"MM\0*"
    return PREFIX + header + struct.pack(order + "I", 8) + b"".join(parts)


@pytest.mark.parametrize("order", ["<", ">"])
def test_only_orientation_size_and_thumbnail_change(order: str) -> None:
    before = block(order)
    after = upright_exif(before, 9, 6)
    assert THUMBNAIL not in after and MAKER in after and ARTIST.encode() in after
    assert after.index(MAKER) == before.index(MAKER)
    exif = Image.Exif()
    exif.load(after)
    details = exif.get_ifd(0x8769)
    assert (exif[0x0112], details[0xA002], details[0xA003]) == (1, 6, 9)
    assert details[0x927C] == MAKER
    assert exif.get_ifd(1) == {}  # the second directory
    changed = sum(a != b for a, b in zip(before, after, strict=False))
    assert changed < 20
    assert upright_exif(before.removeprefix(PREFIX), 9, 6) == after


def test_every_truncated_block_is_read_or_dropped() -> None:
    whole = block()
    for length in range(len(whole)):
        found = upright_exif(whole[:length], 9, 6)
        assert not found or found.startswith(PREFIX)
    assert upright_exif(b"Exif\0\0not a TIFF header", 9, 6) == b""
    only_orientation = Image.Exif()
    only_orientation[0x0112] = 8
    assert upright_exif(only_orientation.tobytes(), 9, 6) == b""


def test_damaged_blocks_prevent_neither_reading_nor_writing() -> None:
    rng = random.Random(0)
    for _ in range(300):
        damaged = bytearray(block(rng.choice("<>")))
        for _ in range(rng.choice([1, 2, 4])):
            damaged[rng.randrange(len(PREFIX), len(damaged))] = rng.choice([0, 1, 2, 5, 7, 12, 255])
        stream = io.BytesIO()
        Image.new("RGB", (9, 6)).save(stream, "JPEG", exif=bytes(damaged))
        photo = read_photograph(stream.getvalue(), "photo", 1000)
        for pixels in (photo.pixels, photo.pixels.astype(np.uint16)):
            for fmt in ("jpg", "png", "webp", "tiff"):
                again = read_photograph(encode_photograph(pixels, fmt, photo.metadata), fmt, 1000)
                assert again.pixels.shape[1] in (6, 9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("fmt", ["jpg", "png", "webp", "tiff", "deep tiff"])
def test_text_and_manufacturers_notes_survive_a_file(kind: str, fmt: str) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 6), "teal").save(stream, kind, exif=block())
    photo = read_photograph(stream.getvalue(), "photo", 1000)
    assert photo.pixels.shape == (9, 6, 3)
    deep = fmt == "deep tiff"
    pixels = photo.pixels.astype(np.uint16) * 257 if deep else photo.pixels
    data = encode_photograph(pixels, "tiff" if deep else fmt, photo.metadata)
    assert ARTIST.encode() in data
    if deep:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            exif = file.pages[0].tags[0x8769].value
            assert exif["MakerNote"] == MAKER and exif["PixelXDimension"] == 6
            np.testing.assert_array_equal(file.asarray(), pixels)
    else:
        with Image.open(io.BytesIO(data)) as image:
            assert image.getexif().get_ifd(0x8769)[0x927C] == MAKER
            assert image.getexif().get(0x0112, 1) == 1
    again = read_photograph(data, "again", 1000)
    np.testing.assert_array_equal(again.pixels.shape, pixels.shape)


def test_positions_are_kept_in_tiff_of_16_bits() -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    exif.get_ifd(0x8825).update({1: "N", 2: (48.0, 1.0, 1.23)})
    exif.get_ifd(0x8769).update({0x9003: "2024:01:01 00:00:00"})
    stream = io.BytesIO()
    Image.new("RGB", (9, 6)).save(stream, "JPEG", exif=exif)
    photo = read_photograph(stream.getvalue(), "photo", 1000)
    data = encode_photograph(photo.pixels.astype(np.uint16), "tiff", photo.metadata)
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        tags = file.pages[0].tags
        assert tags[0x8825].value["GPSLatitudeRef"] == "N"
        assert tags[0x8769].value["DateTimeOriginal"] == "2024:01:01 00:00:00"
        assert tags[0x010F].value == "maker"
    # Also from a TIFF, whose own layout is left out.
    again = read_photograph(data, "again", 1000)
    jpeg = encode_photograph(photo.pixels, "jpg", again.metadata)
    assert Image.open(io.BytesIO(jpeg)).getexif().get_ifd(0x8825)[1] == "N"


def test_text_of_a_tiff_is_not_changed() -> None:
    stream = io.BytesIO()
    Image.new("RGB", (9, 6)).save(stream, "TIFF", tiffinfo={0x013B: ARTIST.encode()})
    assert ARTIST.encode() in stream.getvalue()
    photo = read_photograph(stream.getvalue(), "photo", 1000)
    for fmt in ("png", "jpg", "tiff"):
        assert ARTIST.encode() in encode_photograph(photo.pixels, fmt, photo.metadata), fmt
