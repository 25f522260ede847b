"""Random degradation of training samples, with one generator per sample."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from vheatir.degradations._filters import log_uniform
from vheatir.degradations.basic import JPEG_UNIT, Subsampling, add_noise, jpeg_compress
from vheatir.degradations.photo import PhotoDegradation, degrade_photo
from vheatir.tasks import Task

#: Phase of the 8x8 JPEG grid in a crop, aligned to its corner, random, or half of each.
JpegGrid = Literal["aligned", "random", "half"]


@dataclass(frozen=True)
class DegradationRange:
    """Random degradation of training samples.

    Attributes:
        task: task, which determines degradation and colour mode.
        low: smallest level; unused by a task without a level.
        high: largest level; equal to ``low`` for a fixed level.
        jpeg_grid: see :data:`JpegGrid`.
        subsampling: chroma subsamplings to draw from.
        double_compression: probability of an earlier compression with independent quality, and
            independent grid phase unless the grid is aligned.
        photo: pipeline of the task ``photo``.
    """

    task: Task
    low: float = 0.0
    high: float = 0.0
    jpeg_grid: JpegGrid = "aligned"
    subsampling: Sequence[Subsampling] = ("4:2:0",)
    double_compression: float = 0.0
    photo: PhotoDegradation = PhotoDegradation()

    @property
    def margin(self) -> int:
        """Extra pixels of a source crop, which allow any phase of each JPEG grid."""
        if self.task.kind == "photo":
            return 2 * JPEG_UNIT
        return JPEG_UNIT if self.task.kind == "jpeg" and self.jpeg_grid != "aligned" else 0

    def draw_scale(self, rng: np.random.Generator, size: int, shortest: int) -> float:
        """Draw the resize factor of a sample: 1 except for the task ``photo``.

        Args:
            rng: random generator of the sample.
            size: side of the sample in pixels.
            shortest: shorter side of its image, which limits downscaling.
        """
        if self.task.kind != "photo" or rng.random() >= self.photo.resize:
            return 1.0
        scale = log_uniform(rng, *self.photo.resize_range)
        return max(scale, self.source_size(size) / shortest)

    def source_size(self, size: int, scale: float = 1.0) -> int:
        """Return the side of the clean source crop of a sample of side ``size``.

        Args:
            size: side of the sample in pixels.
            scale: see :meth:`draw_scale`.
        """
        return math.ceil((size + self.margin) / scale - 1e-6)


def degrade_for_training(
    clean: NDArray[np.uint8],
    size: int,
    what: DegradationRange,
    rng: np.random.Generator,
    scale: float = 1.0,
) -> tuple[NDArray[np.uint8 | np.float32], NDArray[np.uint8], float]:
    """Degrade a crop at a level drawn from the range.

    Args:
        clean: (S, S[, 3]) uint8, with S = ``what.source_size(size, scale)``.
        size: side of the result.
        what: the random degradation.
        rng: random generator of the sample.
        scale: resize factor, see :meth:`DegradationRange.draw_scale`.

    Returns:
        Degraded crop (noise: float32, may exceed [0, 1]; JPEG, photo: uint8), clean crop
        (uint8), level (0 for a task without one).
    """
    if what.task.kind == "photo":
        return *degrade_photo(clean, size, what.photo, rng, scale), 0.0
    if what.task.kind == "denoise":
        sigma = float(rng.uniform(what.low, what.high))
        unit = np.divide(clean, np.float32(255), dtype=np.float32)
        return add_noise(unit, sigma, rng), clean, sigma
    degraded, top, left = clean, 0, 0
    if rng.random() < what.double_compression:
        degraded, _ = _compress(clean, what, rng)
        if what.margin:
            top, left = (int(v) for v in rng.integers(JPEG_UNIT // 2, size=2))
    degraded, quality = _compress(degraded[top:, left:], what, rng)
    clean = clean[top:, left:]
    row = column = 0
    if what.margin and not (what.jpeg_grid == "half" and rng.random() < 0.5):
        row = int(rng.integers(what.margin - top))
        column = int(rng.integers(what.margin - left))
    window = (slice(row, row + size), slice(column, column + size))
    return degraded[window], clean[window], float(quality)


def _compress(
    image: NDArray[np.uint8], what: DegradationRange, rng: np.random.Generator
) -> tuple[NDArray[np.uint8], int]:
    """Compress an image with a quality and a subsampling drawn from the range."""
    quality = int(rng.integers(round(what.low), round(what.high) + 1))
    subsampling = what.subsampling[int(rng.integers(len(what.subsampling)))]
    return jpeg_compress(image, quality, subsampling), quality
