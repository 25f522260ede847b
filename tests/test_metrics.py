"""PSNR, SSIM and PSNR-B against scikit-image and a slow, literal implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.metrics import CONVENTIONS, psnr, psnrb, ssim, to_uint8
from vheatir.tasks import PAIRED_TASKS, TASKS

Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


@pytest.fixture(params=["gray", "colour", "odd"])
def pair(request: pytest.FixtureRequest) -> Pair:
    """A degraded photograph and the clean one."""
    photo = heldout_photographs()["chelsea"][:160, 40:232]
    if request.param == "gray":
        photo = to_color_mode(photo, "gray")
    if request.param == "odd":
        photo = photo[:61, :45]
    noise = np.random.default_rng(0).normal(0, 12, photo.shape)
    degraded = np.clip(np.rint(jpeg_compress(np.ascontiguousarray(photo), 20) + noise), 0, 255)
    return degraded.astype(np.uint8), photo


def test_psnr_agrees_with_scikit_image(pair: Pair) -> None:
    image, reference = pair
    assert psnr(image, reference) == pytest.approx(
        peak_signal_noise_ratio(reference, image, data_range=255), abs=1e-10
    )


def test_ssim_agrees_with_scikit_images_map_on_the_valid_region(pair: Pair) -> None:
    image, reference = pair
    _, similarity = structural_similarity(
        image,
        reference,
        data_range=255,
        channel_axis=-1 if image.ndim == 3 else None,
        gaussian_weights=True,
        sigma=1.5,
        win_size=11,
        use_sample_covariance=False,
        full=True,
    )
    assert ssim(image, reference) == pytest.approx(similarity[5:-5, 5:-5].mean(), abs=1e-9)


def slow_psnrb(image: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Yim and Bovik's PSNR-B of one channel with peak 255, pixel pair by pixel pair."""
    height, width = image.shape
    on_edges = elsewhere = 0.0
    for y in range(height):
        for x in range(width):
            if x + 1 < width:
                step = (image[y, x] - image[y, x + 1]) ** 2
                on_edges, elsewhere = (
                    (on_edges + step, elsewhere) if x % 8 == 7 else (on_edges, elsewhere + step)
                )
            if y + 1 < height:
                step = (image[y, x] - image[y + 1, x]) ** 2
                on_edges, elsewhere = (
                    (on_edges + step, elsewhere) if y % 8 == 7 else (on_edges, elsewhere + step)
                )
    # The published scripts count size // 8 - 1 edges whatever the size.
    edges = height * (width // 8 - 1) + width * (height // 8 - 1)
    pairs = height * (width - 1) + width * (height - 1)
    difference = on_edges / edges - elsewhere / (pairs - edges)
    weight = math.log2(8) / math.log2(min(height, width)) if difference > 0 else 0.0
    error = ((image - reference) ** 2).mean() + weight * difference
    return 10 * math.log10(255**2 / error)


def test_psnrb_agrees_with_the_literal_formula(pair: Pair) -> None:
    image, reference = (np.atleast_3d(a).astype(np.float64) for a in pair)
    channels = range(image.shape[2])
    expected = np.mean([slow_psnrb(image[..., c], reference[..., c]) for c in channels])
    assert psnrb(*pair) == pytest.approx(expected, abs=1e-9)


def test_psnrb_punishes_blocks_and_only_on_the_grid() -> None:
    photo = to_color_mode(heldout_photographs()["chelsea"], "gray")[:256, :256]
    blocky = jpeg_compress(np.ascontiguousarray(photo), 10)
    assert psnrb(blocky, photo) < psnr(blocky, photo) - 0.5
    # Shifted by half a block, the edges fall inside the assumed blocks: no penalty.
    assert psnrb(blocky[4:-4, 4:-4], photo[4:-4, 4:-4]) == psnr(blocky, photo, border=4)


def test_equal_images() -> None:
    photo = heldout_photographs()["chelsea"][:64, :64]
    assert psnr(photo, photo) == math.inf
    assert ssim(photo, photo) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("metric", [psnr, ssim, psnrb])
def test_border_and_data_range(metric, pair: Pair) -> None:
    image, reference = pair
    inner = (slice(8, -8), slice(8, -8))
    assert metric(image, reference, border=8) == metric(image[inner], reference[inner])
    scaled = metric(image / 255, reference / 255, data_range=1)
    assert scaled == pytest.approx(metric(image, reference), abs=1e-9)


@pytest.mark.parametrize("metric", [psnr, ssim, psnrb])
def test_metrics_refuse_what_cannot_be_compared(metric) -> None:
    with pytest.raises(VHeatIRError, match="same shape"):
        metric(np.zeros((32, 32), np.uint8), np.zeros((32, 32, 1), np.uint8))
    with pytest.raises(VHeatIRError, match="leaves nothing"):
        metric(np.zeros((32, 32), np.uint8), np.zeros((32, 32), np.uint8), border=16)


def test_ssim_and_psnrb_need_room() -> None:
    tiny = np.zeros((10, 12), np.uint8)
    with pytest.raises(VHeatIRError, match="11x11"):
        ssim(tiny, tiny)
    with pytest.raises(VHeatIRError, match="two blocks"):
        psnrb(tiny, tiny)


def test_to_uint8_clips_and_rounds() -> None:
    values = np.array([-0.2, 0.0, 0.4 / 255, 0.6 / 255, 254.6 / 255, 1.0, 7.0], np.float32)
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 0, 1, 255, 255, 255])
    every = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(to_uint8(every.astype(np.float32) / 255), every)
    assert to_uint8(every) is every
    halves = np.arange(15_361, dtype=np.uint16).view(np.float16)  # all of 0 to 1
    np.testing.assert_array_equal(to_uint8(halves), to_uint8(halves.astype(np.float64)))
    with pytest.raises(TypeError):
        to_uint8(np.arange(3))


def test_every_task_states_its_convention() -> None:
    assert set(CONVENTIONS) == {*TASKS, *(task.name for task in PAIRED_TASKS.values())}
