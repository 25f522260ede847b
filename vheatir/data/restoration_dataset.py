"""Data sets of training crops: degraded on the fly, of pairs of images, and mixtures of both."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vheatir.data.pair_source import PairSource
from vheatir.data.recolor import recolor_array
from vheatir.data.sampler import SampleKey
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange, degrade_for_training
from vheatir.errors import VHeatIRError

#: Flips and rotations of a crop, all eight, none, or those of BasicSR's ``use_hflip`` (mirrored or
#: not) or of its ``use_rot`` (upside down or not, transposed or not) alone.
Augment = bool | Literal["flip", "rotate"]


@dataclass(eq=False)
class CropDataset(Dataset[dict[str, Any]]):
    """Random crops for training; subclasses define :meth:`sample`.

    The randomness of a sample depends only on (manual_seed, epoch, index): crops differ between
    epochs and are reproducible for any number of workers or processes.

    Args:
        source: the images.
        size: side of a crop.
        seed: ``manual_seed`` of the run.
        augment: see :data:`Augment`.
        enlarge: samples per image and epoch.

    Item ``(epoch, index)``: dict of ``lq`` and ``gt``, tensors (C, size, size), ``float32`` in
    [0, 1] or ``uint8``; ``level``, a float; ``gt_path``, the name of the clean image.

    Raises:
        VHeatIRError: an image is smaller than the crop.
    """

    source: ImageSource | PairSource
    size: int
    seed: int
    _: KW_ONLY
    augment: Augment = True
    enlarge: int = 1

    def __len__(self) -> int:
        """Return the number of samples in an epoch."""
        return len(self.source) * self.enlarge

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return the sample (epoch, index)."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        return self.sample(index % len(self.source), rng)

    def sample(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return a random sample of image ``number``, as described above."""
        raise NotImplementedError

    def source_size(self) -> int:
        """Return the side of the square of an image from which a sample is made."""
        return self.size

    def check_sizes(self) -> None:
        """Raise VHeatIRError if an image is smaller than the crop."""
        for number in range(len(self.source)):
            self._check_size(number, self.source.size(number), self.source_size())

    def _check_size(self, number: int, shape: tuple[int, ...], needed: int) -> None:
        if min(shape[:2]) < needed:
            raise VHeatIRError(
                f"{self.source.names[number]} is {shape[1]}x{shape[0]} pixels, smaller than the "
                f"crop of {needed}: lower datasets:train:gt_size or remove the image"
            )


@dataclass(eq=False)
class RestorationDataset(CropDataset):
    """Random crops of clean images, degraded on the fly: see :class:`CropDataset`.

    Args:
        degradation: the random degradation.
        recolor: fraction of crops with colour augmentation.
    """

    source: ImageSource
    degradation: DegradationRange
    recolor: float = field(default=0.0, kw_only=True)

    def source_size(self) -> int:
        """Return the side of the clean square that is degraded, at scale 1."""
        return self.degradation.source_size(self.size)

    def sample(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return a random sample of image ``number``."""
        clean = self.source[number]
        scale = self.degradation.draw_scale(rng, self.size, min(clean.shape[:2]))
        needed = self.degradation.source_size(self.size, scale)
        self._check_size(number, clean.shape, needed)
        clean = augment(clean[window(clean.shape, needed, rng)], rng, self.augment)
        if self.recolor:
            clean = recolor_array(clean, self.recolor, rng)
        lq, gt, level = degrade_for_training(clean, self.size, self.degradation, rng, scale)
        name = self.source.names[number]
        return {"lq": to_tensor(lq), "gt": to_tensor(gt), "level": level, "gt_path": name}


class PairedDataset(CropDataset):
    """Random crops of image pairs, at the same place and in the same orientation.

    See :class:`CropDataset`. Images are ``uint8``, the level is 0.

    Raises:
        VHeatIRError: a pair is smaller than the crop, or its images differ in size.
    """

    source: PairSource

    def sample(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return a random sample of pair ``number``."""
        degraded, clean = self.source[number]
        self._check_size(number, clean.shape, self.size)
        place = window(clean.shape, self.size, rng)
        # One array, so that both get the same orientation.
        both = augment(np.stack((degraded[place], clean[place]), axis=-1), rng, self.augment)
        lq, gt = to_tensor(both[..., 0]), to_tensor(both[..., 1])
        return {"lq": lq, "gt": gt, "level": 0.0, "gt_path": self.source.names[number]}


class MixedDataset(Dataset[dict[str, Any]]):
    """Samples of several training sets, each drawn with a probability in proportion to its weight.

    The set and the image of a sample are drawn at random, with replacement; like all its
    randomness, they depend only on (seed, epoch, index).

    Args:
        sets: training sets with crops of one size.
        weights: positive weight of each.
        seed: ``manual_seed`` of the run.
    """

    def __init__(self, sets: Sequence[CropDataset], weights: Sequence[float], seed: int) -> None:
        self.sets = list(sets)
        self.seed = seed
        # The last bound is exactly 1: no draw of [0, 1) lies beyond it.
        self._bounds = np.cumsum(weights) / np.sum(weights)
        self._bounds[-1] = 1.0
        # Noisy samples are float32, all others uint8, but a batch has one dtype.
        self._is_noisy = any(
            isinstance(each, RestorationDataset) and each.degradation.task.kind == "denoise"
            for each in sets
        )

    def __len__(self) -> int:
        """Return the number of samples in an epoch: that of all sets together."""
        return sum(len(each) for each in self.sets)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return the sample (epoch, index)."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        chosen = self.sets[int(np.searchsorted(self._bounds, rng.random(), side="right"))]
        sample = chosen.sample(int(rng.integers(len(chosen.source))), rng)
        return {**sample, "lq": in_unit_range(sample["lq"])} if self._is_noisy else sample


def window(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Draw rows and columns of a square of side ``size`` inside (H, W[, C])."""
    top = int(rng.integers(shape[0] - size + 1))
    left = int(rng.integers(shape[1] - size + 1))
    return slice(top, top + size), slice(left, left + size)


def augment(
    image: NDArray[np.uint8], rng: np.random.Generator, kind: Augment = True
) -> NDArray[np.uint8]:
    """Apply a random one of the flips and rotations of a square that :data:`Augment` names."""
    if kind is False:
        return image
    if kind == "flip":
        return np.ascontiguousarray(image[:, ::-1] if rng.integers(2) else image)
    if kind == "rotate":
        code = int(rng.integers(4))
        image = image[::-1] if code % 2 else image
        return np.ascontiguousarray(image.swapaxes(0, 1) if code >= 2 else image)
    code = int(rng.integers(8))
    image = np.rot90(image, code % 4)
    return np.ascontiguousarray(image[:, ::-1] if code >= 4 else image)


def to_tensor(image: NDArray[np.uint8 | np.float32]) -> Tensor:
    """Convert (H, W) or (H, W, C) to a contiguous tensor (C, H, W) of the same dtype."""
    planes = image[None] if image.ndim == 2 else image.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(planes))


def in_unit_range(image: Tensor) -> Tensor:
    """Convert ``uint8`` images to ``float32`` in [0, 1]; others are returned as they are."""
    return image.float() / 255 if image.dtype == torch.uint8 else image


def init_worker(_: int) -> None:
    """Limit a data loader worker to one thread, and shield it from signals.

    The workers already provide the parallelism. Ctrl-C and a scheduler's SIGTERM are sent to the
    whole process group: a worker killed by them would abort the training before its state is saved.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
