"""Results quoted from papers, for the tables; none of them was measured by this project.

``published.json`` holds them: the test sets, with levels and number of images; protocols; methods.
Set12 in gray and McMaster in colour at sigma 15/25/50 and LIVE1 in luma at quality 10/20/30/40
follow :data:`vheatir.metrics.CONVENTIONS`; Nam25, CC15 and PolyU, which have no level, follow
:data:`PROTOCOLS`. None stands for results that a paper does not report.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from vheatir.evaluation.records import Record

Figures = Sequence[float | None]

_DATA = json.loads(Path(__file__).with_suffix(".json").read_text(encoding="utf-8"))

# (task, test set): levels, number of images
COLUMNS: dict[tuple[str, str], tuple[tuple[int | None, ...], int]] = {
    (each["task"], each["dataset"]): (tuple(each["levels"]), each["images"])
    for each in _DATA["sets"]
}

PROTOCOLS: dict[str, str] = _DATA["protocols"]
"""Protocol of the quoted results by test set, for sets without a common protocol."""


@dataclass(frozen=True)
class Quoted:
    """Results reported by one paper.

    Attributes:
        method: name in tables.
        source: publication of the method.
        psnr: by test set, PSNR in dB for each level of :data:`COLUMNS`.
        ssim: by test set, SSIM for each level.
        params: number of parameters, if known.
    """

    method: str
    source: str
    psnr: dict[str, Figures]
    ssim: dict[str, Figures] | None = None
    params: int | None = None


PUBLISHED: tuple[Quoted, ...] = tuple(Quoted(**row) for row in _DATA["methods"])


def published_records(task: str, dataset: str, levels: Collection[float | None]) -> list[Record]:
    """Return the quoted results for a task on a test set at ``levels``.

    Args:
        task: key of :data:`vheatir.tasks.TASKS`.
        dataset: name of the test set, such as ``"Set12"``.
        levels: sigmas or qualities in the table; ``[None]`` for a task without a level.
    """
    if (task, dataset) not in COLUMNS:
        return []
    known_levels, images = COLUMNS[task, dataset]
    nothing: Figures = (None,) * len(known_levels)
    return [
        Record(
            task,
            dataset,
            level,
            quoted.method,
            published=True,
            params=quoted.params,
            psnr=psnr,
            ssim=ssim,
            images=images,
        )
        for quoted in PUBLISHED
        for level, psnr, ssim in zip(
            known_levels,
            quoted.psnr.get(dataset, nothing),
            (quoted.ssim or {}).get(dataset, nothing),
            strict=True,
        )
        if psnr is not None and level in levels
    ]


def sources(methods: Collection[str]) -> str:
    """Return the publications of the quoted ``methods``, in one line."""
    named = [quoted for quoted in PUBLISHED if quoted.method in methods]
    return "; ".join(f"{quoted.method}: {quoted.source}" for quoted in named)


def protocols(datasets: Collection[str]) -> str:
    """Return the protocols of the quoted results on ``datasets``, in one line.

    Empty if none of them has an entry in :data:`PROTOCOLS`.
    """
    return "; ".join(f"{name}: {PROTOCOLS[name]}" for name in datasets if name in PROTOCOLS)
