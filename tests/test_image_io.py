"""Image files: what OpenCV reads differently from the file's intent, and how files are written."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from vheatir.errors import VHeatIRError
from vheatir.image_io import (
    decode_image,
    list_images,
    read_image,
    remove_unfinished,
    write_bytes_atomically,
)
from vheatir.inference.files import read_photograph, read_photograph_file

RNG = np.random.default_rng(0)
COLORS = RNG.integers(0, 256, (12, 15, 3), np.uint8)
DEEP = RNG.integers(0, 65_536, (12, 15, 3), np.uint16)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    tifffile.imwrite(out, pixels, **options)
    return out.getvalue()


def pnm(pixels: np.ndarray, largest: int, comment: str = "") -> bytes:
    kind = "P5" if pixels.ndim == 2 else "P6"
    header = f"{kind}\n{comment}{pixels.shape[1]} {pixels.shape[0]}\n{largest}\n".encode()
    return header + pixels.astype(">u2" if largest > 255 else np.uint8).tobytes()


@pytest.mark.parametrize("read", [decode_image, read_photograph])
def test_deep_tiffs_with_separate_planes_are_refused(read) -> None:
    planes = np.ascontiguousarray(DEEP.transpose(2, 0, 1))
    data = tiff(planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(VHeatIRError, match="x.tif is a 16-bit TIFF with separate colour planes"):
        read(data, "x.tif", 1000)
    planes = np.ascontiguousarray(COLORS.transpose(2, 0, 1))
    data = tiff(planes, photometric="rgb", planarconfig="separate")
    pixels = read(data, "x.tif", 1000)
    np.testing.assert_array_equal(getattr(pixels, "pixels", pixels), COLORS)


@pytest.mark.parametrize("largest", [100, 255, 1023, 4095, 65_535])
@pytest.mark.parametrize("shape", [(12, 15), (12, 15, 3)])
@pytest.mark.parametrize("comment", ["", "# by a camera\n#12 15 7\n"])
def test_the_largest_value_of_pnm_is_white(largest: int, shape: tuple[int, ...], comment) -> None:
    pixels = np.random.default_rng(largest).integers(0, largest, shape, endpoint=True)
    white = 255 if largest < 256 else 65_535
    decoded = decode_image(pnm(pixels, largest, comment))
    assert decoded.dtype == (np.uint8 if largest < 256 else np.uint16)
    assert np.abs(decoded - pixels * (white / largest)).max() <= 0.5 + 1e-9
    photo = read_photograph(pnm(pixels, largest, comment), "x.ppm", 1000)
    assert np.abs(photo.pixels.astype(int) - decoded).max() <= 1  # Pillow may round the other way


def test_inverted_and_premultiplied_tiffs() -> None:
    gray = DEEP[..., 0]
    for data, expected in (
        (tiff(gray, photometric="miniswhite"), 65_535 - gray),
        (tiff(COLORS[..., 0], photometric="miniswhite"), 255 - COLORS[..., 0]),
        (tiff(gray, photometric="minisblack"), gray),
    ):
        np.testing.assert_array_equal(decode_image(data), expected)
    alpha = np.full((*DEEP.shape[:2], 1), 40_000, np.uint16)
    premultiplied = np.rint(DEEP * (40_000 / 65_535)).astype(np.uint16)
    both = np.concatenate([premultiplied, alpha], axis=2)
    decoded = decode_image(tiff(both, photometric="rgb", extrasamples=["assocalpha"])).astype(int)
    assert np.abs(decoded[..., :3] - DEEP).max() <= 1
    np.testing.assert_array_equal(decoded[..., 3:], alpha)
    both = np.concatenate([DEEP, alpha], axis=2)
    decoded = decode_image(tiff(both, photometric="rgb", extrasamples=["unassalpha"]))
    np.testing.assert_array_equal(decoded, both)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_video_behind_a_jpeg_is_ignored_and_a_truncated_one_refused(progressive: bool) -> None:
    out = io.BytesIO()
    Image.fromarray(np.repeat(COLORS, 9, axis=0)).save(out, "JPEG", progressive=progressive)
    complete = out.getvalue()
    expected = decode_image(complete)
    for seed in range(20):
        video = np.random.default_rng(seed).bytes(100_000)
        np.testing.assert_array_equal(decode_image(complete + video), expected)
    for cut in (len(complete) // 2, len(complete) * 3 // 4, len(complete) - 3):
        with pytest.raises(VHeatIRError, match="cannot be read as an image"):
            decode_image(complete[:cut])


def test_fill_bytes_before_markers_are_valid() -> None:
    out = io.BytesIO()
    Image.fromarray(COLORS).save(out, "JPEG")
    complete, fill = out.getvalue(), b"\xff" * 9
    for at in (2, complete.index(b"\xff\xda"), len(complete) - 2):
        filled = complete[:at] + fill + complete[at:]
        np.testing.assert_array_equal(decode_image(filled), decode_image(complete))


@pytest.mark.timeout(60)
def test_a_long_run_of_fill_bytes_is_searched_once() -> None:
    """A megabyte would take a day if the search started again at each byte of the run."""
    out = io.BytesIO()
    Image.fromarray(COLORS).save(out, "JPEG")
    endless = out.getvalue()[:-2] + b"\xff" * 1_000_000 + b"\0"
    with pytest.raises(VHeatIRError, match="cannot be read as an image"):
        decode_image(endless)


def test_bitmaps_in_a_folder_are_read(tmp_path: Path) -> None:
    bits = COLORS[..., 0] > 127
    for name in ("a.pbm", "b.PNM"):
        Image.fromarray(bits).save(tmp_path / name, "PPM")
    assert [path.name for path in list_images(tmp_path)] == ["a.pbm", "b.PNM"]
    for path in list_images(tmp_path):
        np.testing.assert_array_equal(read_image(path), bits * np.uint8(255))
        np.testing.assert_array_equal(read_photograph_file(path).pixels, bits * np.uint8(255))


def test_the_files_of_macos_and_folders_are_no_images(tmp_path: Path) -> None:
    (tmp_path / "album.jpg").mkdir()
    for name in ("a.jpg", "._a.jpg", "album.jpg/b.PNG", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert list_images(tmp_path) == [tmp_path / "a.jpg", tmp_path / "album.jpg" / "b.PNG"]


@pytest.mark.parametrize("name", ["a" * 255, "é" * 125 + ".jpg", "写" * 83 + ".png"])
def test_names_as_long_as_the_file_system_allows(tmp_path: Path, name: str) -> None:
    try:
        (tmp_path / name).write_bytes(b"old")
    except OSError:
        pytest.skip("this file system has shorter names")
    write_bytes_atomically(tmp_path / name, b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(name, b"new")]


@pytest.mark.parametrize("name", ["weights.safetensors", "100.state", "x" * 250, "no_suffix"])
def test_only_unfinished_files_are_removed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    others = (".my.notes", ".vheatir-restored.jsonl", ".gitignore", ".a.tar.gz", "a.0123456789ab")
    for other in others:
        (tmp_path / other).touch()
    with monkeypatch.context() as patch:  # as if the process were killed before renaming
        patch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        patch.setattr(os, "unlink", lambda _: None)
        with pytest.raises(KeyboardInterrupt):
            write_bytes_atomically(tmp_path / name, b"")
    assert len(list(tmp_path.iterdir())) == len(others) + 1
    remove_unfinished(tmp_path, "*.other")
    assert len(list(tmp_path.iterdir())) == len(others) + 1
    remove_unfinished(tmp_path, "*.state" if name.endswith(".state") else "*")
    assert {path.name for path in tmp_path.iterdir()} == {*others}


@pytest.mark.skipif(os.name == "nt", reason="no modes on Windows")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_files_are_created_with_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_bytes_atomically(tmp_path / "x", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o666 & ~umask
