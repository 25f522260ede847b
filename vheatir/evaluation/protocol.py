"""Evaluation protocol of published tables: degrade, restore, round, compute metrics.

Follows SwinIR (arXiv 2108.10257): see :func:`vheatir.degradations.degrade_for_benchmark` for the
input and :data:`vheatir.metrics.CONVENTIONS` for the metrics. Paired test sets include the input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.evaluation.benchmark_sets import BenchmarkSet
from vheatir.evaluation.methods import Method
from vheatir.evaluation.records import DEGRADED, Record
from vheatir.metrics import psnr, psnrb, ssim, to_uint8
from vheatir.tasks import Task

OnImage = Callable[["Measured"], None]


@dataclass(frozen=True)
class Measured:
    """One image, restored and measured.

    Attributes:
        name: name of the image.
        clean: ``uint8``, (H, W) or (H, W, 3).
        degraded: the network's input, clipped and rounded to ``uint8``.
        output: output of the method, clipped and rounded; the input for the degraded row.
        psnr: PSNR in dB.
        ssim: SSIM, at most 1.
        psnrb: PSNR-B in dB for JPEG tasks; otherwise None.
        seconds: restoration time; None for the degraded row.
    """

    name: str
    clean: NDArray[np.uint8]
    degraded: NDArray[np.uint8]
    output: NDArray[np.uint8]
    psnr: float
    ssim: float
    psnrb: float | None
    seconds: float | None


def measure(
    task: Task,
    test_set: BenchmarkSet,
    level: float | None,
    method: Method | None = None,
    on_image: OnImage | None = None,
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
    psnrs: list[float] = []
    ssims: list[float] = []
    psnrbs: list[float | None] = []
    seconds: list[float | None] = []
    for index, name in enumerate(test_set.names):
        clean, noisy = test_set.load_pair(index, task)
        if noisy is None:
            degraded = degrade_for_benchmark(clean, task, level)
        else:
            degraded = noisy.astype(np.float32) / np.float32(255)
        result = _measure_image(task, clean, degraded, name, level, method)
        psnrs.append(result.psnr)
        ssims.append(result.ssim)
        psnrbs.append(result.psnrb)
        seconds.append(result.seconds)
        if on_image is not None:
            on_image(result)
    return Record(
        task=task.name,
        dataset=test_set.name,
        level=int(level) if level is not None and level == int(level) else level,
        method=DEGRADED if method is None else method.name,
        published=False,
        params=None if method is None else method.params,
        psnr=float(np.mean(psnrs)),
        ssim=float(np.mean(ssims)),
        psnrb=_mean(psnrbs),
        seconds_per_image=_mean(seconds),
        images=len(test_set),
    )


def _measure_image(
    task: Task,
    clean: NDArray[np.uint8],
    degraded: NDArray[np.float32],
    name: str,
    level: float | None,
    method: Method | None,
) -> Measured:
    output, seconds = degraded, None
    if method is not None:
        began = time.perf_counter()
        output = method.restore(degraded, level)
        seconds = time.perf_counter() - began
        if output.shape != clean.shape:
            raise VHeatIRError(
                f"{method.name} turned image {name!r} of shape {clean.shape} into {output.shape}: "
                "it does not fit this task"
            )
        if not np.isfinite(output).all():
            raise VHeatIRError(
                f"{method.name} returned NaN or infinite pixels for image {name!r}: its weights "
                "are damaged or its training diverged; use other weights"
            )
    restored = to_uint8(output)
    return Measured(
        name=name,
        clean=clean,
        degraded=to_uint8(degraded),
        output=restored,
        psnr=psnr(restored, clean),
        ssim=ssim(restored, clean),
        psnrb=psnrb(restored, clean) if task.kind == "jpeg" else None,
        seconds=seconds,
    )


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
