"""HEIC, HEIF and AVIF: orientation, colours, and clear errors for unsupported files."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms, ImageOps, features

from vheatir.bundled import heldout_photographs
from vheatir.errors import UnsupportedImageError, VHeatIRError
from vheatir.inference import heif
from vheatir.inference.files import (
    Metadata,
    default_format,
    default_suffix,
    encode_photograph,
    read_photograph,
)
from vheatir.inference.heif import is_heif, read_header, to_16_bits
from vheatir.inference.heif_streams import av1_sequence

PHOTO = heldout_photographs()["chelsea"][100:164, 150:246]
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6" dc:title="a"/></x:xmpmeta>'
MOST = 100_000
KINDS = ["HEIF", "AVIF"]


def encode(kind: str, pixels: np.ndarray = PHOTO, **options: Any) -> bytes:
    """Encode as losslessly as the encoders allow."""
    out = io.BytesIO()
    if kind == "AVIF":
        if not features.check("avif"):
            pytest.skip("this Pillow has no AVIF")
        exact = {"quality": 100, "subsampling": "4:4:4" if pixels.ndim == 3 else "4:0:0"}
        Image.fromarray(pixels).save(out, "AVIF", **exact | options)
        return out.getvalue()
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    mode = {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    mode = mode if pixels.dtype == np.uint8 else f"{'I' if channels == 1 else mode};16"
    file = heif.from_bytes(mode, pixels.shape[1::-1], pixels.tobytes())
    file.info.update({"exif": options.pop("exif", None), "xmp": options.pop("xmp", None)})
    orientation = options.pop("orientation", 1)
    if orientation != 1:
        options["image_orientation"] = orientation
    file.save(out, **{"quality": -1, "chroma": 444} | options)
    return out.getvalue()


def deep(kind: str, depth: int = 10) -> tuple[bytes, np.ndarray]:
    """Return a file of 10 or 12 bits and its pixels, rescaled to 16 bits."""
    pixels = PHOTO.astype(np.uint16) * (1 << depth - 8) + 1
    if kind == "AVIF":
        if not cv2.haveImageWriter(".avif"):
            pytest.skip("this OpenCV has no AVIF")
        options = [cv2.IMWRITE_AVIF_DEPTH, depth, cv2.IMWRITE_AVIF_QUALITY, 100]
        data = cv2.imencode(".avif", pixels[..., ::-1].copy(), options)[1].tobytes()
    else:
        heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
        before = heif.options.SAVE_HDR_TO_12_BIT
        heif.options.SAVE_HDR_TO_12_BIT = depth == 12
        data = encode(kind, pixels << 16 - depth)
        heif.options.SAVE_HDR_TO_12_BIT = before
    return data, np.rint(pixels * (65535 / ((1 << depth) - 1))).astype(np.uint16)


def make_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, "a harbour"
    exif.get_ifd(0x8769).update({0xA002: 96, 0xA003: 64, 0x829A: 0.5})
    return exif.tobytes()


def turned(orientation: int) -> np.ndarray:
    out = io.BytesIO()
    Image.fromarray(PHOTO).save(out, "PNG", exif=make_exif(orientation))
    return np.asarray(ImageOps.exif_transpose(Image.open(out)))


def assert_near(pixels: np.ndarray, expected: np.ndarray, tolerance: int) -> None:
    assert (pixels.shape, pixels.dtype) == (expected.shape, expected.dtype)
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance


def heif_turned(orientation: int) -> bytes:
    """Return a HEIF file with irot and imir, and the orientation in its EXIF block too."""
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    out = io.BytesIO()
    file = heif.from_bytes("RGB", PHOTO.shape[1::-1], PHOTO.tobytes())
    file.save(out, quality=-1, chroma=444, exif=make_exif(orientation))
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    if kind == "AVIF":
        data = encode(kind, exif=make_exif(orientation))
    else:
        data = heif_turned(orientation)
    assert (b"irot" in data or b"imir" in data) == (orientation > 1)
    photo = read_photograph(data, "photo", MOST)
    assert_near(photo.pixels, turned(orientation), 3)
    for fmt in ("jpg", "png"):
        again = Image.open(io.BytesIO(encode_photograph(photo.pixels, fmt, photo.metadata)))
        exif = again.getexif()
        assert (exif.get(0x0112, 1), exif[0x010E]) == (1, "a harbour")
        details = exif.get_ifd(0x8769)
        assert (details[0xA002], details[0xA003]) == again.size == photo.pixels.shape[1::-1]


def test_orientation_in_exif_alone_does_not_count() -> None:
    """As in the standard and in other readers: only the boxes of the file are used."""
    data = heif_turned(6).replace(b"irot", b"free").replace(b"imir", b"free")
    photo = read_photograph(data, "photo", MOST)
    assert_near(photo.pixels, PHOTO, 3)
    written = encode_photograph(photo.pixels, "jpg", photo.metadata)
    assert Image.open(io.BytesIO(written)).getexif().get(0x0112, 1) == 1


@pytest.mark.parametrize("target", ["jpg", "png", "webp", "tiff"])
@pytest.mark.parametrize("kind", KINDS)
def test_profile_exif_and_xmp_are_kept(kind: str, target: str) -> None:
    data = encode(kind, icc_profile=ICC, exif=make_exif(1), xmp=XMP)
    photo = read_photograph(data, "photo", MOST)
    again = Image.open(io.BytesIO(encode_photograph(photo.pixels, target, photo.metadata)))
    again.load()
    assert again.info["icc_profile"] == ICC
    assert again.getexif()[0x010E] == "a harbour"
    packet = again.info.get("xmp") or again.info.get("XML:com.adobe.xmp")
    assert b'dc:title="a"' in packet and b"Orientation" not in packet


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", ["gray", "rgb", "rgba"])
def test_channels_stay_and_say_what_is_written(kind: str, shape: str, tmp_path: Path) -> None:
    gray = PHOTO[:, :, 1]
    pixels = {"gray": gray, "rgb": PHOTO, "rgba": np.dstack([PHOTO, gray])}[shape]
    data = encode(kind, pixels)
    photo = read_photograph(data, "photo", MOST)
    assert photo.format == kind and photo.quality is None
    assert_near(photo.pixels, pixels, 3)
    fmt = "png" if shape == "rgba" else "jpg"  # which does not support transparency
    assert default_format(photo) == fmt
    for suffix in (".heic", ".HEIF", ".hif", ".avif"):
        path = tmp_path / f"a{suffix}"
        path.write_bytes(data)
        assert default_suffix(path) == f".{fmt}"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [10, 12])
def test_ten_and_twelve_bits_become_sixteen(kind: str, depth: int, tmp_path: Path) -> None:
    data, expected = deep(kind, depth)
    photo = read_photograph(data, "photo", MOST)
    assert_near(photo.pixels, expected, 4 * 65535 >> depth)
    assert default_format(photo) == "png"
    (tmp_path / "a.heic").write_bytes(data)
    assert default_suffix(tmp_path / "a.heic") == ".png"
    written = encode_photograph(photo.pixels, "png", photo.metadata)
    np.testing.assert_array_equal(
        cv2.imdecode(np.frombuffer(written, np.uint8), cv2.IMREAD_UNCHANGED)[..., ::-1],
        photo.pixels,
    )


def test_white_is_white_in_any_depth() -> None:
    for depth in (10, 12, 16):
        ends = np.array([0, (1 << depth) - 1], np.uint16)
        np.testing.assert_array_equal(to_16_bits(ends, depth), [0, 65535])


@pytest.mark.parametrize("target", ["jpg", "png", "webp", "tiff"])
def test_display_p3_by_code_points_alone_gets_its_profile(target: str) -> None:
    data = encode("HEIF", color_primaries=12, transfer_characteristics=13)
    photo = read_photograph(data, "photo", MOST)
    assert_near(photo.pixels, PHOTO, 3)  # in the RGB colour space of the file
    again = Image.open(io.BytesIO(encode_photograph(photo.pixels, target, photo.metadata)))
    profile = ImageCms.ImageCmsProfile(io.BytesIO(again.info["icc_profile"]))
    assert "Display P3" in ImageCms.getProfileDescription(profile)
    # Apple's profile of that name
    xyz = [0.51512, 0.29198, 0.15710, 0.24120, 0.69225, 0.06657, -0.00105, 0.04189, 0.78407]
    core = profile.profile
    made = np.array([core.red_colorant[0], core.green_colorant[0], core.blue_colorant[0]])
    np.testing.assert_allclose(made, np.array(xyz).reshape(3, 3).T, atol=2e-4)


def patched_nclx(data: bytes, primaries: int, transfer: int) -> bytes:
    at = data.index(b"colrnclx") + 8
    return data[:at] + struct.pack(">HH", primaries, transfer) + data[at + 4 :]


@pytest.mark.parametrize(("transfer", "name"), [(16, "PQ"), (18, "HLG")])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("depth", [8, 10])
def test_hdr_is_refused(kind: str, depth: int, transfer: int, name: str) -> None:
    data = encode(kind) if depth == 8 else deep(kind)[0]
    hdr = patched_nclx(data, 9, transfer)
    with pytest.raises(UnsupportedImageError, match=rf"a.heic is HDR \({name}\), .*SDR first"):
        read_photograph(hdr, "a.heic", MOST)


def test_hdr_in_an_av1_stream_without_a_box_is_seen() -> None:
    data = bytearray(encode("AVIF"))
    sequence = read_header(io.BytesIO(data))
    data[data.index(b"colrnclx") : data.index(b"colrnclx") + 4] = b"free"
    without = read_header(io.BytesIO(data))
    # Pillow's encoder also writes the code points into the stream.
    assert without.cicp == sequence.cicp == (1, 13)


@pytest.mark.parametrize("transfer", [16, 18])
def test_hdr_in_png_and_in_profiles_is_refused(transfer: int) -> None:
    tag = b"cicp" + bytes(4) + bytes([9, transfer, 0, 1])
    head = bytes(128) + (1).to_bytes(4, "big") + b"cicp"
    icc = head + (144).to_bytes(4, "big") + (12).to_bytes(4, "big") + tag
    jpeg = encode_photograph(PHOTO, "jpg", Metadata(icc=icc))
    plain = encode_photograph(PHOTO, "png", Metadata())
    chunk = b"cICP" + bytes([9, transfer, 0, 1])
    chunk = b"\0\0\0\x04" + chunk + struct.pack(">I", zlib.crc32(chunk))
    for data in (jpeg, plain[:33] + chunk + plain[33:]):
        with pytest.raises(UnsupportedImageError, match="HDR"):
            read_photograph(data, "photo", MOST)
    read_photograph(plain, "photo", MOST)


def test_the_primary_image_of_several_is_taken() -> None:
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    file = heif.from_pillow(Image.fromarray(255 - PHOTO))
    file.add_from_pillow(Image.fromarray(PHOTO))
    out = io.BytesIO()
    file.save(out, primary_index=1, quality=-1, chroma=444)
    assert_near(read_photograph(out.getvalue(), "burst", MOST).pixels, PHOTO, 3)


def test_sequences_are_refused() -> None:
    out = io.BytesIO()
    frames = [Image.fromarray(255 - PHOTO)]
    if not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    Image.fromarray(PHOTO).save(out, "AVIF", save_all=True, append_images=frames)
    with pytest.raises(VHeatIRError, match="several images"):
        read_photograph(out.getvalue(), "moving", MOST)
    data = bytearray(encode("HEIF"))
    data[8:12] = b"hevc"
    with pytest.raises(VHeatIRError, match="sequence of images"):
        read_photograph(bytes(data), "moving", MOST)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = encode("HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(UnsupportedImageError, match="pip install pillow-heif") as caught:
        read_photograph(data, "a.heic", MOST)
    assert "\n" not in str(caught.value)
    (tmp_path / "a.heic").write_bytes(data)
    assert default_suffix(tmp_path / "a.heic") == ".jpg"  # planning does not need the package
    # AVIF does not need it.
    assert_near(read_photograph(encode("AVIF"), "a.avif", MOST).pixels, PHOTO, 3)


def test_pillows_own_readers_are_left_as_they_were() -> None:
    read_photograph(encode("HEIF"), "photo", MOST)
    code = "import vheatir.inference.files, sys; assert 'pillow_heif' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


def with_tiles() -> bytes:
    """Return a file with a grid of tiles, as written by phones."""
    pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    return encode("HEIF", tile_size=32)


def test_tiles_are_joined() -> None:
    data = with_tiles()
    header = read_header(io.BytesIO(data))
    assert (header.width, header.height, header.codec) == (96, 64, "hvc1")
    assert b"grid" in data
    assert_near(read_photograph(data, "photo", MOST).pixels, PHOTO, 3)


@pytest.mark.parametrize("kind", [*KINDS, "tiles", "deep HEIF", "deep AVIF"])
def test_truncated_files_are_refused_wherever_they_end(kind: str) -> None:
    if kind == "tiles":
        data = with_tiles()
    else:
        data = deep(kind[5:])[0] if kind.startswith("deep") else encode(kind)
    for end in (*range(0, 700, 13), *range(700, len(data), len(data) // 40), len(data) - 1):
        with pytest.raises(VHeatIRError) as caught:
            read_photograph(data[:end], "photo", MOST)
        assert "\n" not in str(caught.value) and str(caught.value).startswith("photo ")


def patched_size(data: bytes, width: int, height: int) -> bytes:
    at = data.index(b"ispe") + 8
    return data[:at] + struct.pack(">II", width, height) + data[at + 8 :]


@pytest.mark.parametrize("kind", KINDS)
def test_large_ones_are_refused_by_their_header(kind: str) -> None:
    data = encode(kind)
    with pytest.raises(VHeatIRError, match="photo has 96 x 64 pixels"):
        read_photograph(data, "photo", 1000)
    for side in (20_000, 2**31 - 1, 2**32 - 1):
        with pytest.raises(VHeatIRError, match="at most"):
            read_photograph(patched_size(data, side, side), "photo", MOST)


@pytest.mark.parametrize("kind", KINDS)
def test_a_large_stream_behind_a_small_size_is_refused(kind: str) -> None:
    fast: dict[str, Any] = {"speed": 10}
    if kind == "HEIF":
        fast = {"enc_params": {"preset": "ultrafast"}, "chroma": 420}
    data = encode(kind, np.zeros((2400, 2400, 3), np.uint8), quality=10, **fast)
    lying = patched_size(data, 96, 64)
    # libheif refuses it by itself, before it allocates memory
    reason = r"needs 5\.\d+ megapixels" if kind == "AVIF" else "2400x2400 exceeds the maximum"
    with pytest.raises(VHeatIRError, match=reason):
        read_photograph(lying, "photo", MOST)
    for part in (b"hvcC", b"av1C"):  # also refused without the codec's box
        with pytest.raises(VHeatIRError):
            read_photograph(lying.replace(part, b"free"), "photo", MOST)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 1), (1, 64), (3, 5), (65, 129), (17, 33)])
def test_odd_sizes(kind: str, shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(90, 110, (*shape, 3), dtype=np.uint8)
    assert_near(read_photograph(encode(kind, pixels), "photo", MOST).pixels, pixels, 4)


@pytest.mark.parametrize("data", [b"", bytes(99), b"\0\0\0\x18ftypheic" + bytes(50)])
def test_files_without_an_image_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        read_header(io.BytesIO(data))
    assert is_heif(data) == (b"heic" in data)
    with pytest.raises(VHeatIRError, match="damaged|not an image"):
        read_photograph(data, "photo", MOST)


def test_tiles_need_no_code_points() -> None:
    """Phones give a profile instead."""
    data = with_tiles().replace(b"colrnclx", b"freenclx")
    assert read_header(io.BytesIO(data)).cicp is None
    assert_near(read_photograph(data, "photo", MOST).pixels, PHOTO, 3)


def box(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", 8 + len(body)) + kind + body


def full_box(kind: bytes, body: bytes, version: int = 0) -> bytes:
    return box(kind, bytes([version, 0, 0, 0]) + body)


SIZE = full_box(b"ispe", struct.pack(">II", 64, 64))
ALPHA = full_box(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0")


def header_of(
    kinds: list[bytes],
    references: list[tuple[bytes, int, list[int]]],
    iloc: bytes = full_box(b"iloc", bytes(4)),
    other: bytes = ALPHA,
    tail: bytes = bytes(64),
) -> heif.HeifHeader:
    """Read a file of items 1, 2 ... of these kinds, all 64 x 64 and with another property."""
    keys = range(1, len(kinds) + 1)
    entries = (full_box(b"infe", struct.pack(">HH", k, 0) + kinds[k - 1], 2) for k in keys)
    items = full_box(b"iinf", struct.pack(">H", len(kinds)) + b"".join(entries))
    used = b"".join(struct.pack(">HBBB", key, 2, 1, 2) for key in keys)
    uses = full_box(b"ipma", struct.pack(">I", len(kinds)) + used)
    properties = box(b"iprp", box(b"ipco", SIZE + other) + uses)
    relations = b"".join(
        box(kind, struct.pack(f">HH{len(to)}H", key, len(to), *to)) for kind, key, to in references
    )
    primary = full_box(b"pitm", struct.pack(">H", 1))
    meta = full_box(b"meta", primary + items + properties + full_box(b"iref", relations) + iloc)
    return read_header(io.BytesIO(box(b"ftyp", b"heic\0\0\0\0mif1heic") + meta + tail))


@pytest.mark.parametrize(
    ("widths", "one", "extents"),
    [(0, b"", [65_535] * 40), (0, b"", [2]), (0x1000, b"\1", [40_000] * 2)],
)
def test_the_number_of_extents_is_limited(widths: int, one: bytes, extents: list[int]) -> None:
    """Without offset and length, six bytes of the box are up to 65,535 extents."""
    parts = b"".join(struct.pack(">HHH", 1, 0, count) + one * count for count in extents)
    iloc = full_box(b"iloc", struct.pack(">HH", widths, len(extents)) + parts)
    with pytest.raises(ValueError, match="too many parts"):
        header_of([b"hvc1"], [], iloc)


def test_an_extent_without_offset_and_length_is_the_complete_file() -> None:
    one = full_box(b"iloc", struct.pack(">HHHHH", 0, 1, 1, 0, 1))
    assert header_of([b"hvc1"], [], one).codec == "hvc1"


def test_an_image_of_itself_takes_little_memory() -> None:
    """Each step adds 200 items that wait; in a file of 131 kB, 65,535."""
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="too many parts"):
            header_of([b"grid"], [(b"dimg", 1, [1] * 200)])
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_the_number_of_parts_is_limited_over_all_alpha_channels() -> None:
    def header(channels: int) -> heif.HeifHeader:
        alphas = range(3, 3 + channels)
        tiles = [(b"dimg", key, [2] * 5000) for key in alphas]
        return header_of(
            [b"hvc1", b"hvc1", *[b"grid"] * channels], [(b"auxl", k, [1]) for k in alphas] + tiles
        )

    assert header(2).coded_pixels == 64 * 64 * (1 + 2 * 5000)
    with pytest.raises(ValueError, match="too many parts"):
        header(20)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("name", "tile"), [(b"auxC", b"hvc1"), (b"pixi", b"hvc1"), (b"av1C", b"av01")]
)
def test_of_a_long_property_only_the_beginning_is_read(name: bytes, tile: bytes) -> None:
    """Read completely for each of the 4000 items that share it, it would take minutes."""
    tiles = range(2, 4002)
    extents = b"".join(struct.pack(">HHHII", key, 0, 1, 0, 64) for key in tiles)
    header = header_of(
        [b"grid", *[tile] * len(tiles)],
        [(b"dimg", 1, [*tiles])],
        full_box(b"iloc", struct.pack(">HH", 0x4400, len(tiles)) + extents),
        full_box(name, bytes(20_000_000)),
    )
    assert header.coded_pixels == 64 * 64 * len(tiles)


def test_the_header_of_an_av1_stream_is_at_its_beginning() -> None:
    """Of thousands of tiles, each would be searched to its end, through units without contents."""
    data = encode("AVIF")
    stream, empty = data[data.index(b"mdat") + 4 :], b"\x12\0"
    assert av1_sequence(stream) == (96 * 64, (1, 13))
    assert av1_sequence(10 * empty + stream) == av1_sequence(stream)
    assert av1_sequence(10 * empty) is None
    with pytest.raises(ValueError, match="no header at its beginning"):
        av1_sequence(30_000 * empty + stream)


def test_other_codecs_are_named() -> None:
    data = encode("HEIF")
    with pytest.raises(UnsupportedImageError, match="codec 'avc1'"):
        read_photograph(data.replace(b"hvc1", b"avc1"), "photo", MOST)


@pytest.mark.parametrize("suffix", [".heic", ".avif"])
def test_a_jpeg_with_a_heif_suffix_stays_a_jpeg(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encode_photograph(PHOTO, "jpg", Metadata()))
    assert default_suffix(path) == ".jpg"
    path.write_bytes(b"nothing")
    assert default_suffix(path) == default_suffix(tmp_path / "missing.heic") == ".png"
