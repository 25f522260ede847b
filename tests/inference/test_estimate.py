"""The noise estimate against known noise."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data
from skimage.restoration import estimate_sigma as skimage_estimate

from vheatir.degradations import jpeg_compress
from vheatir.inference import estimate, estimate_sigma
from vheatir.inference.estimate import estimate_blockiness


@pytest.mark.parametrize("sigma", [5.0, 15.0, 25.0, 50.0])
@pytest.mark.parametrize("name", ["camera", "astronaut"])
def test_known_noise_on_photographs(name: str, sigma: float) -> None:
    image = getattr(data, name)() / 255
    noisy = image + np.random.default_rng(0).normal(0, sigma / 255, image.shape)
    assert estimate_sigma(noisy.astype(np.float32)) == pytest.approx(sigma, abs=2.5)


@pytest.mark.parametrize("sigma", [5, 15, 25, 35, 50])
@pytest.mark.parametrize("name", ["astronaut", "rocket", "coffee", "chelsea"])
def test_clipping_hides_no_noise(name: str, sigma: float) -> None:
    image = getattr(data, name)()
    noisy = image + np.random.default_rng(0).normal(0, sigma, image.shape)
    stored = np.clip(np.rint(noisy), 0, 255) / 255  # as stored in a file
    assert estimate_sigma(stored.astype(np.float32)) == pytest.approx(sigma, abs=2.0)


def test_far_from_black_and_white_it_is_scikit_images() -> None:
    image = 0.35 + 0.3 * data.camera()[:301, :200] / 255
    noisy = image + np.random.default_rng(0).normal(0, 0.03, image.shape)
    assert estimate_sigma(noisy) == pytest.approx(255 * skimage_estimate(noisy))


def test_large_images_are_judged_by_crops() -> None:
    ramp = np.linspace(0.2, 0.8, 2500)[:, None] * np.ones((1, 2000))
    noisy = ramp + np.random.default_rng(0).normal(0, 12 / 255, ramp.shape)
    assert estimate_sigma(noisy.astype(np.float32)) == pytest.approx(12, abs=0.3)


def test_more_noise_gives_a_higher_estimate() -> None:
    image = data.astronaut() / 255
    normal = np.random.default_rng(0).normal(0, 1 / 255, image.shape)
    estimates = [estimate_sigma(image + sigma * normal) for sigma in (0, 5, 10, 20, 40)]
    assert estimates == sorted(estimates)


@pytest.mark.parametrize("shape", [(1, 1), (1, 1, 3), (1, 40), (2, 3, 3), (64, 64)])
def test_too_small_or_flat_images_give_zero(shape: tuple[int, ...]) -> None:
    assert estimate_sigma(np.full(shape, 0.5, np.float32)) == 0


def luma_noise(shape: tuple[int, ...], sigma: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, sigma / 255, shape)


@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea"])
def test_enlarged_photographs_have_no_blocks(name: str) -> None:
    image = getattr(data, name)()[40:200, 60:220]
    for factor, how in ((2, cv2.INTER_CUBIC), (2, cv2.INTER_LINEAR), (4, cv2.INTER_LINEAR)):
        large = cv2.resize(image, None, fx=factor, fy=factor, interpolation=how)
        assert estimate_blockiness(large.astype(np.float32) / 255) < 1.15
        compressed = jpeg_compress(np.ascontiguousarray(large), 40)
        assert estimate_blockiness(compressed.astype(np.float32) / 255) > 1.5


def test_demosaiced_noise_has_no_blocks() -> None:
    mosaic = np.rint(255 * (0.5 + luma_noise((256, 256), 10))).astype(np.uint8)
    demosaiced = cv2.cvtColor(mosaic, cv2.COLOR_BayerBG2RGB)
    assert estimate_blockiness(demosaiced.astype(np.float32) / 255) < 1.1


@pytest.mark.parametrize("phase", [(0, 0), (3, 5), (4, 0)])
def test_blocks_are_found_at_every_phase(phase: tuple[int, int]) -> None:
    compressed = jpeg_compress(data.astronaut(), 30)[phase[0] :, phase[1] :]
    assert estimate_blockiness(compressed.astype(np.float32) / 255) > 1.5


@pytest.mark.parametrize("shape", [(64, 96), (65, 97), (8, 9)])
def test_the_wavelet_is_that_of_pywavelets(shape: tuple[int, int]) -> None:
    pywt = pytest.importorskip("pywt", reason="needs PyWavelets")
    plane = data.camera()[: shape[0], : shape[1]] / np.float32(255)
    means, (_, _, details) = pywt.dwt2(plane, "db2")
    padded = estimate._pad(plane)
    np.testing.assert_allclose(
        estimate._filter_and_halve(padded, estimate._SCALING), means, atol=1e-6
    )
    np.testing.assert_allclose(
        estimate._filter_and_halve(padded, estimate._WAVELET), details, atol=1e-6
    )
    clipped = np.random.default_rng(0).random(shape) < 0.05
    count = pywt.Wavelet("count", filter_bank=[np.ones(4)] * 4)
    expected = pywt.dwt2(clipped.astype(float), count)[0] > 0.5
    np.testing.assert_array_equal(estimate._any_in_support(estimate._pad(clipped)), expected)
    assert 0 < expected.mean() < 1
