"""Train the networks of vHeatIR with BasicSR's own loop: ``import vheatir.basicsr``.

The import registers in BasicSR's registries the networks ``VHeatIR`` and ``VHeatIRUNet``, and
``RestorationDataset``, the data set that degrades clean images. ``python -m vheatir.basicsr -opt
FILE`` is BasicSR's ``train.py`` with them; it writes ``experiments/`` in the working directory.

:class:`vheatir.training.model.RestorationModel` is not registered: BasicSR's loop calls models by
another interface. Its ``SRModel`` trains these networks.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):
    # Run as a script, or a process spawned by it: see vheatir/_paths.py. Otherwise the folder of
    # this file would be searched first, and this file found as the package basicsr.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from vheatir import _paths

    _paths.hide_own_folders()

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from vheatir.archs import build_network
from vheatir.archs.detect import HIDDEN
from vheatir.basicsr_import import import_basicsr
from vheatir.cli import run_entry_point
from vheatir.data.restoration_dataset import in_unit_range, to_tensor
from vheatir.data.sources import ImageSource
from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.tasks import get_task
from vheatir.training.feed import open_crops
from vheatir.training.option_errors import validate
from vheatir.training.schema import check_levels, parse_level
from vheatir.training.sections import TrainSet

import_basicsr()

from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY  # noqa: E402

# Options of BasicSR's loader and loop, which the data set does not use.
_LOADER_OPTIONS = (
    "type", "phase", "scale", "use_shuffle", "prefetch_mode", "pin_memory",
    "persistent_workers", "num_prefetch_queue", "batch_size_per_gpu", "num_worker_per_gpu",
    "dataset_enlarge_ratio",
)  # fmt: skip


def _network(name: str) -> Callable[..., nn.Module]:
    """Return the function that BasicSR calls to build a network of the package."""

    def build(**arguments: Any) -> nn.Module:
        if arguments.get("level_scale") is not None:
            raise VHeatIRError(
                f"BasicSR's models pass no level to a network, but this {name} has level_scale "
                f"{arguments['level_scale']}: leave it out, or train with vheatir/train.py"
            )
        for key, default in HIDDEN.items():
            if arguments.get(key, default) != default:
                raise VHeatIRError(
                    f"BasicSR's weight files do not show {key} {arguments[key]!r}, so that this "
                    f"{name} could not be read from one: leave it out, or train with "
                    "vheatir/train.py"
                )
        return build_network({"type": name, **arguments})

    build.__name__ = name
    return build


class RestorationDataset(Dataset[dict[str, Any]]):
    """:class:`vheatir.data.restoration_dataset.RestorationDataset` as BasicSR builds data sets.

    In training, random degraded crops; every access draws anew. In validation, whole images with
    the degradation of the benchmarks.

    Args:
        opt: ``task``; ``level``, a number or [lowest, highest], of a task that has one (a number
            in validation); and the options of :class:`vheatir.training.sections.TrainSet`.

    Item: dict of ``lq`` and ``gt``, ``float32`` tensors (C, H, W) in [0, 1], RGB or one channel,
    and their names, ``lq_path`` and ``gt_path``.

    Raises:
        VHeatIRError: an unknown or missing option, no images, or an invalid level.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt
        where = f"datasets:{opt.get('name', 'train')}"
        options = {key: value for key, value in opt.items() if key not in _LOADER_OPTIONS}
        self.task = get_task(str(options.pop("task", None)))
        given = options.pop("level", None)
        data = validate(TrainSet, options, where, {})
        self.in_training = opt.get("phase", "train") == "train"
        try:
            level = parse_level(given)
            low, high = level if isinstance(level, tuple) else (level, level)
            check_levels(self.task, [] if low is None else [low, high])
        except ValueError as error:
            raise VHeatIRError(f"{where}: level: {error}") from None
        if self.task.has_level and (low is None or not (self.in_training or low == high)):
            wanted = "a number" + (" or [lowest, highest]" if self.in_training else "")
            raise VHeatIRError(
                f"{where}: level {given!r} does not fit task {self.task.name}: give {wanted}"
            )
        self.level = low
        self.crops = open_crops(
            data, self.task, None if low is None else (low, high), data.gt_size, seed=0,
            cache=data.cache, heldout=not self.in_training,
        )  # fmt: skip
        assert isinstance(self.crops.source, ImageSource)
        self.source = self.crops.source

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Return a crop of an image, or the whole image."""
        name = self.source.names[index]
        if self.in_training:
            # Not NumPy's generator: BasicSR seeds it in each worker alike in every epoch.
            epoch = int(torch.randint(2**31, ()))
            sample = self.crops[epoch, index]
            pair = {key: in_unit_range(sample[key]) for key in ("lq", "gt")}
        else:
            clean = self.source[index]
            lq = degrade_for_benchmark(clean, self.task, self.level)
            pair = {"lq": to_tensor(lq), "gt": in_unit_range(to_tensor(clean))}
        return {**pair, "lq_path": name, "gt_path": name}


def register() -> None:
    """Register networks and data set in BasicSR; repeated calls change nothing."""
    for name in ("VHeatIR", "VHeatIRUNet"):
        if name not in ARCH_REGISTRY:
            ARCH_REGISTRY.register(_network(name))
    if RestorationDataset.__name__ not in DATASET_REGISTRY:
        DATASET_REGISTRY.register(RestorationDataset)


def main() -> int:
    """Run BasicSR's training pipeline; return the exit status."""
    from basicsr.train import train_pipeline

    return run_entry_point(
        lambda: train_pipeline(os.getcwd()),
        "continue with --auto_resume (BasicSR resumes on CUDA only)",
    )


register()

if __name__ == "__main__":
    sys.exit(main())
