"""Registry of restoration tasks: degradation, colour mode and levels of each.

Training, testing, the model zoo and the demo all look up tasks such as "denoise_color" here. The
task ``photo`` has no level: its models are blind and infer the degradation from the image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from vheatir.errors import unknown_name

Kind = Literal["denoise", "jpeg", "photo", "pairs"]
ColorMode = Literal["gray", "luma", "rgb"]


@dataclass(frozen=True)
class Task:
    """One restoration task.

    Attributes:
        name: key in :data:`TASKS`.
        title: display name for tables and the demo.
        kind: ``"denoise"`` (additive white Gaussian noise), ``"jpeg"``, ``"photo"`` (camera
            noise, JPEG and the other degradations of photographs), or ``"pairs"``: whatever the
            degraded images of a training set of pairs show.
        color: ``"gray"`` (OpenCV's gray conversion), ``"luma"`` (Y of MATLAB's ``rgb2ycbcr``)
            or ``"rgb"``.
        level_name: quantity of the level: ``"sigma"`` (noise standard deviation on the scale
            0..255) or ``"quality"`` (JPEG); None for a task without a level.
        level_range: smallest and largest training level of models for all levels; None for a task
            without a level.
        benchmark_levels: levels of the published tables; empty for a task without a level.
        benchmark_sets: test sets of the published tables, by folder name.
    """

    name: str
    title: str
    kind: Kind
    color: ColorMode
    level_name: Literal["sigma", "quality"] | None = None
    level_range: tuple[float, float] | None = None
    benchmark_levels: tuple[int, ...] = ()
    benchmark_sets: tuple[str, ...] = ()

    @property
    def heading(self) -> str:
        """The title with a capital letter."""
        return self.title[0].upper() + self.title[1:]

    @property
    def channels(self) -> int:
        """Number of image channels, 1 or 3."""
        return 3 if self.color == "rgb" else 1

    @property
    def has_level(self) -> bool:
        """Whether a level gives the strength of the degradation; False for ``photo``."""
        return self.level_name is not None


# Published test sets of pairs.
_PAIRS = ("Nam25", "CC15", "PolyU")

#: The tasks by name.
TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task(
            "denoise_gray", "grayscale denoising", "denoise", "gray", "sigma",
            (0.0, 55.0), (15, 25, 50), ("Set12",),
        ),
        Task(
            "denoise_color", "colour denoising", "denoise", "rgb", "sigma",
            (0.0, 55.0), (15, 25, 50), ("McMaster",),
        ),
        Task(
            "jpeg_gray", "JPEG artifact removal (luma)", "jpeg", "luma", "quality",
            (5.0, 95.0), (10, 20, 30, 40), ("LIVE1", "classic5"),
        ),
        Task(
            "jpeg_color", "JPEG artifact removal (colour)", "jpeg", "rgb", "quality",
            (5.0, 95.0), (10, 20, 30, 40), ("LIVE1",),
        ),
        Task(
            "photo", "real photographs (blind)", "photo", "rgb",
            benchmark_sets=_PAIRS,
        ),
    )
}  # fmt: skip


PAIRED_TASKS: dict[ColorMode, Task] = {
    "rgb": Task("pairs", "pairs of images", "pairs", "rgb", benchmark_sets=_PAIRS),
    "gray": Task("pairs_gray", "pairs of images, gray", "pairs", "gray", benchmark_sets=_PAIRS),
    "luma": Task("pairs_luma", "pairs of images, luma", "pairs", "luma", benchmark_sets=_PAIRS),
}
"""Tasks of networks that are trained on pairs of images alone, without a level, by colour mode.

An option file does not name them, since nothing is degraded; weight files have the task None."""


def get_task(name: str) -> Task:
    """Return the task called ``name``, also one of :data:`PAIRED_TASKS`.

    Raises:
        VHeatIRError: unknown task.

    Example:
        >>> get_task("denoise_color").level_range
        (0.0, 55.0)
    """
    try:
        return {**TASKS, **{task.name: task for task in PAIRED_TASKS.values()}}[name]
    except KeyError:
        raise unknown_name("task", name, TASKS) from None


def format_levels(levels: tuple[float, float] | None) -> str:
    """Format the lowest and highest level of a model: ``"15"``, ``"0 to 55"``, ``"no level"``."""
    if levels is None:
        return "no level"
    low, high = levels
    return f"{low:g}" if low == high else f"{low:g} to {high:g}"
