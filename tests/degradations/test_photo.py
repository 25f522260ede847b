"""The degradation pipeline of the task ``photo``."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from vheatir.bundled import training_photographs
from vheatir.degradations import DegradationRange, PhotoDegradation, degrade_photo
from vheatir.tasks import TASKS
from vheatir.training.sections import PhotoOptions

SIZE = 48
NONE = replace(
    PhotoDegradation(),
    **{
        f.name: 0.0
        for f in fields(PhotoDegradation)
        if isinstance(f.default, float) and f.name != "low_quality_share"
    },
)


PHOTO = DegradationRange(TASKS["photo"])
ASTRONAUT = training_photographs()["astronaut"]


def clean(scale: float = 1.0, seed: int = 0) -> NDArray[np.uint8]:
    side = PHOTO.source_size(SIZE, scale)
    return np.ascontiguousarray(ASTRONAUT[seed:][:side, 100 : 100 + side])


def sample(what: PhotoDegradation, seed: int, scale: float = 1.0) -> tuple[NDArray, NDArray]:
    return degrade_photo(clean(scale, seed), SIZE, what, np.random.default_rng(seed), scale)


def test_samples_are_uint8_crops_of_the_size_asked_for() -> None:
    what = replace(PhotoDegradation(), resize=1.0)
    for seed in range(60):
        scale = replace(PHOTO, photo=what).draw_scale(np.random.default_rng(seed), SIZE, 400)
        assert 0.6 <= scale <= 4
        for image in sample(what, seed, scale):
            assert image.shape == (SIZE, SIZE, 3) and image.dtype == np.uint8


def test_small_images_limit_the_reduction() -> None:
    what = replace(PHOTO, photo=replace(PhotoDegradation(), resize=1.0))
    shortest = what.source_size(SIZE)
    for seed in range(20):
        scale = what.draw_scale(np.random.default_rng(seed), SIZE, shortest)
        assert what.source_size(SIZE, scale) <= shortest


def test_without_degradation_the_input_is_the_target() -> None:
    for what in (NONE, replace(PhotoDegradation(), clean=1.0)):
        lq, gt = sample(what, 1)
        assert np.array_equal(lq, gt)


def test_the_target_is_a_crop_of_the_photograph() -> None:
    source = clean()
    windows = np.lib.stride_tricks.sliding_window_view(source, (SIZE, SIZE), axis=(0, 1))
    windows = windows.transpose(0, 1, 3, 4, 2)
    for seed, what in enumerate([replace(NONE, camera_noise=1.0), replace(NONE, jpeg=1.0)]):
        lq, gt = degrade_photo(source, SIZE, what, np.random.default_rng(seed))
        assert (windows == gt).all((2, 3, 4)).any()
        assert not np.array_equal(lq, gt)


NOISES = [f.name for f in fields(PhotoDegradation) if f.name.endswith(("_noise", "grain"))]


@pytest.mark.parametrize("name", [*NOISES, "jpeg"])
@pytest.mark.parametrize("gray", [0.0, 1.0])
def test_every_degradation_keeps_brightness_and_colour(name: str, gray: float) -> None:
    what = replace(NONE, **{name: 1.0}, gray=gray, sigma=(2.0, 10.0))
    shifts = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        # not quite flat: JPEG would round the colour of a flat field
        flat = rng.integers(-9, 10, (SIZE + 32, SIZE + 32, 3)) + (90, 120, 150)
        lq, gt = degrade_photo(flat.astype(np.uint8), SIZE, what, rng)
        if gray:
            assert (lq == lq[..., :1]).all() and (gt == gt[..., :1]).all()
        shifts.append(lq.astype(float).mean((0, 1)) - gt.mean((0, 1)))
    assert np.abs(np.mean(shifts, axis=0)).max() < 0.5


def test_noise_of_one_kind_is_what_its_name_says() -> None:
    flat = np.full((SIZE + 32, SIZE + 32, 3), 128, np.uint8)

    def noise(name: str, seed: int) -> NDArray[np.float64]:
        what = replace(NONE, **{name: 1.0}, sigma=(10.0, 10.0))
        lq, gt = degrade_photo(flat, SIZE, what, np.random.default_rng(seed))
        return lq.astype(float) - gt

    white = noise("white_noise", 0)
    assert white.std() == pytest.approx(10, rel=0.05)
    assert abs(np.corrcoef(white[..., 0].ravel(), white[..., 1].ravel())[0, 1]) < 0.1
    gray = noise("gray_noise", 0)
    assert np.array_equal(gray[..., 0], gray[..., 2])
    correlations = [
        abs(np.corrcoef(*(noise("correlated_noise", s)[..., c].ravel() for c in (0, 1)))[0, 1])
        for s in range(12)
    ]
    assert max(correlations) > 0.3
    blurred = noise("blurred_noise", 1)[..., 0]
    assert np.corrcoef(blurred[:, 1:].ravel(), blurred[:, :-1].ravel())[0, 1] > 0.2


def test_noise_is_finer_than_the_content_of_a_strongly_enlarged_photograph() -> None:
    what = replace(NONE, resize=1.0, white_noise=1.0, sigma=(8.0, 8.0))
    for seed in range(8):
        lq, gt = (image.astype(float) for image in sample(what, seed, scale=3.0))
        noise = (lq - gt)[(gt > 30).all(axis=2) & (gt < 225).all(axis=2)]
        assert noise.std() == pytest.approx(8, rel=0.1)
        difference = lq - gt
        neighbours = (difference[:, 1:] * difference[:, :-1]).mean() / difference.var()
        assert abs(neighbours) < 0.1  # white: not enlarged


def test_target_and_input_are_resized_alike() -> None:
    what = replace(NONE, resize=1.0)
    for scale in (0.7, 1.4):
        lq, gt = sample(what, 0, scale)
        assert np.array_equal(lq, gt)
        lq, gt = sample(replace(what, white_noise=1.0, sigma=(3.0, 3.0)), 0, scale)
        assert 0 < np.abs(lq.astype(float) - gt).mean() < 5


def test_shares_are_those_asked_for() -> None:
    what = PhotoDegradation(clean=0.3, gray=0.4)
    pairs = [sample(what, seed) for seed in range(150)]
    gray = np.mean([(gt == gt[..., :1]).all() for _, gt in pairs])
    same = np.mean([np.array_equal(lq, gt) for lq, gt in pairs])
    assert 0.28 < gray < 0.52
    assert 0.2 < same < 0.5


def test_option_files_have_the_same_names_and_defaults() -> None:
    assert PhotoDegradation(**PhotoOptions().model_dump()) == PhotoDegradation()


def test_source_size_adds_the_margin_of_the_pipeline() -> None:
    assert PHOTO.source_size(SIZE) == SIZE + 32
    assert PHOTO.draw_scale(np.random.default_rng(0), SIZE, 300) > 0
