"""Results quoted from papers, for the tables; none of them was measured by this project.

Set12 in gray and McMaster in colour at sigma 15/25/50 and LIVE1 in luma at quality 10/20/30/40
follow :data:`vheatir.metrics.CONVENTIONS`; Nam25, CC15 and PolyU, which have no level, follow
:data:`PROTOCOLS`. None stands for results that a paper does not report.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from vheatir.evaluation.records import Record

Figures = tuple[float | None, ...]

# (task, test set): levels, number of images
COLUMNS: dict[tuple[str, str], tuple[tuple[int | None, ...], int]] = {
    ("denoise_gray", "Set12"): ((15, 25, 50), 12),
    ("denoise_color", "McMaster"): ((15, 25, 50), 18),
    ("jpeg_gray", "LIVE1"): ((10, 20, 30, 40), 29),
    ("photo", "Nam25"): ((None,), 25),
    ("photo", "CC15"): ((None,), 15),
    ("photo", "PolyU"): ((None,), 100),
}

PROTOCOLS: dict[str, str] = {
    "Nam25": "by the protocol of CBDNet (CVPR 2019), as its paper gives them",
    "CC15": "networks that were not trained on it, as table 6 of Pseudo-ISP (arXiv 2103.10234) "
    "gives them; Learning to Translate Noise by its own paper",
    "PolyU": "by the protocol of PNGAN (NeurIPS 2021), on the crops of the full set, as its paper "
    "gives them; Learning to Translate Noise by its own paper",
}
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


PUBLISHED: tuple[Quoted, ...] = (
    Quoted(
        "BM3D",
        "Dabov et al., TIP 2007",
        {"Set12": (32.37, 29.97, 26.72), "Nam25": (39.84,)},
    ),
    Quoted("CBM3D", "Dabov et al., ICIP 2007", {"McMaster": (34.06, 31.66, 28.51)}),
    Quoted("ARCNN", "Dong et al., ICCV 2015", {"LIVE1": (28.96, 31.29, 32.67, 33.63)}),
    Quoted(
        "DnCNN",
        "Zhang et al., TIP 2017",
        {
            "Set12": (32.86, 30.44, 27.18),
            "McMaster": (33.45, 31.52, 28.62),
            "LIVE1": (29.19, 31.59, 32.98, 33.96),
        },
    ),
    Quoted(
        "FFDNet",
        "Zhang et al., TIP 2018",
        {"Set12": (32.75, 30.43, 27.32), "McMaster": (34.66, 32.35, 29.18)},
    ),
    Quoted(
        "DRUNet",
        "Zhang et al., TPAMI 2021",
        {
            "Set12": (33.25, 30.94, 27.90),
            "McMaster": (35.40, 33.14, 30.08),
            "LIVE1": (29.79, 32.17, 33.59, 34.58),
        },
    ),
    Quoted(
        "GRL-T",
        "Li et al., CVPR 2023",
        {"Set12": (33.29, 30.92, 27.78), "McMaster": (35.49, 33.18, 30.06)},
        params=880_000,
    ),
    Quoted(
        "SwinIR",
        "Liang et al., ICCV Workshops 2021",
        {
            "Set12": (33.36, 31.01, 27.91),
            "McMaster": (35.61, 33.20, 30.22),
            "LIVE1": (29.86, 32.25, 33.69, 34.67),
        },
        ssim={"LIVE1": (0.8287, 0.8909, 0.9174, 0.9317)},
    ),
    Quoted(
        "Restormer",
        "Zamir et al., CVPR 2022, the authors' weights as MMagic measures them",
        {"McMaster": (35.61, 33.33, None)},
    ),
    Quoted(
        "vHeatIR, as published",
        "Wang et al., CVPR 2025 (arXiv 2405.16555)",
        {
            "Set12": (33.37, None, None),
            "McMaster": (35.60, None, None),
            "LIVE1": (None, None, None, 34.64),
        },
    ),
    Quoted(
        "TailPropIR",
        "the best successor of vHeatIR, by its paper",
        {
            "Set12": (33.51, None, None),
            "McMaster": (35.69, None, None),
            "LIVE1": (None, None, None, 34.72),
        },
    ),
    Quoted("WNNM", "Gu et al., CVPR 2014", {"Nam25": (41.04,)}),
    Quoted("FFDNet+", "Zhang et al., TIP 2018", {"PolyU": (38.17,)}),
    Quoted("TWSC", "Xu et al., ECCV 2018", {"PolyU": (38.68,)}),
    Quoted(
        "CBDNet",
        "Guo et al., CVPR 2019",
        {"Nam25": (40.02,), "CC15": (36.47,), "PolyU": (38.74,)},
    ),
    Quoted("CBDNet, trained with JPEG", "Guo et al., CVPR 2019", {"Nam25": (41.31,)}),
    Quoted("RIDNet", "Anwar and Barnes, ICCV 2019", {"CC15": (36.83,)}),
    Quoted("VDN", "Yue et al., NeurIPS 2019", {"CC15": (35.93,), "PolyU": (39.04,)}),
    Quoted("DANet", "Yue et al., ECCV 2020", {"CC15": (37.20,)}),
    Quoted("MIRNet", "Zamir et al., ECCV 2020", {"CC15": (36.32,), "PolyU": (39.18,)}),
    Quoted(
        "Learning to Translate Noise",
        "Ha et al., arXiv 2412.04727",
        {"CC15": (37.82,), "PolyU": (38.67,)},
    ),
)


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
            task=task,
            dataset=dataset,
            level=level,
            method=quoted.method,
            published=True,
            params=quoted.params,
            psnr=psnr,
            ssim=ssim,
            psnrb=None,
            seconds_per_image=None,
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
