"""Strength: exact at its ends, monotone between them, texture before noise, gentle above."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter

from vheatir.errors import VHeatIRError
from vheatir.inference import strength as module
from vheatir.inference.strength import apply_strength, parse_strength

Array = np.ndarray[Any, Any]

BT601 = np.array([0.299, 0.587, 0.114])
DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]
SHAPES = [(), (1,), (2,), (3,), (4,)]


def white_of(image: Array) -> float:
    return np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1.0


def as_dtype(image: Array, dtype: str) -> Array:
    """Convert from [0, 1] to the values of ``dtype``."""
    if dtype.startswith("uint"):
        return np.rint(image.clip(0, 1) * np.iinfo(dtype).max).astype(dtype)
    return image.astype(dtype)


def pair(dtype: str, channels: tuple[int, ...], seed: int = 0, size: int = 40) -> list[Array]:
    """Return a noisy image, away from black and white, and a smoother one."""
    rng = np.random.default_rng(seed)
    ramp = np.linspace(0.35, 0.65, size).reshape(-1, *[1] * (1 + len(channels)))
    noisy = ramp + rng.normal(0, 0.03, (size, size + 3, *channels))
    restored = gaussian_filter(noisy, (1.5, 1.5, *[0] * len(channels)))
    before, after = as_dtype(noisy, dtype), as_dtype(restored, dtype)
    if channels in [(2,), (4,)]:
        after[..., -1] = before[..., -1]
    return [before, after]


def luma_of(image: Array) -> Array:
    return image.astype(np.float64)[..., :3] @ BT601


@pytest.mark.parametrize("dtype", DTYPES)
def test_alpha_is_that_of_the_input(dtype: str) -> None:
    before, restored = pair(dtype, (4,))
    other = restored.copy()
    other[..., 3] = 0
    for strength in (0, 60, 100, 120):
        out = apply_strength(before, other, strength, strength)
        np.testing.assert_array_equal(out[..., 3], before[..., 3])
        np.testing.assert_array_equal(out, apply_strength(before, restored, strength, strength))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", SHAPES)
def test_the_ends_are_exact_and_shape_dtype_alpha_stay(
    dtype: str, channels: tuple[int, ...]
) -> None:
    before, restored = pair(dtype, channels)
    kept = before.copy(), restored.copy()
    for strength in [(0, 0), (100, 100), (0, 100), (100, 0), (37, 81), (130, 20), (150, 150)]:
        out = apply_strength(before, restored, *strength)
        assert (out.shape, out.dtype) == (before.shape, before.dtype)
        assert out is not before and out is not restored
        if strength in [(0, 0), (100, 100)]:
            np.testing.assert_array_equal(out, restored if strength[0] else before)
        if channels in [(2,), (4,)]:
            np.testing.assert_array_equal(out[..., -1], before[..., -1])
    np.testing.assert_array_equal(before, kept[0])
    np.testing.assert_array_equal(restored, kept[1])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("channels", [(), (1,), (2,)])
def test_gray_ignores_chroma(dtype: str, channels: tuple[int, ...]) -> None:
    before, restored = pair(dtype, channels)
    for luma in (0, 60, 100, 140):
        first, *others = (apply_strength(before, restored, luma, c) for c in (0, 50, 100, 150))
        for other in others:
            np.testing.assert_array_equal(other, first)
    np.testing.assert_array_equal(apply_strength(before, restored, 0, 100), before)
    np.testing.assert_array_equal(apply_strength(before, restored, 100, 0), restored)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_gray_moves_from_the_input_in_every_pixel(data: st.DataObject) -> None:
    """For arbitrary image pairs, in integer steps of their bit depth."""
    dtype = data.draw(st.sampled_from(DTYPES))
    shape = data.draw(st.integers(1, 30)), data.draw(st.integers(1, 30))
    rng = np.random.default_rng(data.draw(st.integers(0, 1000)))
    spread = data.draw(st.sampled_from([0.0, 0.01, 0.5]))
    first = rng.random(shape)
    before = as_dtype(first, dtype)
    restored = as_dtype((first + spread * rng.normal(size=shape)).clip(0, 1), dtype)
    percents = sorted(data.draw(st.lists(st.floats(0, 150), min_size=2, max_size=6)))
    away = np.sign(restored.astype(np.float64) - before)
    last = np.zeros(shape)
    for percent in [0.0, *percents]:
        out = apply_strength(before, restored, percent, 100).astype(np.float64)
        step = away * (out - before)
        assert (step >= last).all()
        assert out.min() >= 0 and out.max() <= white_of(before)
        last = step


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_colours_move_from_the_input_in_luma_and_chroma(data: st.DataObject) -> None:
    dtype = data.draw(st.sampled_from(["uint8", "uint16", "float32", "float64"]))
    before, restored = pair(dtype, (3,), data.draw(st.integers(0, 1000)))
    low, high = sorted(data.draw(st.lists(st.floats(0, 150), min_size=2, max_size=2)))
    other = data.draw(st.floats(0, 150))
    # Rounding changes each channel by at most half a step.
    rounding = 1.0 if dtype.startswith("uint") else 1e-5

    def distances(luma: float, chroma: float) -> tuple[Array, Array]:
        out = apply_strength(before, restored, luma, chroma)
        change = out.astype(np.float64) - before
        luma_change = luma_of(out) - luma_of(before)
        return np.abs(luma_change), np.abs(change - luma_change[..., None]).max(-1)

    (luma_low, chroma_low), (luma_high, chroma_high) = distances(low, other), distances(high, other)
    assert (luma_high >= luma_low - rounding).all()
    if other <= 100:  # above 100, the remaining range depends on both
        assert np.abs(chroma_high - chroma_low).max() <= 2 * rounding
    (luma_low, chroma_low), (luma_high, chroma_high) = distances(other, low), distances(other, high)
    if other <= 100:
        assert np.abs(luma_high - luma_low).max() <= rounding
    assert (chroma_high >= chroma_low - 2 * rounding).all()


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_the_whole_distance_grows_with_one_strength_for_both(dtype: str) -> None:
    before, restored = pair(dtype, (3,))
    distances = [
        np.linalg.norm(apply_strength(before, restored, s, s).astype(np.float64) - before)
        for s in range(0, 151, 10)
    ]
    assert distances[0] == 0
    assert (np.diff(distances) > 0).all()


@pytest.mark.parametrize("channels", [(), (3,)])
def test_no_jump_at_the_ends(channels: tuple[int, ...]) -> None:
    before, restored = pair("float64", channels)
    for near, exact in ((1e-6, before), (100 - 1e-6, restored), (100 + 1e-6, restored)):
        out = apply_strength(before, restored, near, near)
        np.testing.assert_allclose(out, exact, atol=1e-7)


def test_chroma_alone_leaves_luma_and_luma_alone_leaves_chroma() -> None:
    before, restored = pair("float64", (3,))
    chroma_only = apply_strength(before, restored, 0, 100)
    np.testing.assert_allclose(luma_of(chroma_only), luma_of(before), atol=1e-6)
    luma_only = apply_strength(before, restored, 100, 0)
    np.testing.assert_allclose(luma_of(luma_only), luma_of(restored), atol=1e-6)
    # Luma changes all channels equally, so the channel differences stay.
    np.testing.assert_allclose(np.diff(luma_only), np.diff(before), atol=1e-6)
    np.testing.assert_allclose(np.diff(chroma_only), np.diff(restored), atol=1e-6)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_equal_channels_stay_equal(dtype: str) -> None:
    before, restored = (np.dstack([plane] * 3) for plane in pair(dtype, ()))
    for strength in [(20, 80), (80, 20), (60, 60), (130, 150)]:
        out = apply_strength(before, restored, *strength)
        np.testing.assert_array_equal(out[..., :2], out[..., 1:])


def textured() -> tuple[Array, Array, Array, Array]:
    """Noise everywhere, weaves of three kinds on the right; a filter that removes both.

    Returns:
        Input, filtered, and the removed noise and texture, all (256, 256).
    """
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:256, :256]
    texture = np.zeros((256, 256))
    texture[:, 160:] = 0.08 * np.sin(x * 1.1 + y * 0.7)[:, 160:]
    texture[128:, 160:] = 0.06 * rng.choice([-1.0, 1.0], (256, 256))[128:, 160:]
    noise = rng.normal(0, 0.03, (256, 256))
    return 0.5 + texture + noise, np.full((256, 256), 0.5), noise, texture


@pytest.mark.parametrize("strength", [30, 50, 75, 90])
def test_texture_returns_before_noise(strength: float) -> None:
    before, restored, *_ = textured()
    out = apply_strength(before, restored, strength, 100)
    returned = np.abs(out - restored) / np.maximum(np.abs(before - restored), 1e-9)
    noise, texture = returned[8:-8, 8:150].mean(), returned[8:-8, 170:-8].mean()
    assert texture > noise + 0.15
    # A uniform mixture lies on the line between the two; each must lie on its own side of it.
    assert noise < 1 - strength / 100 < texture


def test_a_mixture_of_the_same_distance_is_farther_from_the_clean_image() -> None:
    before, restored, noise, _ = textured()
    clean = before - noise
    out = apply_strength(before, restored, 60, 100)
    share = np.linalg.norm(out - restored) / np.linalg.norm(before - restored)
    mixture = restored + share * (before - restored)
    assert np.mean((out - clean) ** 2) < 0.8 * np.mean((mixture - clean) ** 2)


def test_removed_detail_that_follows_the_kept_structure_is_texture() -> None:
    """A filter that halves a grating removes as much on both halves, but noise on the left."""
    rng = np.random.default_rng(0)
    grating = np.zeros((128, 256))
    grating[:, 128:] = 0.1 * np.sin(np.arange(128) * 1.2)
    removed = np.where(grating != 0, grating / 2, rng.normal(0, 0.1 / 8**0.5, grating.shape))
    restored = 0.5 + grating / 2
    out = apply_strength(restored + removed, restored, 50, 100)
    returned = (out - restored) / np.where(np.abs(removed) < 1e-9, 1, removed)
    assert returned[8:-8, 144:-8].mean() > returned[8:-8, 8:112].mean() + 0.2


def test_noise_that_grows_with_brightness_is_not_texture() -> None:
    rng = np.random.default_rng(0)
    level = np.linspace(0.2, 0.8, 256)[None].repeat(256, 0)
    before = level + rng.normal(size=level.shape) * (0.01 + 0.05 * level)
    out = apply_strength(before, level, 50, 100)
    returned = (np.abs(out - level) / np.abs(before - level))[8:-8, 8:-8]
    dark, bright = returned[:, :80].mean(), returned[:, -80:].mean()
    assert abs(dark - bright) < 0.1 and max(dark, bright) < 0.5


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("level", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_above_100_nothing_new_is_clipped(dtype: str, level: float) -> None:
    rng = np.random.default_rng(0)
    before = as_dtype((level + rng.normal(0, 0.1, (40, 50, 3))).clip(0, 1), dtype)
    restored = as_dtype((level + rng.normal(0, 0.01, (40, 50, 3))).clip(0.01, 0.99), dtype)
    out = apply_strength(before, restored, 150, 150)
    assert out.min() > 0 and out.max() < white_of(before)


def test_above_100_large_differences_grow_less() -> None:
    rng = np.random.default_rng(0)
    restored = np.full((64, 64), 0.5)
    before = restored + rng.normal(0, 0.01, restored.shape)
    before[10:12, 10:12] = 0.9  # a speck
    grown = (apply_strength(before, restored, 150, 100) - restored) / (restored - before)
    assert 0 < grown[10, 10] < np.median(grown) / 2


def test_above_100_more_is_removed_where_some_is_left() -> None:
    """Noise that was removed by half is removed further; noise that is gone does not return."""
    rng = np.random.default_rng(0)
    clean = np.full((128, 256), 0.5)
    noise = rng.normal(0, 0.02, clean.shape)
    left = np.where(np.arange(256) < 128, 0.5, 0.0) * noise
    out = apply_strength(clean + noise, clean + left, 150, 100)
    half, gone = (np.abs(out - clean)[8:-8, s].mean() for s in (slice(8, 120), slice(136, -8)))
    amplitude = np.abs(noise).mean()
    assert half < 0.35 * amplitude  # 0.5 of it at 100
    assert gone < 0.15 * amplitude


def test_floating_images_beyond_black_and_white() -> None:
    rng = np.random.default_rng(0)
    before = rng.normal(0.5, 0.5, (30, 30)).astype(np.float32)
    restored = gaussian_filter(before, 2).clip(0, 1)
    last = before
    for percent in (1e-3, 20, 70, 150):
        out = apply_strength(before, restored, percent, percent)
        assert (np.abs(out - before) >= np.abs(last - before) - 1e-6).all()
        last = out
    np.testing.assert_allclose(apply_strength(before, restored, 1e-6, 1e-6), before, atol=1e-5)
    assert last.min() >= before.min() and last.max() <= before.max()


@pytest.mark.parametrize("strength", [(50, 70), (130, 140)])
def test_strips_leave_no_seams(strength: tuple[float, float], monkeypatch: Any) -> None:
    before, restored = pair("float32", (3,), size=300)
    whole = apply_strength(before, restored, *strength)
    monkeypatch.setattr(module, "_STRIP_PIXELS", 1)
    np.testing.assert_allclose(apply_strength(before, restored, *strength), whole, atol=1e-6)


def test_views_and_tiny_images() -> None:
    for shape in [(1, 1), (1, 9, 3), (9, 1, 4), (2, 2, 2)]:
        image = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        out = apply_strength(image, 255 - image, 60, 30)
        assert out.shape == shape
    before, restored = pair("uint16", (3,))
    views = before[::-1, ::-2], restored[::-1, ::-2]
    copies = [np.ascontiguousarray(view) for view in views]
    np.testing.assert_array_equal(
        apply_strength(*views, 60, 130), apply_strength(copies[0], copies[1], 60, 130)
    )


def test_nothing_removed_is_nothing_to_mix() -> None:
    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    for strength in [(30, 60), (150, 150), (0, 150)]:
        np.testing.assert_array_equal(apply_strength(image, image, *strength), image)


@pytest.mark.parametrize(
    ("given_strength", "parsed"),
    [
        (100, (100, 100)),
        (0, (0, 0)),
        (np.float32(62.5), (62.5, 62.5)),
        ((40, 150), (40, 150)),
        ([0, 1.5], (0, 1.5)),
    ],
)
def test_parse(given_strength: Any, parsed: tuple[float, float]) -> None:
    assert parse_strength(given_strength) == parsed


@pytest.mark.parametrize(
    "strength",
    [-1, 150.1, float("nan"), float("inf"), "much", None, (50,), (1, 2, 3), (50, -1), (50, "x")],
)
def test_parse_refuses_in_one_line(strength: Any) -> None:
    with pytest.raises(VHeatIRError, match="0 .*150") as caught:
        parse_strength(strength)
    assert "\n" not in str(caught.value)


def test_mismatched_images_are_refused() -> None:
    image = np.zeros((4, 5, 3), np.uint8)
    for other in (image[:3], image[..., 0], image.astype(np.uint16)):
        with pytest.raises(VHeatIRError, match="two versions of one image"):
            apply_strength(image, other, 50, 50)
    with pytest.raises(VHeatIRError, match="0 .*150"):
        apply_strength(image, image, 50, 151)
