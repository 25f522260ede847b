"""Uploads: size check before decoding, EXIF orientation, one-line errors."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vheatir.demo.uploads import delete_old, describe, read_upload
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image


def test_a_tiff_is_turned_once_and_keeps_its_colours_under_alpha(tmp_path: Path) -> None:
    # OpenCV applies a TIFF's orientation itself, and premultiplies alpha.
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (4, 7, 4), dtype=np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(tmp_path / "photo.tiff", exif=exif)
    expected = np.rot90(np.asarray(image), -1)
    np.testing.assert_array_equal(read_upload(tmp_path / "photo.tiff", 1000).pixels, expected)


def test_gray_and_alpha_become_rgba_without_the_profile(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 255, (4, 7, 2), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "a.png", icc_profile=b"of a gray image")
    photo = read_upload(tmp_path / "a.png", 1000)
    np.testing.assert_array_equal(photo.pixels, image[..., [0, 0, 0, 1]])
    assert photo.metadata.icc is None


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    image = np.random.default_rng(0).integers(0, 65535, (5, 6, 4), dtype=np.uint16)
    write_image(tmp_path / "deep.png", image)
    np.testing.assert_array_equal(read_upload(tmp_path / "deep.png", 30).pixels, image)
    assert describe(image) == "6 × 5, 16-bit RGB with alpha"


def test_a_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    for side in (10_000, 60_000):  # above Pillow's warning limit, and above its error limit
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path = tmp_path / f"bomb{side}.png"
        # No pixel data at all: decoding would raise another error.
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
        with pytest.raises(VHeatIRError, match="25 megapixels at most"):
            read_upload(path, 25_000_000)


def test_what_is_not_an_image_is_refused_by_its_name(tmp_path: Path) -> None:
    (tmp_path / "file.png").write_bytes(b"hello")
    with pytest.raises(VHeatIRError, match="'file.png' is not an image") as caught:
        read_upload(tmp_path / "file.png", 1000)
    assert str(tmp_path) not in str(caught.value)


def test_old_files_are_deleted_and_new_ones_kept(tmp_path: Path) -> None:
    (tmp_path / "hash").mkdir()
    paths = [tmp_path / "hash" / "old.png", tmp_path / "hash" / "new.png", tmp_path / "tmpbroken",
             tmp_path / "tmpgoing", tmp_path / "hash" / "foreign.png"]  # fmt: skip
    for path in paths:
        path.write_bytes(b"x")
    for path in (paths[0], paths[2], paths[4]):
        os.utime(path, (0, 0))
    tracked = {str(paths[0]), str(paths[1]), str(tmp_path / "hash" / "not_yet.png")}
    delete_old(tmp_path, [tracked], 60)
    assert [path.exists() for path in paths] == [False, True, False, True, True]
    assert tracked == {str(paths[1]), str(tmp_path / "hash" / "not_yet.png")}


def test_empty_folders_are_deleted_when_they_are_old(tmp_path: Path) -> None:
    emptied, new, used, foreign = (tmp_path / name for name in ("0" * 64, "a" * 64, "f" * 64, "x"))
    for folder in (emptied, new, used, foreign):
        folder.mkdir()
    (used / "kept.png").write_bytes(b"x")
    (emptied / "old.png").write_bytes(b"x")
    os.utime(emptied / "old.png", (0, 0))
    tracked = {str(emptied / "old.png")}
    delete_old(tmp_path, [tracked], 60)
    # The folder has just changed: an upload may be about to write its file.
    assert not tracked and emptied.is_dir()
    for folder in (emptied, used, foreign):
        os.utime(folder, (0, 0))
    delete_old(tmp_path, [tracked], 60)
    assert sorted(tmp_path.iterdir()) == sorted([new, used, foreign])
