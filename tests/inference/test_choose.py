"""Automatic model choice on bundled photographs with every kind of degradation."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from studies.automatic.graphics import clean_graphics
from studies.automatic.table import codec
from vheatir.bundled import heldout_photographs, training_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import CameraNoise, add_camera_noise, add_noise, jpeg_compress
from vheatir.inference import choose_model, jpeg_quality
from vheatir.inference.estimate import estimate_blockiness, estimate_white_sigma

# The tissue image has visible JPEG blocks, and the stereo pair is a single scene.
PHOTOGRAPHS = {
    name: image[-320:, -320:]
    for name, image in {**heldout_photographs(), **training_photographs()}.items()
    if name not in ("tissue", "motorcycle_right")
}
MODES = ("gray", "rgb")


def noisy(image: NDArray, sigma: float, dtype: str = "uint8") -> NDArray:
    white = np.iinfo(dtype).max
    out = add_noise(image / np.float32(255), sigma, np.random.default_rng(0))
    return np.rint(out.clip(0, 1) * white).astype(dtype)


def photographed(image: NDArray, luma_std: float, seed: int = 0) -> NDArray:
    rng = np.random.default_rng(seed)
    camera = CameraNoise.draw(rng, luma_std=luma_std)
    out = add_camera_noise(image / np.float32(255), camera, rng)
    return np.rint(out.clip(0, 1) * 255).astype(np.uint8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_white_noise_is_for_the_denoiser_at_its_level(name: str, mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS[name], mode)
    for sigma in (15, 25, 50):
        choice = choose_model(noisy(image, sigma))
        assert choice.model == f"denoise_{'gray' if mode == 'gray' else 'color'}", (sigma, choice)
        assert choice.level == pytest.approx(sigma, rel=0.3, abs=2)  # clipping hides part of it
        assert choice.message == f"white noise of sigma {choice.level:.1f}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_jpeg_is_found_by_its_blocks_alone_and_by_its_quality(name: str, mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS[name], mode)
    model = f"jpeg_{'gray' if mode == 'gray' else 'color'}"
    for quality in (10, 20, 40, 60):
        compressed = jpeg_compress(image, quality)
        # Also cropped off the grid, as in a screenshot.
        for damaged in (compressed, compressed[3:, 5:]):
            choice = choose_model(damaged)
            assert (choice.model, choice.level) == (model, None), quality


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_clean_jpeg_of_known_quality_is_for_the_jpeg_model(name: str, mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS[name], mode)
    known = choose_model(jpeg_compress(image, 85), 85)
    model = f"jpeg_{'gray' if mode == 'gray' else 'color'}"
    assert (known.model, known.message) == (model, "JPEG of quality 85")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_camera_noise_is_for_the_photo_model(name: str) -> None:
    for seed in range(3):
        damaged = photographed(PHOTOGRAPHS[name], 6.0, seed)
        assert choose_model(damaged).model == "photo"
    gray = photographed(to_color_mode(PHOTOGRAPHS[name], "gray"), 6.0)
    assert choose_model(gray).model == "photo"


@pytest.mark.parametrize("mode", MODES)
def test_what_jpeg_has_compressed_is_compared_by_two_models(mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS["coffee"], mode)
    for damaged in (image, photographed(image, 6.0)):
        choice = choose_model(jpeg_compress(damaged, 75), 75)
        assert choice.model == f"jpeg_{'gray' if mode == 'gray' else 'color'}"
        assert (choice.second, choice.share) == ("photo", None)


@pytest.mark.parametrize("mode", MODES)
def test_what_other_codecs_have_compressed_is_compared_too(mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS["coffee"], mode)
    for damaged in (image, photographed(image, 3.0)):
        choice = choose_model(damaged, codec="WebP")
        assert choice.model == f"jpeg_{'gray' if mode == 'gray' else 'color'}"
        assert (choice.second, choice.share) == ("photo", None)
        assert choice.message == "WebP compression"
    assert (
        choose_model(noisy(image, 25), codec="WebP").model == choose_model(noisy(image, 25)).model
    )


@pytest.mark.parametrize("mode", MODES)
def test_compression_is_looked_for_where_little_noise_hides_it(mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS["coffee"], mode)
    for open_question in (image, photographed(image, 1.0)):
        choice = choose_model(open_question)
        assert choice.model in (None, "photo") and choice.share == 1
        other = choice.if_compressed
        assert other is not None
        assert other == replace(choose_model(open_question, codec="x"), message=other.message)
    for settled in (photographed(image, 6.0), noisy(image, 25), jpeg_compress(image, 20)):
        assert choose_model(settled).if_compressed is None
    assert choose_model(jpeg_compress(image, 85), 85).if_compressed is None
    assert choose_model(jpeg_compress(image, 95), 95).if_compressed is not None
    drawn = [each for name, each in clean_graphics().items() if "scikit" not in name]  # scans
    assert all(choose_model(each).if_compressed is None for each in drawn)


def test_graphics_are_left_as_they_are() -> None:
    kept = [choose_model(image).model is None for image in clean_graphics().values()]
    assert np.mean(kept) > 0.85


def test_dithered_images_are_left_as_they_are() -> None:
    photograph = Image.fromarray(PHOTOGRAPHS["coffee"])
    row, column = np.indices((320, 320))
    dither = Image.Dither.FLOYDSTEINBERG
    images = {
        "two levels": np.array(photograph.convert("1").convert("L")),
        "sixteen colours": np.array(photograph.quantize(16, dither=dither).convert("RGB")),
        "checkerboard": np.where((row + column) % 2, 255, 0).astype(np.uint8),
        "halftone": np.where(
            np.array(photograph.convert("L")) / 127.5 - 1
            > np.cos(np.pi * (row + column) / 3) * np.cos(np.pi * (row - column) / 3),
            255, 0,
        ).astype(np.uint8),
    }  # fmt: skip
    for name, image in images.items():
        finding = "flat areas without noise" if name == "sixteen colours" else "few colours"
        assert choose_model(image).message == f"no damage: {finding}", name
        deep = image.astype(np.uint16) * 257
        assert choose_model(deep).model is None, name


def test_isolated_points_are_not_noise() -> None:
    stars = np.zeros((320, 320), np.uint8)
    rng = np.random.default_rng(0)
    stars[rng.integers(0, 320, 200), rng.integers(0, 320, 200)] = rng.integers(60, 256, 200)
    assert choose_model(stars).model is None


def test_dark_noise_is_found_although_half_of_it_is_clipped() -> None:
    black = np.zeros((320, 320, 3), np.uint8)
    assert choose_model(noisy(black, 25)).model == "denoise_color"
    assert choose_model(noisy(black[..., 0], 25)).model == "denoise_gray"


def test_drawings_and_text_in_good_jpeg_are_left_as_they_are() -> None:
    images = [image[:320, :320] for name, image in clean_graphics().items() if "scikit" not in name]
    for quality, expected in ((95, "None"), (85, "None"), (50, "jpeg")):
        choices = [choose_model(jpeg_compress(image, quality), quality) for image in images]
        assert np.mean([str(choice.model).startswith(expected) for choice in choices]) > 0.8
    degrade, rng = codec("WebP", 75), np.random.default_rng(0)
    compressed = [degrade(image, rng).damaged for image in images]
    left = [choose_model(image, codec="WebP").model is None for image in compressed]
    assert np.mean(left) > 0.8
    # noise on a page is removed, also in good JPEG
    soft = [(40 + 0.7 * image).astype(np.uint8) for image in images]
    for quality in (90, None):
        pages = [noisy(image, 6) for image in soft]
        pages = [jpeg_compress(page, quality) for page in pages] if quality else pages
        assert all(choose_model(page, quality).model is not None for page in pages)


def test_dark_photographs_are_not_taken_for_drawings() -> None:
    for image in PHOTOGRAPHS.values():
        dark = jpeg_compress(photographed((image * 0.2).astype(np.uint8), 3.0), 90)
        assert choose_model(dark, 90).model is not None


def test_gray_stored_as_rgb_and_alpha_do_not_change_the_choice() -> None:
    gray = noisy(to_color_mode(PHOTOGRAPHS["chelsea"], "gray"), 25)
    rgb = noisy(PHOTOGRAPHS["chelsea"], 25)
    alpha = np.random.default_rng(0).integers(0, 255, gray.shape).astype(np.uint8)
    expected = choose_model(gray)
    for image in (
        np.stack([gray] * 3, 2),
        np.dstack([gray, alpha]),
        np.dstack([gray] * 3 + [alpha]),
    ):
        assert choose_model(image) == expected
    assert choose_model(np.dstack([rgb, alpha])) == choose_model(rgb)


def test_sixteen_bits_floats_and_large_images_are_judged_alike() -> None:
    image = PHOTOGRAPHS["chelsea"]
    deep = choose_model(noisy(image, 15, "uint16"))
    shallow = choose_model(noisy(image, 15))
    unit = choose_model(noisy(image, 15) / np.float32(255))
    assert deep.model == shallow.model == unit.model == "denoise_color"
    assert deep.level == pytest.approx(shallow.level, abs=0.3)
    assert unit.level == pytest.approx(shallow.level, abs=0.01)
    large = np.tile(image, (7, 7, 1))  # 5 megapixels
    assert choose_model(jpeg_compress(large, 20)).model == "jpeg_color"
    assert choose_model(noisy(large, 15)).level == pytest.approx(15, abs=1.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40, 3), (31, 64), (64, 64), (64, 64, 3), (9, 9, 4)])
def test_small_and_flat_images_are_left_as_they_are(shape: tuple[int, ...]) -> None:
    choice = choose_model(np.full(shape, 99, np.uint8))
    assert (choice.model, choice.level, choice.blockiness) == (None, None, 1)
    assert estimate_blockiness(np.full(shape, 0.4)) == 1


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_a_page_with_blank_areas_and_small_gray_images_are_no_noise(mode: str) -> None:
    page = Image.new("L", (640, 480), 255)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(10)
    for row in range(22):  # the upper half
        draw.text((4, 11 * row), "heat flows from warm to cold; " * 5, 0, font)
    choice = choose_model(np.asarray(page.convert(mode)))
    assert choice.model is None, choice.message
    gray = to_color_mode(heldout_photographs()["coffee"], "gray")
    for side in (32, 47):
        for top in range(0, gray.shape[0] - side, 60):
            for left in range(0, gray.shape[1] - side, 60):
                crop = gray[top : top + side, left : left + side]
                crop = crop if mode == "L" else np.repeat(crop[..., None], 3, axis=2)
                found = choose_model(np.ascontiguousarray(crop)).model
                assert found in (None, "jpeg_gray"), (side, top, left)


def test_the_level_stays_within_the_models_range() -> None:
    choice = choose_model(noisy(np.full((256, 256, 3), 128, np.uint8), 90))
    assert (choice.model, choice.level) == ("denoise_color", 55)


@pytest.mark.parametrize("sigma", [2, 5, 15, 30])
def test_white_noise_is_measured_in_the_differences_of_channels(sigma: int) -> None:
    flat = np.full((256, 256, 3), 0.5, np.float32)
    damaged = add_noise(flat, sigma, np.random.default_rng(0))
    assert estimate_white_sigma(damaged) == pytest.approx(sigma, rel=0.05)
    gray = np.repeat(damaged[..., :1], 3, axis=2)
    assert estimate_white_sigma(gray) == 0


def test_the_quality_is_read_from_the_tables() -> None:
    for quality in range(1, 101):
        out = io.BytesIO()
        Image.new("RGB", (8, 8)).save(out, "JPEG", quality=quality)
        assert jpeg_quality(Image.open(out).quantization) == quality


def test_tables_of_other_encoders_get_the_nearest_quality() -> None:
    assert jpeg_quality({0: [1] * 64}) == 100
    assert jpeg_quality({0: [255] * 64, 1: [1] * 64}) == 1
    assert jpeg_quality({0: [17] * 63 + [18]}) in range(80, 90)
