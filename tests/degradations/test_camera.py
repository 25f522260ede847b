"""Camera noise: strength, colour and correlation against its parameters and real photographs."""

from __future__ import annotations

import dataclasses

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from tools.noise_statistics import (
    REAL,
    SLOPES,
    by_gray_level,
    by_slope,
    statistics,
    synthetic_crops,
)
from vheatir.data.sources import BUNDLED, ImageSource
from vheatir.degradations import CameraNoise, add_camera_noise
from vheatir.degradations.camera import _DEMOSAICINGS, _demosaic_malvar, _mosaic, _sensor_noise

Y = np.array([0.299, 0.587, 0.114])


def card(gray: float, side: int = 256) -> NDArray[np.float32]:
    return np.full((side, side, 3), gray / 255, np.float32)


def camera(seed: int, **changes: object) -> CameraNoise:
    return dataclasses.replace(CameraNoise.draw(np.random.default_rng(seed)), **changes)


@pytest.mark.parametrize("seed", range(8))
def test_strength_at_the_reference_gray_is_as_drawn(seed: int) -> None:
    what = camera(seed, luma_std=4.0)
    noise = (add_camera_noise(card(96), what, np.random.default_rng(seed)) - card(96)) * 255
    assert (noise @ Y).std() == pytest.approx(4.0, rel=0.05)
    blue, red = (noise[..., 2] - noise @ Y) / 1.772, (noise[..., 0] - noise @ Y) / 1.402
    assert blue.std() == pytest.approx(4.0 * what.blue_ratio, rel=0.06)
    assert red.std() == pytest.approx(4.0 * what.red_ratio, rel=0.06)


@pytest.mark.parametrize("gray", [32, 64, 96, 128, 160, 192, 224])
def test_brightness_and_colour_stay(gray: int) -> None:
    shifts = []
    for seed in range(40):
        what = camera(seed, luma_std=2.0, blue_ratio=1.0, red_ratio=1.0)
        noisy = add_camera_noise(card(gray, 128), what, np.random.default_rng(seed))
        shifts.append((noisy - np.float32(gray / 255)).mean((0, 1)))
    assert np.abs(np.mean(shifts, axis=0)).max() * 255 < 0.15


def test_noise_falls_towards_the_highlights() -> None:
    rng = np.random.default_rng(0)
    cameras = [camera(seed, luma_std=5.0) for seed in range(20)]

    def luma_std(gray: int) -> float:
        flat = card(gray, 96)
        return float(
            np.mean([((add_camera_noise(flat, c, rng) - flat) @ Y).std() for c in cameras])
        )

    stds = [luma_std(gray) for gray in (80, 160, 240)]
    assert stds[0] > stds[1] > stds[2]


def test_edges_have_more_noise_than_smooth_areas() -> None:
    image = card(96, 128)
    image[:, 64:] = 160 / 255
    stds = []
    for gain in (0.0, 1.5):
        what = camera(1, luma_std=2.0, edge_gain=gain)
        noise = [
            (add_camera_noise(image, what, np.random.default_rng(seed)) - image) @ Y
            for seed in range(20)
        ]
        stds.append(
            [np.std([n[:, columns] for n in noise]) for columns in (slice(62, 66), slice(56))]
        )
    # The blurred edge of 64 levels has a slope of about 15 levels per pixel: 1 + 1.5 * 15 / 23.
    assert stds[1][0] / stds[0][0] == pytest.approx(1.98, abs=0.15)
    assert stds[1][1] == pytest.approx(stds[0][1], rel=0.01)


def test_gray_images_get_the_luma_noise_alone() -> None:
    gray = card(96)[..., 0]
    noise = add_camera_noise(gray, camera(0, luma_std=3.0), np.random.default_rng(0)) - gray
    assert noise.shape == gray.shape and noise.dtype == np.float32
    assert noise.std() * 255 == pytest.approx(3.0, rel=0.05)


def test_the_same_seed_makes_the_same_noise() -> None:
    first, second = (
        add_camera_noise(card(120, 64), camera(3), np.random.default_rng(3)) for _ in range(2)
    )
    assert np.array_equal(first, second)


@pytest.mark.parametrize("phase", range(4))
def test_demosaicing_of_one_colour_is_that_colour(phase: int) -> None:
    color = np.array([0.2, 0.5, 0.8], np.float32)
    mosaic = _mosaic(np.broadcast_to(color, (24, 24, 3)).copy(), phase)
    top, left = divmod(phase, 2)
    assert mosaic[top, left] == color[0] and mosaic[1 - top, 1 - left] == color[2]
    filled = _demosaic_malvar(mosaic, phase)
    assert np.allclose(filled, color, atol=1e-6)
    # for OpenCV, the colour of a strong red signal shows whether the phase matches its code
    red = np.zeros((24, 24, 3), np.float32)
    red[..., 0] = 0.9
    for how in ("bilinear", "edge-aware"):
        noise = _sensor_noise(
            red, camera(0, demosaicing=how, phase=phase, shot=0.01, read=0.0),
            np.random.default_rng(0),
        )  # fmt: skip
        assert noise[4:-4, 4:-4, 0].std() > 20 * noise[4:-4, 4:-4, 2].std()


def test_malvar_agrees_with_opencv_where_both_are_exact() -> None:
    ramp = np.tile(np.linspace(0.1, 0.9, 64, dtype=np.float32), (64, 1))
    mosaic = _mosaic(np.stack([ramp] * 3, axis=2), 0)
    bilinear = cv2.cvtColor((mosaic * 60000).astype(np.uint16), cv2.COLOR_BayerBG2RGB) / 60000
    inner = (slice(8, -8), slice(8, -8))
    assert np.allclose(_demosaic_malvar(mosaic, 0)[inner], bilinear[inner], atol=1e-3)


def test_every_demosaicing_is_drawn() -> None:
    rng = np.random.default_rng(0)
    assert {CameraNoise.draw(rng).demosaicing for _ in range(60)} == set(_DEMOSAICINGS)


def test_synthetic_noise_is_like_real_noise() -> None:
    source = ImageSource([BUNDLED], "rgb", cache=True)
    made = [statistics(*pair) for pair in synthetic_crops(source, 250, 160, seed=0)]
    for name in REAL["CC15"]:
        values = [means[name] for means in REAL.values()]
        low, middle, high = np.percentile([crop[name] for crop in made], (10, 50, 90))
        assert low <= min(values) and max(values) <= high, name
        if "lag 1" in name:
            assert all(abs(middle / value - 1) <= 0.25 for value in values), name


def test_synthetic_noise_depends_on_slope_and_gray_level_like_real_noise() -> None:
    source = ImageSource([BUNDLED], "rgb", cache=True)
    pairs = list(synthetic_crops(source, 250, 160, seed=0))
    slopes = np.nanmedian([by_slope(*pair) for pair in pairs], axis=0)
    assert np.all(np.diff(slopes) > 0)
    # Medians over the images of three real sets: smallest and largest.
    real = {(2, 4): (1.08, 1.51), (4, 8): (1.13, 1.76), (8, 16): (1.29, 2.34)}
    for band, (low, high) in real.items():
        assert low <= slopes[SLOPES.index(band)] <= high
    levels = np.nanmedian([by_gray_level(*pair) for pair in pairs], axis=0)
    assert 0.56 <= levels[4] <= 0.85 and 0.36 <= levels[5] <= 0.63  # 128 to 160 and to 192
