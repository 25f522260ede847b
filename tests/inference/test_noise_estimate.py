"""The estimate of white and correlated noise against synthetic noise of known strength."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter
from skimage import data

from vheatir.bundled import heldout_photographs, training_photographs
from vheatir.degradations import CameraNoise, add_camera_noise, jpeg_compress
from vheatir.inference import NoiseEstimate, estimate_noise, estimate_sigma

# The tissue image comes from a JPEG; the stereo pair, a single scene, is itself noisy.
PHOTOGRAPHS = {
    name: image
    for name, image in {**heldout_photographs(), **training_photographs()}.items()
    if name in ("astronaut", "rocket", "coffee", "chelsea")
}
# Standard deviations of Y and of Cb, Cr (root mean square) for independent noise of standard
# deviation 1 in R, G, B: norms of the rows of BT.601's matrix.
LUMA_OF_RGB = float(np.linalg.norm([0.299, 0.587, 0.114]))
CB, CR = [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]
CHROMA_OF_RGB = float(np.linalg.norm([CB, CR]) / np.sqrt(2))


def stored(image: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)


def blurred_noise(shape: tuple[int, ...], blur: float, seed: int = 0) -> np.ndarray:
    """Noise of standard deviation 1; its autocorrelation at lag h is exp(-h^2 / 4 blur^2)."""
    noise = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), (blur, blur))
    return noise / noise.std()


def smooth(clean: np.ndarray) -> np.ndarray:
    """Return the mask of the 40 % of pixels with the smallest gradient after blurring."""
    blurred = gaussian_filter(clean @ [0.299, 0.587, 0.114], 2)
    gradient = np.hypot(*np.gradient(blurred))
    return gradient <= np.quantile(gradient, 0.4)


def true_luma(noisy: np.ndarray, clean: np.ndarray) -> float:
    difference = (noisy.astype(float) - clean) @ [0.299, 0.587, 0.114]
    return float(difference[smooth(clean)].std())


@pytest.mark.parametrize("sigma", [5, 15, 25])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_white_noise_is_found_and_called_white(name: str, sigma: float) -> None:
    clean = PHOTOGRAPHS[name]
    noisy = stored(clean + np.random.default_rng(0).normal(0, sigma, clean.shape))
    found = estimate_noise(noisy)
    assert found.luma == pytest.approx(true_luma(noisy, clean), rel=0.3)
    if sigma < 25:  # above, too much is clipped in dark photographs
        assert found.luma == pytest.approx(LUMA_OF_RGB * sigma, rel=0.3)
        assert found.chroma == pytest.approx(CHROMA_OF_RGB * sigma, rel=0.3)
    assert not found.correlated


@pytest.mark.parametrize("sigma", [5, 15, 25])
@pytest.mark.parametrize("name", ["camera", "coins"])
def test_it_agrees_with_the_estimate_of_white_noise(name: str, sigma: float) -> None:
    clean = getattr(data, name)()
    noisy = stored(clean + np.random.default_rng(0).normal(0, sigma, clean.shape))
    found = estimate_noise(noisy)
    assert found.luma == pytest.approx(estimate_sigma(noisy / np.float32(255)), abs=2.5)
    assert (found.chroma, found.correlated) == (0, False)


@pytest.mark.parametrize("std", [5, 8, 12])
@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_correlated_noise_is_found_where_the_finest_details_hide_it(name: str, std: float) -> None:
    clean = PHOTOGRAPHS[name]
    # The autocorrelation of luma at lag 1 is 0.6, as in camera images.
    noisy = stored(clean + std * blurred_noise(clean.shape[:2], 0.7)[..., None])
    found = estimate_noise(noisy)
    assert found.luma == pytest.approx(true_luma(noisy, clean), rel=0.3)
    assert found.correlated
    assert estimate_sigma(noisy / np.float32(255)) < 0.75 * std


def test_luma_and_chroma_are_told_apart() -> None:
    gray = np.full((256, 256), 110.0)
    luma, red = blurred_noise(gray.shape, 0.6, 1), blurred_noise(gray.shape, 1.5, 2)
    # Cr of BT.601 is 0.713 (R - Y); with Cb = 0, B = Y, and G follows from Y.
    for y, cr in ((6, 1), (1, 6), (4, 4)):
        value = gray + y * luma
        difference = cr * red / 0.713
        green = value - 0.299 / 0.587 * difference
        found = estimate_noise(np.stack([value + difference, green, value], -1) / 255)
        assert found.luma == pytest.approx(y, rel=0.2)
        assert found.chroma == pytest.approx(cr / np.sqrt(2), rel=0.3)


@pytest.mark.parametrize("name", ["chelsea", "rocket"])
@pytest.mark.parametrize("quality", [None, 95])
def test_noise_of_cameras_is_found(name: str, quality: int | None) -> None:
    clean = PHOTOGRAPHS[name]
    estimates, truths = [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        image = clean / np.float32(255)
        noisy = stored(255 * add_camera_noise(image, CameraNoise.draw(rng, 5.0), rng))
        noisy = noisy if quality is None else jpeg_compress(noisy, quality)
        estimates.append(estimate_noise(noisy).luma)
        truths.append(true_luma(noisy, clean))
    assert np.median(np.divide(estimates, truths)) == pytest.approx(1, abs=0.3)


def test_noise_that_depends_on_brightness_is_averaged_as_it_is() -> None:
    ramp = np.linspace(20, 235, 512)[:, None] * np.ones((1, 512))
    std = 2 + 2.5 * np.exp(-(((ramp - 80) / 50) ** 2))
    noisy = ramp + std * np.random.default_rng(0).standard_normal(ramp.shape)
    assert estimate_noise(stored(noisy)).luma == pytest.approx(np.sqrt(np.mean(std**2)), rel=0.2)


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_clean_photographs_have_little(name: str) -> None:
    found = estimate_noise(PHOTOGRAPHS[name])
    assert found.luma < 1.6
    assert found.chroma < 2.2


def test_text_on_white_has_none() -> None:
    page = Image.new("L", (480, 400), 255)
    for top in range(20, 380, 14):
        ImageDraw.Draw(page).text((20, top), "The quick brown fox jumps over the lazy dog.", 0)
    assert estimate_noise(np.array(page)).luma == 0
    assert estimate_noise(np.array(page.convert("RGB"))).luma == 0


def test_depth_and_colours_change_nothing() -> None:
    clean = PHOTOGRAPHS["chelsea"]
    noisy = stored(clean + 6 * blurred_noise(clean.shape[:2], 0.7)[..., None])
    found = estimate_noise(noisy)
    for image in (noisy.astype(np.uint16) * 257, noisy / np.float32(255), noisy / 255.0):
        assert estimate_noise(image).luma == pytest.approx(found.luma, rel=1e-3)
        assert estimate_noise(image).correlated is found.correlated
    gray = noisy[..., 1]
    one = estimate_noise(gray)
    three = estimate_noise(np.repeat(gray[..., None], 3, axis=2))
    assert estimate_noise(gray[..., None]) == one
    assert three.luma == pytest.approx(one.luma, rel=1e-3)
    assert one.chroma == 0
    assert str(three) == str(one) == f"luma {one.luma:.1f}, correlated"


def test_large_images_are_judged_by_crops() -> None:
    ramp = np.linspace(60, 190, 2400)[:, None] * np.ones((1, 1800))
    noisy = stored(ramp + 5 * np.random.default_rng(0).standard_normal(ramp.shape))
    assert estimate_noise(noisy).luma == pytest.approx(5, rel=0.1)
    strip = stored(110 + 5 * np.random.default_rng(0).standard_normal((60, 60_000)))
    assert estimate_noise(strip).luma == pytest.approx(5, rel=0.2)


@pytest.mark.parametrize("value", [0, 99, 255])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40, 3), (47, 300), (48, 48, 3), (50, 700)])
def test_small_and_flat_images_have_none(shape: tuple[int, ...], value: int) -> None:
    found = estimate_noise(np.full(shape, value, np.uint8))
    assert (found.luma, found.correlated) == (0, False)
    assert found.chroma < 0.001


def test_what_the_user_reads() -> None:
    scales = (1.0, 2.0, 3.0)
    assert str(NoiseEstimate(3.71, 2.5, True, scales, scales)) == "luma 3.7, chroma 2.5, correlated"
    assert str(NoiseEstimate(10.0, 9.0, False, scales, scales)) == "luma 10.0, chroma 9.0"
