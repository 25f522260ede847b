"""Build an endless stream of training batches from the options."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch.utils.data import DataLoader

from vheatir.data.device_crops import DeviceCrops, ImagePool
from vheatir.data.restoration_dataset import RestorationDataset, collate, init_worker
from vheatir.data.sampler import SampleStream
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange, PhotoDegradation
from vheatir.errors import VHeatIRError
from vheatir.tasks import get_task
from vheatir.training.distributed import Processes
from vheatir.training.schema import Options
from vheatir.training.sections import Stage

log = logging.getLogger("vheatir")


class TrainingFeed:
    """The training set of an option file, shared by all training stages.

    Args:
        options: options of the run.
        device: device of the batches.
        processes: processes of the run.

    Raises:
        VHeatIRError: a folder is missing or empty, or an image is smaller than the crop.
    """

    def __init__(self, options: Options, device: torch.device, processes: Processes) -> None:
        self.options = options
        self.device = device
        self.processes = processes
        self._check_backend()
        data = options.datasets.train
        task = get_task(options.task)
        low, high = options.level_range or (0.0, 0.0)
        self.degradation = DegradationRange(
            task, low, high, data.jpeg_grid, tuple(data.subsampling), data.double_compression,
            PhotoDegradation(**data.photo.model_dump()),
        )  # fmt: skip
        keep = ("but", data.exclude_every) if data.exclude_every else None
        if options.train.data_on_device and task.kind != "denoise":
            log.warning(
                "train:data_on_device is for noise only: data loader workers make the crops of %s",
                options.task,
            )
        self.on_device = options.train.data_on_device and task.kind == "denoise"
        self.source = ImageSource(
            data.dataroot_gt,
            task.color,
            cache=data.cache or self.on_device,
            keep=keep,
            include=data.include,
            exclude=data.exclude,
            limit=data.limit,
        )
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
            self._pool = self._pool or ImagePool(self.source, self.device)
            return iter(
                DeviceCrops(
                    self.source, self.degradation, size, batch, seed, self.device,
                    samples_seen, rank, count, self._pool, data.augment, data.recolor,
                )
            )  # fmt: skip
        dataset = RestorationDataset(
            self.source, self.degradation, size, seed, augment=data.augment, recolor=data.recolor,
            enlarge=data.dataset_enlarge_ratio,
        )  # fmt: skip
        stream = SampleStream(len(dataset), batch, seed, samples_seen, rank, count)
        workers = data.num_worker_per_gpu
        loader = DataLoader(
            dataset,
            batch_sampler=stream,
            num_workers=workers,
            collate_fn=collate,
            worker_init_fn=init_worker,
            pin_memory=self.device.type == "cuda",
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
            return [self.source.names[i] for i in self._pool.images(batch["first"])]
        return list(batch["gt_path"])

    def shape(self, stage: Stage | None) -> tuple[int, int]:
        """Return (crop size, batch size per process) of a stage."""
        if stage is not None:
            return stage.gt_size, stage.batch_size
        data = self.options.datasets.train
        return data.gt_size, data.batch_size_per_gpu

    def _check_backend(self) -> None:
        data = self.options.datasets.train
        for root in data.dataroot_gt if data.io_backend.type == "lmdb" else ():
            if not root.endswith(".lmdb"):
                raise VHeatIRError(
                    f"io_backend type lmdb, but {root!r} does not end in .lmdb: give an LMDB "
                    "folder written by BasicSR, or set datasets:train:io_backend:type=disk"
                )

    def _check_sizes(self) -> None:
        """Raise before training starts if an image is smaller than the largest crop."""
        stages: list[Stage | None] = [*(self.options.train.stages or ())]
        if not any(stage.until == 1 for stage in self.options.train.stages or ()):
            stages.append(None)
        needed = self.degradation.source_size(max(self.shape(stage)[0] for stage in stages))
        for index in range(len(self.source)):
            height, width = self.source.size(index)
            if min(height, width) < needed:
                raise VHeatIRError(
                    f"{self.source.names[index]} is {width}x{height} pixels, smaller than the "
                    f"crop of {needed}: lower datasets:train:gt_size or remove the image"
                )
