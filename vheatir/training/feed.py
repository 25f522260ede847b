"""Build an endless stream of training batches from the options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from vheatir.data.device_crops import DeviceCrops, ImagePool
from vheatir.data.mixed_dataset import MixedDataset
from vheatir.data.paired_dataset import PairedDataset, PairSource
from vheatir.data.restoration_dataset import RestorationDataset, collate, init_worker
from vheatir.data.sampler import SampleStream
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange, PhotoDegradation
from vheatir.errors import VHeatIRError
from vheatir.tasks import ColorMode, Task
from vheatir.training.distributed import Processes
from vheatir.training.schema import Options
from vheatir.training.sections import ImageSet, Stage, TrainSet

log = logging.getLogger("vheatir")


class TrainingFeed:
    """The training sets of an option file, shared by all training stages.

    Args:
        options: options of the run.
        device: device of the batches.
        processes: processes of the run.

    Attributes:
        images: number of images, over all training sets.

    Raises:
        VHeatIRError: a folder is missing or empty, an image is smaller than the crop, or pairs do
            not match.
    """

    def __init__(self, options: Options, device: torch.device, processes: Processes) -> None:
        self.options = options
        self.device = device
        self.processes = processes
        self.on_device = _makes_crops_on_device(options)
        self._sets = [
            _OpenedSet(options, data, self.on_device)
            for data in options.datasets.train_sets.values()
        ]
        self.images = sum(len(each.source) for each in self._sets)
        self._pool: ImagePool | None = None
        self._check_sizes()

    def batches(self, stage: Stage | None, samples_seen: int) -> Iterator[dict[str, Any]]:
        """Return an endless iterator of batches.

        Args:
            stage: crop and batch size; None for those of ``datasets: train``.
            samples_seen: samples of the stream consumed so far, over all processes.
        """
        size, batch = self.shape(stage)
        rank, count = self.processes.rank, self.processes.count
        seed, data = self.options.manual_seed, self.options.datasets.train
        if self.on_device:
            (own,) = self._sets
            assert isinstance(own.source, ImageSource) and own.degradation is not None
            self._pool = self._pool or ImagePool(own.source, self.device)
            return iter(
                DeviceCrops(
                    own.source, own.degradation, size, batch, seed, self.device,
                    samples_seen, rank, count, self._pool, bool(data.augment), data.recolor,
                )
            )  # fmt: skip
        sets = [each.dataset(size, seed) for each in self._sets]
        weights = [each.data.weight for each in self._sets]
        dataset = sets[0] if len(sets) == 1 else MixedDataset(sets, weights, seed)
        stream = SampleStream(len(dataset), batch, seed, samples_seen, rank, count)
        workers = data.num_worker_per_gpu
        loader = DataLoader(
            dataset,
            batch_sampler=stream,
            num_workers=workers,
            collate_fn=collate,
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

    def shape(self, stage: Stage | None) -> tuple[int, int]:
        """Return (crop size, batch size per process) of a stage."""
        if stage is not None:
            return stage.gt_size, stage.batch_size
        data = self.options.datasets.train
        return data.gt_size, data.batch_size_per_gpu

    def _check_sizes(self) -> None:
        """Raise before training starts if an image is smaller than the largest crop."""
        stages: list[Stage | None] = [*(self.options.train.stages or ())]
        if not any(stage.until == 1 for stage in self.options.train.stages or ()):
            stages.append(None)
        largest = max(self.shape(stage)[0] for stage in stages)
        for each in self._sets:
            needed = each.degradation.source_size(largest) if each.degradation else largest
            for index in range(len(each.source)):
                height, width = each.source.size(index)
                if min(height, width) < needed:
                    raise VHeatIRError(
                        f"{each.source.names[index]} is {width}x{height} pixels, smaller than the "
                        f"crop of {needed}: lower datasets:train:gt_size or remove the image"
                    )


class _OpenedSet:
    """A training set: its options, its images and what degrades them.

    Args:
        options: options of the run.
        data: options of the set.
        cache: decode every image once, whatever the options say.
    """

    def __init__(self, options: Options, data: TrainSet, cache: bool) -> None:
        self.data = data
        task = options.task_info
        self.source: ImageSource | PairSource
        self.degradation: DegradationRange | None = None
        if data.is_paired:
            self.source = open_pairs(data, task.color, cache=data.cache)
            return
        self.degradation = degradation_range(data, task, options.level_range)
        self.source = open_images(data, task.color, cache=data.cache or cache)

    def dataset(self, size: int, seed: int) -> RestorationDataset | PairedDataset:
        """Return the set with crops of one size."""
        data, source = self.data, self.source
        enlarge = data.dataset_enlarge_ratio
        if isinstance(source, PairSource):
            return PairedDataset(source, size, seed, augment=data.augment, enlarge=enlarge)
        assert self.degradation is not None
        return RestorationDataset(
            source, self.degradation, size, seed, augment=data.augment, recolor=data.recolor,
            enlarge=enlarge,
        )  # fmt: skip


def degradation_range(
    data: TrainSet, task: Task, levels: tuple[float, float] | None
) -> DegradationRange:
    """Return the random degradation of a training set.

    Args:
        data: a set of clean images.
        task: task of the training.
        levels: lowest and highest level; None for a task without a level.
    """
    low, high = levels or (0.0, 0.0)
    return DegradationRange(
        task, low, high, data.jpeg_grid, tuple(data.subsampling), data.double_compression,
        PhotoDegradation(**data.photo.model_dump()),
    )  # fmt: skip


def open_images(
    data: ImageSet, color: ColorMode, *, cache: bool, heldout: bool = False
) -> ImageSource:
    """Open the clean images of a training or validation set.

    Args:
        data: a set without pairs.
        color: colour mode of the images.
        cache: decode every image once.
        heldout: of the bundled photographs, take the test set.

    Raises:
        VHeatIRError: see :class:`vheatir.data.sources.ImageSource`.
    """
    return ImageSource(
        data.dataroot_gt, color, cache=cache, keep=data.keep, include=data.include,
        exclude=data.exclude, limit=data.limit, heldout=heldout,
    )  # fmt: skip


def open_pairs(data: ImageSet, color: ColorMode, *, cache: bool) -> PairSource:
    """Open the pairs of a training or validation set.

    Args:
        data: a set of pairs.
        color: colour mode of the images.
        cache: decode every image once.

    Raises:
        VHeatIRError: see :class:`vheatir.data.paired_dataset.PairSource`.
    """
    return PairSource(
        data.dataroot_gt, data.dataroot_lq or (), color, template=data.filename_tmpl or "{}",
        listed=data.meta_info_file, cache=cache, keep=data.keep, include=data.include,
        exclude=data.exclude, limit=data.limit,
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
