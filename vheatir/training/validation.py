"""Validate the network during training, on whole images, with the benchmark protocol."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from vheatir.data.restoration_dataset import to_tensor
from vheatir.data.sources import ImageSource
from vheatir.degradations import degrade_for_benchmark
from vheatir.image_io import write_image
from vheatir.inference.tiled import restore_tensor
from vheatir.metrics import psnr, psnrb, ssim, to_uint8
from vheatir.tasks import get_task
from vheatir.training.schema import Options
from vheatir.training.sections import ValSet

METRICS = {"psnr": psnr, "ssim": ssim, "psnrb": psnrb}

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
            (data.name, self._source(data), self._levels(data))
            for data in options.datasets.val_sets.values()
        ]

    def run(
        self,
        network: nn.Module,
        device: torch.device,
        folder: Path | None = None,
        tick: Callable[[], None] | None = None,
    ) -> Scores:
        """Restore every image and average the metrics over each set and level.

        Args:
            network: in evaluation mode, on ``device``.
            device: device to run on.
            folder: save the restored images here (None: do not save them).
            tick: called after each image.
        """
        scores: Scores = {}
        for name, source, levels in self.sets:
            for level in levels:
                sums: dict[str, float] = defaultdict(float)
                for stem, restored, degraded, clean in self.restore(network, device, source, level):
                    for metric in self.options.val.metrics:
                        sums[metric] += METRICS[metric](restored, clean)
                    sums["input_psnr"] += psnr(degraded, clean)
                    if folder is not None:
                        suffix = self.options.val.suffix or ""
                        stem += "" if level is None else f"_{level:g}"
                        write_image(folder / name / f"{stem}{suffix}.png", restored)
                    if tick is not None:
                        tick()
                means = {metric: total / len(source) for metric, total in sums.items()}
                scores[name if level is None else f"{name} {level:g}"] = means
        return scores

    def __len__(self) -> int:
        """Number of images restored per validation."""
        return sum(len(source) * len(levels) for _, source, levels in self.sets)

    def restore(
        self, network: nn.Module, device: torch.device, source: ImageSource, level: float | None
    ) -> Iterator[tuple[str, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]]]:
        """Yield (name, restored, degraded, clean) for every image; the images are uint8."""
        for name, clean in zip(source.names, (source[i] for i in range(len(source))), strict=True):
            degraded = degrade_for_benchmark(clean, self.task, level)
            x = to_tensor(degraded)[None].to(device)
            with torch.no_grad():
                y = restore_tensor(
                    network,
                    x,
                    level if network.takes_level else None,
                    tile=self.options.val.tile,
                )
            planes = y[0].float().cpu().numpy()
            restored = planes[0] if clean.ndim == 2 else planes.transpose(1, 2, 0)
            yield Path(name).stem, to_uint8(restored), to_uint8(degraded), clean

    def _source(self, data: ValSet) -> ImageSource:
        keep = ("every", data.holdout_every) if data.holdout_every else None
        return ImageSource(
            data.dataroot_gt, self.task.color, cache=True, keep=keep, include=data.include,
            exclude=data.exclude, limit=data.limit, heldout=True,
        )  # fmt: skip

    def _levels(self, data: ValSet) -> list[float | None]:
        if data.level is not None:
            return list(data.level)
        if isinstance(self.options.level, tuple):
            return [float(level) for level in self.task.benchmark_levels]
        return [self.options.level]
