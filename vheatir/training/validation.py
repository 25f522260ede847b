"""Validate the network during training, on whole images, with the benchmark protocol."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from vheatir.colors import matlab_luma
from vheatir.data.sources import ImageSource
from vheatir.evaluation.benchmark_sets import BenchmarkSet
from vheatir.evaluation.methods import Method, network_restorer
from vheatir.evaluation.protocol import METRICS, Measured, measure_images
from vheatir.evaluation.run import levels_to_test
from vheatir.image_io import write_image
from vheatir.metrics import psnr, ssim
from vheatir.tasks import Task
from vheatir.training.feed import open_source
from vheatir.training.schema import Options
from vheatir.training.sections import MetricOptions, ValSet

log = logging.getLogger("vheatir")

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
        self.task = options.task_info
        self.options = options
        self.sets = [
            (validation_set(data, self.task), self._levels(data))
            for data in options.datasets.val_sets.values()
        ]
        for test_set, _ in self.sets:
            self._check_metrics(test_set)

    def _check_metrics(self, test_set: BenchmarkSet) -> None:
        """Raise the error of a metric that the smallest image is too small for, before training."""
        shapes = [test_set.load(index, self.task).shape for index in range(len(test_set))]
        blank = np.zeros(min(shapes, key=lambda shape: min(shape[:2])), np.uint8)
        val = self.options.val
        for name in val.metrics if val.named_metrics is None else ():
            METRICS[name](blank, blank)
        for metric in (val.named_metrics or {}).values():
            measure_named(metric, blank, blank)

    def warn_of_training_images(self, trained: Iterable[str]) -> None:
        """Name in the log the sets that contain images of the training.

        Args:
            trained: the names of all training images, as in :attr:`ImageSource.names`.
        """
        trained = set(trained)
        for key, (test_set, _) in zip(self.options.datasets.val_sets, self.sets, strict=True):
            names = test_set.clean.names if isinstance(test_set.clean, ImageSource) else []
            count = sum(name in trained for name in names)
            if count:
                log.warning(
                    "datasets:%s: %d of %d validation images are training images: give it a "
                    "dataroot_gt of its own, list them in datasets:train:exclude, or set "
                    "train:exclude_every and %s:holdout_every",
                    key, count, len(names), key,
                )  # fmt: skip

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
                rows = []
                for image in self.images(network, test_set, level):
                    rows.append(self.scores(image))
                    if folder is not None:
                        stem = image.name + ("" if level is None else f"_{level:g}")
                        path = folder / test_set.name / f"{stem}{val.suffix or ''}.png"
                        write_image(path, image.output)
                    if tick is not None:
                        tick()
                means = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
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
        metrics = val.metrics if val.named_metrics is None else ()
        # Unchecked: training itself finds and reports the cause of non-finite values.
        return measure_images(self.task, test_set, level, method, metrics, check=False)

    def scores(self, image: Measured) -> dict[str, float]:
        """Return the metrics of an image by name, and as ``input_psnr`` that of its input."""
        val = self.options.val
        if val.named_metrics is None:
            return {**image.scores, "input_psnr": psnr(image.degraded, image.clean)}
        output = image.output if val.use_image else image.unrounded * np.float32(255)
        named = val.named_metrics.items()
        scores = {name: measure_named(metric, output, image.clean) for name, metric in named}
        first = val.named_metrics.get(val.column("psnr"), MetricOptions(type="calculate_psnr"))
        return {**scores, "input_psnr": measure_named(first, image.degraded, image.clean)}

    def best(self, history: Sequence[Sequence[Any]]) -> dict[str, dict[str, str]]:
        """Return for each set and metric the best value so far, in words for the log.

        Args:
            history: [iteration, minutes, :data:`Scores`] of each validation.
        """
        best: dict[str, dict[str, str]] = {}
        for key in history[-1][2] if history else ():
            for name, metric in (self.options.val.named_metrics or {}).items():
                values = [(s[key][name], at) for at, _, s in history if name in s.get(key, {})]
                choose = max if metric.better == "higher" else min
                value, at = choose(values, key=lambda pair: pair[0])
                best.setdefault(key, {})[name] = f"best {value:.4f} at {at}"
        return best

    def _levels(self, data: ValSet) -> list[float | None]:
        if data.is_paired:
            return [None]
        if data.level is not None:
            return list(data.level)
        trained = self.options.level_range
        return [None] if trained is None else [*levels_to_test(self.task, [trained])]


def validation_set(data: ValSet, task: Task) -> BenchmarkSet:
    """Open a validation set.

    Raises:
        VHeatIRError: a folder is missing or empty, or pairs do not match.
    """
    source = open_source(data, task.color, cache=data.cache, heldout=True)
    stems = [Path(name).stem for name in source.names]
    count = Counter(stems)  # images of several folders may have the same name
    names = tuple(
        stem if count[stem] == 1 else f"{stem}_{number}" for number, stem in enumerate(stems, 1)
    )
    if isinstance(source, ImageSource):
        return BenchmarkSet(data.name, names, source)
    for index in range(len(source)):
        source.size(index)  # reports a pair of unequal sizes before training starts
    return BenchmarkSet(data.name, names, source.clean, source.degraded)


def measure_named(metric: MetricOptions, image: NDArray[Any], clean: NDArray[Any]) -> float:
    """Return a metric of ``val: named_metrics``, as BasicSR computes it.

    Args:
        metric: the metric.
        image: (H, W) or (H, W, 3), white at 255; ``uint8`` or floating point.
        clean: the clean image, of the same shape.
    """
    if metric.test_y_channel and image.ndim == 3:
        image, clean = matlab_luma(image), matlab_luma(clean)
    function = psnr if metric.type == "calculate_psnr" else ssim
    return function(image, clean, border=metric.crop_border)
