"""Result records, measured or quoted."""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, asdict, dataclass
from typing import Any

DEGRADED = "degraded"
"""Method name of the row for the degraded input itself."""


@dataclass(frozen=True)
class Record:
    """Mean results of one method on one test set at one level.

    Attributes:
        task: key of :data:`vheatir.tasks.TASKS`.
        dataset: name of the test set.
        level: sigma on 0..255, or JPEG quality; None for a task without a level.
        method: :data:`DEGRADED`, or the name of a baseline or model.
        published: whether the result is quoted from a paper rather than measured.
        params: number of parameters; None if there are none or the number is unknown.
        psnr: mean PSNR in dB over the images; see :data:`vheatir.metrics.CONVENTIONS`.
        ssim: mean SSIM over the images; None if unknown.
        psnrb: mean PSNR-B in dB over the images for JPEG tasks; otherwise None.
        seconds_per_image: mean restoration time; None for the degraded input and quoted results.
        images: number of images.
    """

    task: str
    dataset: str
    level: float | None
    method: str
    _: KW_ONLY
    published: bool = False
    params: int | None = None
    psnr: float
    ssim: float | None = None
    psnrb: float | None = None
    seconds_per_image: float | None = None
    images: int

    def as_dict(self) -> dict[str, Any]:
        """Return the fields in order; values that JSON lacks (infinite PSNR) become None."""
        return {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
