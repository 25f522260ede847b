"""The evaluation protocol: degradation, restoration, rounding and averaging."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import benchmark_noise, jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.evaluation.benchmark_sets import BenchmarkSet, bundled_test_set
from vheatir.evaluation.methods import Method
from vheatir.evaluation.protocol import measure
from vheatir.evaluation.records import DEGRADED
from vheatir.tasks import TASKS, get_task


def small_set() -> BenchmarkSet:
    """Two crops of the held-out photographs, one of odd size."""
    photos = heldout_photographs()
    crops = [photos["chelsea"][:96, :120], photos["coffee"][100:171, 200:283]]
    return BenchmarkSet("crops", ("a", "b"), crops)


def method(restore, task: str = "denoise_color", name: str = "fake", params=7) -> Method:
    levels = (0.0, 255.0) if get_task(task).has_level else None
    return Method(name, task, levels, params, restore)


def test_degraded_row_is_the_mean_over_images_of_clipped_and_rounded_input() -> None:
    task, crops = get_task("denoise_color"), small_set()
    expected = []
    for index in range(2):
        clean = crops.load(index, task)
        noisy = benchmark_noise(clean.astype(np.float32) / 255, 25)
        rounded = np.rint(noisy.clip(0, 1) * 255).astype(np.uint8)
        expected.append(peak_signal_noise_ratio(clean, rounded, data_range=255))
    record = measure(task, crops, 25)
    assert record.psnr == pytest.approx(np.mean(expected), abs=1e-9)
    assert (record.method, record.published, record.params) == (DEGRADED, False, None)
    assert (record.dataset, record.level, record.images) == ("crops", 25, 2)
    assert record.psnrb is None and record.seconds_per_image is None


def test_a_method_sees_unclipped_noise_and_its_output_is_measured() -> None:
    task, crops = get_task("denoise_color"), small_set()
    seen = []

    def restore(image, level):
        seen.append((image, level))
        return np.full_like(image, 0.5)

    record = measure(task, crops, 50, method(restore))
    for index, (image, level) in enumerate(seen):
        clean = crops.load(index, task).astype(np.float32) / 255
        np.testing.assert_array_equal(image, benchmark_noise(clean, 50))
        assert level == 50 and image.min() < 0
    expected = [
        peak_signal_noise_ratio(crops.load(i, task), np.full_like(crops.load(i, task), 128))
        for i in range(2)
    ]
    assert record.psnr == pytest.approx(np.mean(expected), abs=1e-9)
    assert record.params == 7
    assert record.seconds_per_image is not None and record.seconds_per_image >= 0


@pytest.mark.parametrize("name", ["jpeg_gray", "jpeg_color"])
def test_jpeg_input_is_opencvs_and_has_psnrb(name: str) -> None:
    task, crops = get_task(name), small_set()
    outputs = {}
    record = measure(task, crops, 20, on_image=lambda m: outputs.update({m.name: m.output}))
    for index, key in enumerate("ab"):
        clean = to_color_mode(heldout_crop(index), task.color)
        np.testing.assert_array_equal(outputs[key], jpeg_compress(np.ascontiguousarray(clean), 20))
    assert record.psnrb is not None and record.psnrb < record.psnr


def heldout_crop(index: int):
    return small_set().clean[index]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_a_perfect_method_is_perfect_and_measuring_repeats(task) -> None:
    crops = small_set()
    level = task.benchmark_levels[0] if task.has_level else None
    answers = iter([crops.load(i, task).astype(np.float32) / 255 for i in range(2)])
    perfect = measure(task, crops, level, method(lambda image, level: next(answers), task.name))
    assert perfect.psnr == float("inf")
    assert perfect.ssim == pytest.approx(1)
    assert perfect.as_dict()["psnr"] is None  # JSON has no infinity
    assert measure(task, crops, level) == measure(task, crops, level)


def test_methods_that_fail_are_named() -> None:
    task, crops = get_task("denoise_gray"), small_set()
    nan = method(lambda image, level: image * np.float32("nan"), task.name, "broken")
    with pytest.raises(VHeatIRError, match=r"broken returned NaN .* image 'a'"):
        measure(task, crops, 15, nan)
    smaller = method(lambda image, level: image[1:], task.name, "cropper")
    with pytest.raises(VHeatIRError, match="cropper turned image 'a'"):
        measure(task, crops, 15, smaller)


def test_invalid_levels_are_refused() -> None:
    with pytest.raises(VHeatIRError, match="whole number"):
        measure(get_task("jpeg_gray"), small_set(), 10.5)
    with pytest.raises(VHeatIRError, match="sigma is needed"):
        measure(get_task("denoise_color"), small_set(), None)


def paired_set() -> BenchmarkSet:
    """The crops, each paired with a darkened copy as its noisy image."""
    crops = small_set()
    darker = [crops.clean[index] // 2 for index in range(2)]
    return BenchmarkSet("pairs", crops.names, crops.clean, darker)


def test_pairs_bring_their_own_input() -> None:
    task, pairs = get_task("photo"), paired_set()
    seen = []

    def restore(image, level):
        seen.append((image, level))
        return image * 2

    clean = [pairs.load(i, task) for i in range(2)]
    dark = measure(task, pairs, None)
    expected = [peak_signal_noise_ratio(c, c // 2, data_range=255) for c in clean]
    assert dark.psnr == pytest.approx(np.mean(expected), abs=1e-9)
    assert (dark.level, dark.psnrb) == (None, None)
    restored = measure(task, pairs, None, method(restore, "photo"))
    for (image, level), c in zip(seen, clean, strict=True):
        np.testing.assert_array_equal(image, (c // 2).astype(np.float32) / np.float32(255))
        assert level is None
    expected = [peak_signal_noise_ratio(c, c // 2 * 2, data_range=255) for c in clean]
    assert restored.psnr == pytest.approx(np.mean(expected), abs=1e-9)


def test_a_pair_of_unequal_sizes_is_one_clear_line() -> None:
    pairs = replace(paired_set(), noisy=paired_set().noisy[::-1])
    with pytest.raises(VHeatIRError, match=r"pair 'a' of pairs .* 83x71 pixels, .* 120x96"):
        measure(get_task("photo"), pairs, None)


def test_bundled_set_is_the_held_out_one() -> None:
    bundled = bundled_test_set()
    assert bundled.name == "bundled" and bundled.names == tuple(heldout_photographs())
    assert bundled.load(0, get_task("jpeg_color")).ndim == 3
    assert bundled.load(0, get_task("jpeg_gray")).ndim == 2
    first = bundled.first(1)
    assert len(first) == 1 and bundled.first(99) == bundled.first(None) == bundled
    assert not bundled.is_paired and len(paired_set().first(1)) == 1
