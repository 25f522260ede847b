"""Reading and writing photographs, checked with independent readers."""

from __future__ import annotations

import io
import struct
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps, PngImagePlugin, features

from vheatir.colors import to_8_bits
from vheatir.errors import VHeatIRError
from vheatir.inference.files import (
    Metadata,
    _chunk,
    apply_orientation,
    encode_photograph,
    read_photograph,
)
from vheatir.inference.profiles import make_icc

FORMATS = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "tiff": "TIFF"}
ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><r tiff:Orientation="6" dc:title="a"/></x:xmpmeta>'
ORIENTATION = 0x0112


def random_pixels(*shape: int, dtype: Any = np.uint8) -> np.ndarray:
    high = np.iinfo(dtype).max
    return np.random.default_rng(0).integers(0, high, shape, dtype=dtype, endpoint=True)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def make_exif(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010E] = "a harbour"
    exif.get_ifd(0x8769).update({0xA002: 9, 0xA003: 6, 0x829A: 0.5})
    return exif


def test_lossy_codecs_are_named() -> None:
    opaque = Image.fromarray(random_pixels(20, 31, 3))
    transparent = Image.fromarray(random_pixels(20, 31, 4))
    for image in (opaque, transparent):
        for options in ({}, {"exif": make_exif(1), "icc_profile": ICC}):
            lossy = encode(image, "WEBP", quality=60, **options)
            lossless = encode(image, "WEBP", lossless=True, **options)
            assert read_photograph(lossy, "x.webp", 10**6).codec == "WebP"
            assert read_photograph(lossless, "x.webp", 10**6).codec is None
    for kind in ("PNG", "JPEG", "TIFF"):  # the loss of JPEG is its quality
        assert read_photograph(encode(opaque, kind), "x", 10**6).codec is None
    if features.check("avif"):
        assert read_photograph(encode(opaque, "AVIF"), "x.avif", 10**6).codec == "AVIF"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    data = encode(Image.fromarray(random_pixels(6, 9, 3)), kind, exif=make_exif(orientation))
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    photo = read_photograph(data, "photo", 1000)
    np.testing.assert_array_equal(photo.pixels, expected)
    for fmt in FORMATS:
        again = Image.open(io.BytesIO(encode_photograph(photo.pixels, fmt, photo.metadata)))
        assert again.getexif().get(ORIENTATION, 1) == 1
        upright = ImageOps.exif_transpose(again)
        assert upright.size == expected.shape[1::-1]


@pytest.mark.parametrize("orientation", [1, 2, 3, 6])
def test_deep_tiffs_are_turned_too(orientation: int) -> None:
    pixels, out = random_pixels(6, 9, 3, dtype=np.uint16), io.BytesIO()
    tifffile.imwrite(out, pixels, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
    expected = {1: pixels, 2: pixels[:, ::-1], 3: pixels[::-1, ::-1], 6: np.rot90(pixels, -1)}
    read = read_photograph(out.getvalue(), "photo", 1000).pixels
    np.testing.assert_array_equal(read, expected[orientation])


@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_profile_exif_xmp_and_resolution_are_kept(kind: str, target: str) -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("Comment", "kept")
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    xmp: dict[str, Any] = {"pnginfo": text} if kind == "PNG" else {"xmp": XMP}
    exif = make_exif(6)
    if kind == "TIFF":
        exif = make_exif(1)
        exif[700], xmp = XMP, {}
    source = encode(
        Image.fromarray(random_pixels(6, 9, 3)),
        kind,
        exif=exif.tobytes(),
        icc_profile=ICC,
        dpi=(200, 100),
        **xmp,
    )
    photo = read_photograph(source, "photo", 1000)
    again = Image.open(io.BytesIO(encode_photograph(photo.pixels, target, photo.metadata)))
    again.load()
    assert again.format == FORMATS[target]
    assert again.info["icc_profile"] == ICC
    exif = again.getexif()
    assert exif[0x010E] == "a harbour"
    details = exif.get_ifd(0x8769)
    assert details[0x829A] == 0.5
    assert (details[0xA002], details[0xA003]) == photo.pixels.shape[1::-1]
    packet = again.info.get("xmp") or again.info.get("XML:com.adobe.xmp")
    assert b'dc:title="a"' in packet and b"Orientation" not in packet
    if "WEBP" not in (kind, again.format):  # which cannot store it
        expected = (200, 100) if kind == "TIFF" else (100, 200)  # the others were rotated
        assert again.info["dpi"] == pytest.approx(expected, abs=0.1)
    if (kind, target) == ("PNG", "png"):
        assert again.text["Comment"] == "kept"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 2), (6, 9, 3), (6, 9, 4)])
@pytest.mark.parametrize("fmt", ["png", "tiff", "webp"])
def test_lossless_formats_keep_every_bit(fmt: str, shape: tuple[int, ...], dtype: Any) -> None:
    if fmt == "webp" and dtype == np.uint16:
        pytest.skip("WebP is limited to 8 bits")
    pixels = random_pixels(*shape, dtype=dtype)
    data = encode_photograph(pixels, fmt, Metadata(icc=ICC, exif=make_exif(1).tobytes()))
    photo = read_photograph(data, "photo", 1000)
    expected = pixels
    if fmt == "webp" and len(shape) == 2:
        expected = np.stack([pixels] * 3, axis=2)
    if len(shape) == 3 and shape[2] == 2 and (fmt == "webp" or dtype == np.uint16):
        expected = pixels[:, :, [0, 0, 0, 1]]
    np.testing.assert_array_equal(photo.pixels, expected)
    assert photo.metadata.icc == ICC


@pytest.mark.parametrize(
    ("shape", "dtype", "fmt", "stays"),
    [
        ((6, 9), np.uint8, "jpg", True),
        ((6, 9), np.uint8, "webp", False),  # written as RGB
        ((6, 9, 2), np.uint8, "png", True),
        ((6, 9, 2), np.uint16, "png", False),
        ((6, 9, 2), np.uint16, "tiff", False),
    ],
)
def test_a_gray_profile_stays_with_gray_pixels(
    shape: tuple[int, ...], dtype: Any, fmt: str, stays: bool
) -> None:
    profile = ICC[:16] + b"GRAY" + ICC[20:]
    data = encode_photograph(random_pixels(*shape, dtype=dtype), fmt, Metadata(icc=profile))
    with Image.open(io.BytesIO(data)) as image:
        assert image.info.get("icc_profile") == (profile if stays else None)


def test_deep_images_keep_their_metadata() -> None:
    pixels = random_pixels(6, 9, 3, dtype=np.uint16)
    metadata = Metadata(ICC, make_exif(1).tobytes(), XMP, (300.0, 300.0))
    for fmt in ("png", "tiff"):
        data = encode_photograph(pixels, fmt, metadata)
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.info["icc_profile"] == ICC
        assert image.getexif()[0x010E] == "a harbour"
        assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)
        decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(decoded[..., ::-1], pixels)


def test_palettes_bits_and_gray_with_alpha() -> None:
    rgba = Image.fromarray(np.full((4, 6, 4), (10, 200, 30, 77), np.uint8))
    palette = read_photograph(encode(rgba.convert("P"), "PNG"), "p", 100)
    assert palette.pixels.shape[:2] == (4, 6) and palette.pixels.ndim == 3
    bits = Image.fromarray(random_pixels(4, 6) > 99)
    np.testing.assert_array_equal(
        read_photograph(encode(bits, "PNG"), "b", 100).pixels, np.asarray(bits) * 255
    )
    both = random_pixels(4, 6, 2)
    photo = read_photograph(encode(Image.fromarray(both), "PNG"), "la", 100)
    np.testing.assert_array_equal(photo.pixels, both)


def test_jpeg_is_written_well_and_its_quality_read() -> None:
    ramp = np.linspace(0, 255, 64 * 64).reshape(64, 64)
    pixels = np.stack([ramp, ramp[::-1], ramp.T], axis=2).astype(np.uint8)
    photo = read_photograph(encode_photograph(pixels, "jpg", Metadata()), "j", 10_000)
    assert photo.quality == 95
    assert np.abs(photo.pixels.astype(int) - pixels).mean() < 1
    assert (
        read_photograph(encode(Image.new("L", (9, 9)), "JPEG", quality=31), "j", 99).quality == 31
    )
    assert read_photograph(encode(Image.new("L", (9, 9)), "PNG"), "p", 99).quality is None


def test_transparency_never_goes_into_jpeg() -> None:
    with pytest.raises(VHeatIRError, match="transparency"):
        encode_photograph(random_pixels(4, 6, 4), "jpg", Metadata())


def test_unknown_orientations_are_left_alone() -> None:
    image = np.arange(6).reshape(2, 3)
    for orientation in (0, 9, 77):
        np.testing.assert_array_equal(apply_orientation(image, orientation), image)


def test_sixteen_bits_round_to_the_nearest_eight() -> None:
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(to_8_bits(deep), np.rint(deep / 257))


def cut(kind: str, deep: bool = False) -> bytes:
    pixels = random_pixels(64, 64, 3, dtype=np.uint16 if deep else np.uint8)
    if deep:
        data = encode_photograph(pixels, "png", Metadata())
    else:
        data = encode(Image.fromarray(pixels), kind)
    return data[: len(data) // 2]


PAGES = encode(
    Image.new("L", (4, 4)), "TIFF", save_all=True, append_images=[Image.new("L", (4, 4))]
)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an image"),
        (b"hello", "not an image"),
        (b"<svg></svg>", "not an image"),
        (b"\x89PNG\r\n\x1a\n", "not an image"),
        (cut("JPEG"), "damaged"),
        (cut("PNG"), "damaged"),
        (cut("PNG", deep=True), "damaged"),
        (cut("WEBP"), "damaged|not an image"),
        (cut("TIFF"), "damaged|not an image"),
        (encode(Image.new("CMYK", (4, 4)), "JPEG"), "colour mode CMYK"),
        (encode(Image.new("F", (4, 4)), "TIFF"), "colour mode F"),
        (encode(Image.new("L", (101, 100)), "PNG"), "101 x 100"),
        (PAGES, "several"),
    ],
)
def test_what_cannot_be_restored_says_why(data: bytes, message: str) -> None:
    with pytest.raises(VHeatIRError, match=message) as caught:
        read_photograph(data, "photo.png", 10_000)
    assert str(caught.value).startswith("photo.png ")
    assert "\n" not in str(caught.value)


def test_damaged_exif_does_not_prevent_reading() -> None:
    pixels = random_pixels(4, 6, 3)
    data = encode(Image.fromarray(pixels), "PNG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7fgarbage")
    np.testing.assert_array_equal(read_photograph(data, "p", 100).pixels, pixels)


def test_a_transparent_colour_becomes_alpha() -> None:
    gray, color = random_pixels(4, 6), random_pixels(4, 6, 3)
    for image, key in ((gray, int(gray[0, 0])), (color, tuple(int(v) for v in color[0, 0]))):
        data = encode(Image.fromarray(image), "PNG", transparency=key)
        pixels = read_photograph(data, "t", 100).pixels
        own = image.reshape(4, 6, -1)
        np.testing.assert_array_equal(pixels[..., :-1], own)
        expected = np.where((own == key).all(axis=2), 0, 255)
        np.testing.assert_array_equal(pixels[..., -1], expected)


def test_metadata_too_long_for_jpeg_is_left_out() -> None:
    long = XMP.replace(b"</x:xmpmeta>", b" " * 70_000 + b"</x:xmpmeta>")
    pixels = random_pixels(4, 6, 3)
    photo = read_photograph(encode_photograph(pixels, "png", Metadata(xmp=long)), "p", 100)
    assert photo.metadata.xmp is not None and len(photo.metadata.xmp) > 65_536
    with Image.open(io.BytesIO(encode_photograph(pixels, "jpg", photo.metadata))) as again:
        assert again.size == (6, 4) and "xmp" not in again.info


@pytest.mark.timeout(60)  # the time grew with the square of the length: hours
def test_blanks_in_xmp_take_linear_time() -> None:
    padded = XMP.replace(b'"6" ', b'"6"' + b" " * 500_000)
    photo = read_photograph(
        encode_photograph(random_pixels(4, 6, 3), "png", Metadata(xmp=padded)), "p", 100
    )
    assert photo.metadata.xmp == padded.replace(b' tiff:Orientation="6"', b"")


def test_xmp_of_a_gain_map_is_dropped() -> None:
    xmp = XMP.replace(b"dc:title", b'hdrgm:Version="1.0" dc:title')
    data = encode(Image.new("RGB", (9, 6)), "JPEG", xmp=xmp)
    assert read_photograph(data, "ultra HDR", 100).metadata.xmp is None


def test_colours_of_a_png_with_code_points_alone_are_kept() -> None:
    pixels = random_pixels(4, 6, 3)
    chunk = _chunk(b"cICP", bytes([12, 13, 0, 1]))  # Display P3 with sRGB's curve
    data = encode_photograph(pixels, "png", Metadata(png_chunks=(chunk,)))
    photo = read_photograph(data, "p3", 100)
    assert photo.metadata.icc == make_icc(12, 13)
    with Image.open(io.BytesIO(encode_photograph(pixels, "jpg", photo.metadata))) as again:
        assert again.info["icc_profile"] == photo.metadata.icc


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_resolution_of_tiff(dtype: Any) -> None:
    pixels = random_pixels(6, 9, 3, dtype=dtype)
    turned = [(274, "H", 1, 6, True)]
    for resolution, expected in (((300, 150), (150, 300)), (None, None)):
        out = io.BytesIO()
        unit = "inch" if resolution else None
        tifffile.imwrite(
            out, pixels, photometric="rgb", extratags=turned, resolution=resolution,
            resolutionunit=unit,
        )  # fmt: skip
        photo = read_photograph(_without_resolution(out.getvalue(), resolution), "t", 100)
        assert photo.pixels.shape == (9, 6, 3)
        assert photo.metadata.dpi == expected


def _without_resolution(data: bytes, resolution: object) -> bytes:
    """Rename the tags of the resolution, which tifffile always writes, unless one is given."""
    if resolution:
        return data
    for tag, other in ((282, 65001), (283, 65002)):
        data = data.replace(struct.pack("<HHI", tag, 5, 1), struct.pack("<HHI", other, 5, 1))
    return data


@pytest.mark.parametrize(("orientation", "upright"), [(0, True), (1, True), (9, True), (3, False)])
def test_an_orientation_without_effect_is_upright(orientation: int, upright: bool) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(Image.new("RGB", (9, 6)), "JPEG", exif=exif)
    assert read_photograph(data, "p", 100).upright is upright


def test_a_transparent_level_of_16_bits_becomes_alpha() -> None:
    gray = random_pixels(4, 6, dtype=np.uint16)
    data = encode_photograph(
        gray, "png", Metadata(png_chunks=(_chunk(b"tRNS", gray[0, 0].tobytes()[::-1]),))
    )
    pixels = read_photograph(data, "t", 100).pixels
    np.testing.assert_array_equal(pixels[..., 0], gray)
    np.testing.assert_array_equal(pixels[..., 1], np.where(gray == gray[0, 0], 0, 65535))


def test_a_profile_too_long_to_read_again_is_left_out() -> None:
    icc = ICC + bytes(2**20)
    data = encode_photograph(random_pixels(4, 6, 3), "png", Metadata(icc=icc))
    assert read_photograph(data, "p", 100).metadata.icc is None
