"""Build an endless stream of training batches from the options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader

from vheatir.data.device_crops import DeviceCrops, ImagePool
from vheatir.data.pair_source import PairSource
from vheatir.data.restoration_dataset import (
    CropDataset,
    MixedDataset,
    PairedDataset,
    RestorationDataset,
    init_worker,
)
from vheatir.data.sampler import SampleStream
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange, PhotoDegradation
from vheatir.tasks import ColorMode, Task
from vheatir.training.distributed import Processes
from vheatir.training.schema import Options
from vheatir.training.sections import ImageSet, Stage, TrainSet

log = logging.getLogger("vheatir")

# Options that select images; exclude_every is for training sets, holdout_every for validation sets.
_SELECTION = {"include", "exclude", "limit", "exclude_every", "holdout_every"}


class TrainingFeed:
    """The training sets of an option file, shared by all training stages.

    Args:
        options: options of the run.
        device: device of the batches.
        processes: processes of the run.

    Attributes:
        images: number of images, over all training sets.
        image_names: their names, as in the sources.

    Raises:
        VHeatIRError: a folder is missing or empty, an image is smaller than the crop, or pairs do
            not match.
    """

    def __init__(self, options: Options, device: torch.device, processes: Processes) -> None:
        self.options = options
        self.device = device
        self.processes = processes
        self.on_device = _makes_crops_on_device(options)
        largest = max(stage.gt_size for stage in options.stages)
        task, levels, seed = options.task_info, options.level_range, options.manual_seed
        self._sets = [
            open_crops(data, task, levels, largest, seed, cache=data.cache or self.on_device)
            for data in options.datasets.train_sets.values()
        ]
        for each in self._sets:
            each.check_sizes()
        self.image_names = [name for each in self._sets for name in each.source.names]
        self.images = len(self.image_names)
        self._pool: ImagePool | None = None

    def batches(self, stage: Stage, samples_seen: int) -> Iterator[dict[str, Any]]:
        """Return an endless iterator of batches.

        Args:
            stage: crop and batch size.
            samples_seen: samples of the stream consumed so far, over all processes.
        """
        rank, count = self.processes.rank, self.processes.count
        seed, data = self.options.manual_seed, self.options.datasets.train
        sets = [replace(each, size=stage.gt_size) for each in self._sets]
        if self.on_device:
            (own,) = sets
            assert isinstance(own, RestorationDataset)
            self._pool = self._pool or ImagePool(own.source, self.device)
            return iter(DeviceCrops(own, self._pool, stage.batch_size, samples_seen, rank, count))
        weights = [each.weight for each in self.options.datasets.train_sets.values()]
        dataset = sets[0] if len(sets) == 1 else MixedDataset(sets, weights, seed)
        stream = SampleStream(len(dataset), stage.batch_size, seed, samples_seen, rank, count)
        workers = data.num_worker_per_gpu
        loader = DataLoader(
            dataset,
            batch_sampler=stream,
            num_workers=workers,
            worker_init_fn=init_worker,
            pin_memory=self.device.type == "cuda" and data.pin_memory is not False,
            prefetch_factor=4 if workers else None,
            # Forked workers share the cached images; spawned ones would each get a copy.
            multiprocessing_context="fork" if workers and sys.platform == "linux" else None,
            # Keeps the loader's worker seed from advancing the global generator, which is saved.
            generator=torch.Generator(),
        )
        return iter(loader)

    def names(self, batch: Mapping[str, Any]) -> list[str]:
        """Return the image names of a batch from :meth:`batches`."""
        if self._pool is not None and "first" in batch:
            names = self._sets[0].source.names
            return [names[i] for i in self._pool.images(batch["first"])]
        return list(batch["gt_path"])


def open_crops(
    data: TrainSet,
    task: Task,
    levels: tuple[float, float] | None,
    size: int,
    seed: int,
    *,
    cache: bool,
    heldout: bool = False,
) -> CropDataset:
    """Open a training set.

    Args:
        data: its options.
        task: task of the training.
        levels: lowest and highest level; None for a task without a level.
        size: side of a crop.
        seed: ``manual_seed`` of the run.
        cache: see :func:`open_source`.
        heldout: see :func:`open_source`.

    Raises:
        VHeatIRError: see :func:`open_source`.
    """
    source = open_source(data, task.color, cache=cache, heldout=heldout)
    augment, enlarge = data.augment, data.dataset_enlarge_ratio
    if isinstance(source, PairSource):
        return PairedDataset(source, size, seed, augment=augment, enlarge=enlarge)
    degradation = DegradationRange(
        task, *(levels or (0.0, 0.0)), data.jpeg_grid, tuple(data.subsampling),
        data.double_compression, PhotoDegradation(**data.photo.model_dump()),
    )  # fmt: skip
    return RestorationDataset(
        source, size, seed, degradation, augment=augment, enlarge=enlarge, recolor=data.recolor
    )


def open_source(
    data: ImageSet, color: ColorMode, *, cache: bool, heldout: bool = False
) -> ImageSource | PairSource:
    """Open the clean images or the pairs of a training or validation set.

    Args:
        data: options of the set.
        color: colour mode of the images.
        cache: decode every image once.
        heldout: of the bundled photographs, take the test set.

    Raises:
        VHeatIRError: see :class:`vheatir.data.sources.ImageSource` and
            :class:`vheatir.data.pair_source.PairSource`.
    """
    chosen = data.model_dump(include=_SELECTION)
    if data.dataroot_lq is None:
        return ImageSource(data.dataroot_gt, color, cache=cache, heldout=heldout, **chosen)
    return PairSource(
        data.dataroot_gt, data.dataroot_lq, color, cache=cache,
        template=data.filename_tmpl or "{}", listed=data.meta_info_file, **chosen,
    )  # fmt: skip


def _makes_crops_on_device(options: Options) -> bool:
    """Whether crops are made on the device; warns if that is asked for, but not possible."""
    if not options.train.data_on_device:
        return False
    sets = options.datasets.train_sets.values()
    if options.task_info.kind != "denoise":
        reason = (
            f"is for noise only: data loader workers make the crops of {options.task or 'pairs'}"
        )
    elif len(sets) > 1 or any(data.is_paired for data in sets):
        reason = "is for one set of clean images: data loader workers make the crops"
    elif not isinstance(options.datasets.train.augment, bool):
        reason = "has all flips and rotations or none: data loader workers make the crops"
    else:
        return True
    log.warning("train:data_on_device %s", reason)
    return False
