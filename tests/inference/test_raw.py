"""Raw files are detected by their content; ordinary TIFFs are not raw."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image

from vheatir.errors import UnsupportedImageError
from vheatir.inference import raw
from vheatir.inference.files import read_photograph, read_photograph_file
from vheatir.inference.raw import RAW_SUFFIXES, is_raw

PREVIEW = np.random.default_rng(0).integers(0, 255, (6, 9, 3), dtype=np.uint8)
SENSOR = np.random.default_rng(1).integers(0, 16383, (24, 36), dtype=np.uint16)
DNG_VERSION = (50706, "B", 4, (1, 4, 0, 0), True)
PLAIN: dict[str, Any] = {"metadata": None, "software": False}


def tiff(*images: dict[str, Any], **writer: Any) -> bytes:
    out = io.BytesIO()
    with tifffile.TiffWriter(out, **writer) as file:
        for image in images:
            file.write(**PLAIN, **image)
    return out.getvalue()


def with_nested(preview: dict[str, Any], nested: dict[str, Any], **writer: Any) -> bytes:
    """Return a file whose first image is a preview, with a nested second image."""
    first = {"data": PREVIEW, "photometric": "rgb", "subifds": 1, **preview}
    return tiff(first, {"data": SENSOR, **nested}, **writer)


CFA = {"photometric": 32803, "subfiletype": 0}
FILES = {
    "dng": tiff({"data": PREVIEW, "photometric": "rgb", "extratags": [DNG_VERSION]}),
    "nef": with_nested({"subfiletype": 1}, CFA, byteorder=">"),
    "cfa": tiff({"data": SENSOR, "photometric": 32803}),
    "second page": tiff({"data": PREVIEW, "photometric": "rgb"}, {"data": SENSOR, **CFA}),
    "full-size preview": with_nested({}, CFA),
    "linear": with_nested(
        {}, {"data": np.dstack([SENSOR] * 3), "photometric": 34892}, bigtiff=True
    ),
    "preview of another": with_nested({"subfiletype": 1}, {"photometric": "minisblack"}),
    "cr2": b"II*\0\x10\0\0\0CR\x02\0" + bytes(40),
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\x01crx isom" + bytes(40),
    "crw": b"II\x1a\0\0\0HEAPCCDR" + bytes(40),
    "raf": b"FUJIFILMCCD-RAW 0201FF389501" + bytes(40),
    "orf": b"IIRO\x08\0\0\0" + bytes(40),
    "rw2": b"IIU\0\x18\0\0\0" + bytes(40),
    "x3f": b"FOVb" + bytes(40),
    "mrw": b"\0MRM" + bytes(40),
    "iiq": b"II*\0\x10\0\0\0IIII" + bytes(40),
}


@pytest.mark.parametrize("compression", [32767, 34713, 65535])
def test_a_cameras_compression_is_raw(compression: int) -> None:
    data = bytearray(tiff({"data": SENSOR, "photometric": "minisblack"}))
    tag = data.index(b"\x03\x01\x03\0\x01\0\0\0")  # compression, one SHORT
    data[tag + 8 : tag + 10] = compression.to_bytes(2, "little")
    assert is_raw(bytes(data))


@pytest.mark.parametrize("name", FILES)
def test_raw_files_are_refused_under_any_name(name: str, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedImageError, match="'photo.tif' is a raw file.*develop it") as e:
        read_photograph(FILES[name], "'photo.tif'", 10_000)
    assert "\n" not in str(e.value)


def test_their_previews_would_be_read_otherwise() -> None:
    """Pillow opens the preview of such a file, which must not be restored."""
    for name in ("dng", "nef"):
        with Image.open(io.BytesIO(FILES[name])) as image:
            np.testing.assert_array_equal(np.asarray(image), PREVIEW)


def test_suffixes_are_believed_too(tmp_path: Path) -> None:
    for suffix in RAW_SUFFIXES:
        path = tmp_path / f"a{suffix.upper()}"
        path.write_bytes(b"of a maker whose format is unknown here")
        with pytest.raises(UnsupportedImageError, match="is a raw file"):
            read_photograph_file(path)


def test_ordinary_tiffs_are_no_raw_files() -> None:
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "NIKON CORPORATION", 1
    plain = io.BytesIO()
    Image.fromarray(PREVIEW).save(plain, "TIFF", exif=exif, compression="tiff_lzw")
    pyramid = tiff(
        {"data": SENSOR, "photometric": "minisblack", "subifds": 1},
        {"data": SENSOR[::2, ::2], "photometric": "minisblack", "subfiletype": 1},
    )
    for data in (
        plain.getvalue(),
        pyramid,
        tiff({"data": PREVIEW, "photometric": "rgb", "tile": (16, 16)}, byteorder=">"),
        tiff({"data": SENSOR, "photometric": "minisblack"}, bigtiff=True),
        b"",
        b"II*\0",
        b"II*\0\xff\xff\xff\xff",
    ):
        assert not is_raw(data)
    np.testing.assert_array_equal(read_photograph(plain.getvalue(), "a", 1000).pixels, PREVIEW)


def test_damaged_directories_end() -> None:
    loop = b"II*\0\x08\0\0\0" + b"\x01\0" + b"\x4a\x01\x04\0\x01\0\0\0\x08\0\0\0" + b"\x08\0\0\0"
    assert not is_raw(loop)
    data = FILES["nef"]
    for end in range(0, len(data), 7):
        is_raw(data[:end])
    many = b"II*\0\x08\0\0\0" + b"\xff\xff" + b"\xff" * 400
    assert not is_raw(many)


def test_a_damaged_count_does_not_hide_the_nested_image() -> None:
    data = bytearray(FILES["full-size preview"])
    assert data[4:10] == struct.pack("<IH", 8, data[8])
    data[8:10] = b"\xff\xff"
    assert is_raw(bytes(data))


def test_overlapping_directories_are_not_all_read_to_the_end_of_the_file() -> None:
    targets, first = 60, 16 + 8 + 20 + 8
    start = first + 8 * targets
    data = b"".join((
        b"II+\0", struct.pack("<HHQ", 8, 0, 16),
        struct.pack("<QHHQQQ", 1, 330, 16, targets, first, 0),  # one tag: the nested directories
        *(struct.pack("<Q", start + 8 * number) for number in range(targets)),
        struct.pack("<Q", 1 << 40) * targets,  # entries, they claim
        np.random.default_rng(0).bytes(20_000),
    ))  # fmt: skip
    found = list(raw._directories(data))
    assert len(found) == 1 + targets
    assert sum(map(len, found)) <= 256 * targets  # 1000 * targets fit into the file
