"""Noise or JPEG: decided on the bundled photographs, degraded both ways."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from vheatir.bundled import heldout_photographs, training_photographs
from vheatir.degradations import add_noise, jpeg_compress, to_color_mode
from vheatir.inference import decide_task, jpeg_quality
from vheatir.inference.estimate import estimate_blockiness

# The tissue comes from a JPEG, as its blocks still show, and the stereo pair is one scene.
PHOTOGRAPHS = {
    name: image[-320:, -320:]
    for name, image in {**heldout_photographs(), **training_photographs()}.items()
    if name not in ("tissue", "motorcycle_right")
}
MODES = ("gray", "rgb")


def noisy(image: np.ndarray, sigma: float, dtype: str = "uint8") -> np.ndarray:
    white = np.iinfo(dtype).max
    out = add_noise(image / np.float32(255), sigma, np.random.default_rng(0))
    return np.rint(out.clip(0, 1) * white).astype(dtype)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_noise_is_found(name: str, mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS[name], mode)
    for sigma in (5, 15, 50):
        decision = decide_task(noisy(image, sigma))
        assert decision.degradation == "noise", (sigma, decision)
        assert decision.sigma == pytest.approx(sigma, rel=0.3, abs=2)  # clipping hides some


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_jpeg_is_found_by_its_blocks_alone_and_by_its_quality(name: str, mode: str) -> None:
    image = to_color_mode(PHOTOGRAPHS[name], mode)
    for quality in (10, 20, 40, 60):
        compressed = jpeg_compress(image, quality)
        # Cropped off the grid too, as a screenshot would be.
        for picture in (compressed, compressed[3:, 5:]):
            assert decide_task(picture).degradation == "jpeg", quality
    known = decide_task(jpeg_compress(image, 85), 85)
    assert (known.degradation, known.reason) == ("jpeg", "JPEG of quality 85")


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_noise_in_a_good_jpeg_file_is_noise(name: str) -> None:
    picture = jpeg_compress(noisy(PHOTOGRAPHS[name], 25), 90)
    assert decide_task(picture, 90).degradation == "noise"


def test_little_noise_in_a_bad_jpeg_file_is_jpeg() -> None:
    picture = jpeg_compress(noisy(PHOTOGRAPHS["coffee"], 5), 20)
    assert decide_task(picture, 20).degradation == "jpeg"


def test_sixteen_bits_floats_and_large_pictures_are_judged_alike() -> None:
    image = PHOTOGRAPHS["chelsea"]
    deep = decide_task(noisy(image, 15, "uint16"))
    assert deep.sigma == pytest.approx(decide_task(noisy(image, 15)).sigma, abs=0.3)
    assert decide_task(noisy(image, 15) / 255).sigma == pytest.approx(deep.sigma, abs=0.3)
    large = np.tile(image, (7, 7, 1))  # 5 megapixels
    assert decide_task(jpeg_compress(large, 20)).degradation == "jpeg"
    assert decide_task(noisy(large, 15)).sigma == pytest.approx(15, abs=1.5)


@pytest.mark.parametrize("shape", [(1, 1), (1, 40, 3), (31, 64), (64, 64), (64, 64, 3)])
def test_small_and_flat_pictures_have_neither(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 99, np.uint8)
    decision = decide_task(image)
    assert (decision.degradation, decision.sigma, decision.blockiness) == ("noise", 0, 1)
    assert estimate_blockiness(image / 255) == 1


@pytest.mark.parametrize("quality", [*range(1, 101)])
def test_the_quality_is_read_from_the_tables(quality: int) -> None:
    out = io.BytesIO()
    Image.new("RGB", (8, 8)).save(out, "JPEG", quality=quality)
    assert jpeg_quality(Image.open(out).quantization) == quality


def test_tables_of_other_encoders_get_the_nearest_quality() -> None:
    assert jpeg_quality({0: [1] * 64}) == 100
    assert jpeg_quality({0: [255] * 64, 1: [1] * 64}) == 1
    assert jpeg_quality({0: [17] * 63 + [18]}) in range(80, 90)
