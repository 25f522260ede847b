"""Evaluation protocol of published tables: degrade, restore, round, compute metrics.

Follows SwinIR (arXiv 2108.10257): see :func:`vheatir.degradations.degrade_for_benchmark` for the
input and :data:`vheatir.metrics.CONVENTIONS` for the metrics. Paired test sets include the input.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.evaluation.benchmark_sets import BenchmarkSet
from vheatir.evaluation.methods import Method
from vheatir.evaluation.records import DEGRADED, Record
from vheatir.metrics import psnr, psnrb, ssim, to_uint8
from vheatir.tasks import Task

METRICS = {"psnr": psnr, "ssim": ssim, "psnrb": psnrb}


@dataclass(frozen=True)
class Measured:
    """One image, restored and measured.

    Attributes:
        name: name of the image.
        clean: ``uint8``, (H, W) or (H, W, 3).
        degraded: the network's input, clipped and rounded to ``uint8``.
        output: output of the method, clipped and rounded; the input for the degraded row.
        scores: the value of each requested metric of :data:`METRICS`.
        seconds: restoration time; None for the degraded row.
        unrounded: the output as the method returned it, floating point with white at 1.
    """

    name: str
    clean: NDArray[np.uint8]
    degraded: NDArray[np.uint8]
    output: NDArray[np.uint8]
    scores: dict[str, float]
    seconds: float | None
    unrounded: NDArray[np.float32]


def measure_images(
    task: Task,
    test_set: BenchmarkSet,
    level: float | None,
    method: Method | None,
    metrics: Sequence[str],
    *,
    check: bool = True,
) -> Iterator[Measured]:
    """Degrade, restore and measure each image of a test set, for benchmarks and validation.

    Args:
        task: determines degradation and colour mode.
        test_set: the images, which may bring their own degraded versions.
        level: see :func:`measure`.
        method: see :func:`measure`.
        metrics: keys of :data:`METRICS`.
        check: raise an error for an output of another shape or with non-finite values.

    Raises:
        VHeatIRError: see :func:`measure`.
    """
    for index, name in enumerate(test_set.names):
        clean, noisy = test_set.load_pair(index, task)
        if noisy is None:
            degraded = degrade_for_benchmark(clean, task, level)
        else:
            degraded = noisy.astype(np.float32) / np.float32(255)
        output, seconds = degraded, None
        if method is not None:
            began = time.perf_counter()
            output = method.restore(degraded, level)
            seconds = time.perf_counter() - began
            if check:
                _check_output(method, name, output, clean.shape)
        restored = to_uint8(output)
        scores = {metric: METRICS[metric](restored, clean) for metric in metrics}
        yield Measured(name, clean, to_uint8(degraded), restored, scores, seconds, output)


def measure(
    task: Task,
    test_set: BenchmarkSet,
    level: float | None,
    method: Method | None = None,
    on_image: Callable[[Measured], None] | None = None,
) -> Record:
    """Evaluate a method on a test set at one level.

    Args:
        task: determines degradation and colour mode.
        test_set: a test set of at least one image.
        level: sigma on 0..255, or an integral JPEG quality; None for a task without a level.
        method: method to evaluate; None evaluates the degraded images themselves.
        on_image: called after each image, to show progress and save images.

    Raises:
        VHeatIRError: an invalid level, an image too small for the metrics, a pair of unequal
            sizes, or a method that returns another shape or non-finite values.
    """
    metrics = ["psnr", "ssim"] + (["psnrb"] if task.kind == "jpeg" else [])
    scores: list[dict[str, float]] = []
    seconds: list[float] = []
    for image in measure_images(task, test_set, level, method, metrics):
        scores.append(image.scores)
        seconds.append(image.seconds or 0.0)
        if on_image is not None:
            on_image(image)
    means = {metric: float(np.mean([each[metric] for each in scores])) for metric in metrics}
    if level is not None and level == int(level):
        level = int(level)
    name, known = DEGRADED, dict[str, Any](means)
    if method is not None:
        name = method.name
        known |= {"params": method.params, "seconds_per_image": float(np.mean(seconds))}
    return Record(task.name, test_set.name, level, name, images=len(test_set), **known)


def _check_output(method: Method, image: str, output: NDArray[Any], shape: tuple[int, ...]) -> None:
    if output.shape != shape:
        raise VHeatIRError(
            f"{method.name} turned image {image!r} of shape {shape} into {output.shape}: "
            "it does not fit this task"
        )
    if not np.isfinite(output).all():
        raise VHeatIRError(
            f"{method.name} returned NaN or infinite pixels for image {image!r}: its weights "
            "are damaged or its training diverged; use other weights"
        )
