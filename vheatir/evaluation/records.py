"""One measured or quoted figure."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

DEGRADED = "degraded"
"""The method's name in the row of the input itself."""


@dataclass(frozen=True)
class Record:
    """The mean figures of one method on one test set at one level.

    Attributes:
        task: key of :data:`vheatir.tasks.TASKS`.
        dataset: the test set's name.
        level: sigma on 0..255, or JPEG quality; None for a task without a level.
        method: :data:`DEGRADED`, a baseline, or a model's name.
        published: quoted from a paper rather than measured.
        params: number of parameters, None where there are none or they are not known.
        psnr: mean over the images, decibels; see :data:`vheatir.metrics.CONVENTIONS`.
        ssim: mean over the images; None where it is not known.
        psnrb: mean over the images, decibels, for JPEG; otherwise None.
        seconds_per_image: time of the restoration alone; None where nothing was restored.
        images: number of images.
    """

    task: str
    dataset: str
    level: float | None
    method: str
    published: bool
    params: int | None
    psnr: float
    ssim: float | None
    psnrb: float | None
    seconds_per_image: float | None
    images: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in order, with None for what JSON cannot hold (infinite PSNR)."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
