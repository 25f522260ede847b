"""Validate the network during training, on whole images, with the benchmark protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from torch import nn

from vheatir.data.sources import ImageSource
from vheatir.evaluation.benchmark_sets import BenchmarkSet
from vheatir.evaluation.methods import Method, network_restorer
from vheatir.evaluation.protocol import Measured, measure_images
from vheatir.image_io import write_image
from vheatir.metrics import psnr
from vheatir.tasks import get_task
from vheatir.training.schema import Options
from vheatir.training.sections import ValSet

#: ``{"<set> <level>": {"psnr": …, "input_psnr": …}}``; key ``"<set>"`` for tasks without a level.
Scores = dict[str, dict[str, float]]


class Validator:
    """The validation sets of an option file.

    Args:
        options: options of the run.

    Raises:
        VHeatIRError: a folder is missing or empty.
    """

    def __init__(self, options: Options) -> None:
        self.task = get_task(options.task)
        self.options = options
        self.sets = [
            (self._test_set(data), self._levels(data))
            for data in options.datasets.val_sets.values()
        ]

    def run(
        self,
        network: nn.Module,
        folder: Path | None = None,
        tick: Callable[[], None] | None = None,
    ) -> Scores:
        """Restore every image and average the metrics over each set and level.

        Args:
            network: in evaluation mode.
            folder: save the restored images here (None: do not save them).
            tick: called after each image.
        """
        val = self.options.val
        scores: Scores = {}
        for test_set, levels in self.sets:
            for level in levels:
                sums: dict[str, float] = defaultdict(float)
                for image in self.images(network, test_set, level):
                    for metric, value in image.scores.items():
                        sums[metric] += value
                    sums["input_psnr"] += psnr(image.degraded, image.clean)
                    if folder is not None:
                        stem = image.name + ("" if level is None else f"_{level:g}")
                        path = folder / test_set.name / f"{stem}{val.suffix or ''}.png"
                        write_image(path, image.output)
                    if tick is not None:
                        tick()
                means = {metric: total / len(test_set) for metric, total in sums.items()}
                scores[test_set.name if level is None else f"{test_set.name} {level:g}"] = means
        return scores

    def __len__(self) -> int:
        """Number of images restored per validation."""
        return sum(len(test_set) * len(levels) for test_set, levels in self.sets)

    def images(
        self, network: nn.Module, test_set: BenchmarkSet, level: float | None
    ) -> Iterator[Measured]:
        """Yield the images of one of the sets, restored and measured at one level."""
        val = self.options.val
        restore = network_restorer(network, val.tile)
        method = Method(self.options.name, self.task.name, None, None, restore)
        # Unchecked: training itself finds and reports the cause of non-finite values.
        return measure_images(self.task, test_set, level, method, val.metrics, check=False)

    def _test_set(self, data: ValSet) -> BenchmarkSet:
        keep = ("every", data.holdout_every) if data.holdout_every else None
        source = ImageSource(
            data.dataroot_gt, self.task.color, cache=True, keep=keep, include=data.include,
            exclude=data.exclude, limit=data.limit, heldout=True,
        )  # fmt: skip
        names = tuple(Path(name).stem for name in source.names)
        loaders = tuple(partial(source.__getitem__, index) for index in range(len(source)))
        return BenchmarkSet(data.name, names, loaders)

    def _levels(self, data: ValSet) -> list[float | None]:
        if data.level is not None:
            return list(data.level)
        if isinstance(self.options.level, tuple):
            return [float(level) for level in self.task.benchmark_levels]
        return [self.options.level]
