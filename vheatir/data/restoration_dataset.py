"""Data set of clean images degraded on the fly."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence, Sized
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vheatir.data.recolor import recolor_array
from vheatir.data.sampler import SampleKey
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange, degrade_for_training
from vheatir.errors import VHeatIRError

#: Flips and rotations of a crop: all eight, none, or those of BasicSR's ``use_hflip`` (mirrored or
#: not) or of its ``use_rot`` (upside down or not, transposed or not) alone.
Augment = bool | Literal["flip", "rotate"]


class CropDataset(Dataset[dict[str, Any]]):
    """Random crops for training; subclasses define :meth:`sample`.

    The randomness of a sample depends only on (manual_seed, epoch, index): crops differ between
    epochs and are reproducible for any number of workers or processes.

    Args:
        size: side of a crop.
        seed: ``manual_seed`` of the run.
        augment: see :data:`Augment`.
        enlarge: samples per image and epoch.

    Item ``(epoch, index)``: dict of ``lq`` and ``gt``, tensors (C, size, size), ``float32`` in
    [0, 1] or ``uint8``; ``level``, a float; ``gt_path``, the name of the clean image.

    Raises:
        VHeatIRError: an image is smaller than the crop.

    Attributes:
        source: the images.
    """

    source: Sized

    def __init__(self, size: int, seed: int, augment: Augment, enlarge: int) -> None:
        self.size = size
        self.seed = seed
        self.augment = augment
        self.enlarge = enlarge

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


class RestorationDataset(CropDataset):
    """Random crops of clean images, degraded on the fly: see :class:`CropDataset`.

    Args:
        source: clean images.
        degradation: the random degradation.
        size: side of a crop.
        seed: ``manual_seed`` of the run.
        augment: see :data:`Augment`.
        recolor: fraction of crops with colour augmentation.
        enlarge: samples per image and epoch.
    """

    source: ImageSource

    def __init__(
        self,
        source: ImageSource,
        degradation: DegradationRange,
        size: int,
        seed: int,
        *,
        augment: Augment = True,
        recolor: float = 0.0,
        enlarge: int = 1,
    ) -> None:
        super().__init__(size, seed, augment, enlarge)
        self.source = source
        self.degradation = degradation
        self.recolor = recolor

    def sample(self, number: int, rng: np.random.Generator) -> dict[str, Any]:
        """Return a random sample of image ``number``."""
        clean = self.source[number]
        name = self.source.names[number]
        scale = self.degradation.draw_scale(rng, self.size, min(clean.shape[:2]))
        needed = self.degradation.source_size(self.size, scale)
        if min(clean.shape[:2]) < needed:
            raise VHeatIRError(
                f"{name} is {clean.shape[1]}x{clean.shape[0]} pixels, smaller than the crop of "
                f"{needed}: lower gt_size or remove the image"
            )
        clean = crop(clean, needed, rng)
        clean = augment(clean, rng, self.augment)
        if self.recolor:
            clean = recolor_array(clean, self.recolor, rng)
        lq, gt, level = degrade_for_training(clean, self.size, self.degradation, rng, scale)
        return {"lq": to_tensor(lq), "gt": to_tensor(gt), "level": level, "gt_path": name}


def crop(image: NDArray[np.uint8], size: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Crop a random square of side ``size`` from (H, W) or (H, W, 3)."""
    return image[window(image.shape[:2], size, rng)]


def window(shape: tuple[int, ...], size: int, rng: np.random.Generator) -> tuple[slice, slice]:
    """Draw rows and columns of a square of side ``size`` inside (H, W)."""
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


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into a batch."""
    return {
        "lq": _stack([sample["lq"] for sample in samples]),
        "gt": torch.stack([sample["gt"] for sample in samples]),
        "level": torch.tensor([sample["level"] for sample in samples], dtype=torch.float32),
        "gt_path": [sample["gt_path"] for sample in samples],
    }


def _stack(images: Sequence[Tensor]) -> Tensor:
    """Stack images; in float32 if any of them is, as noisy ones are in a mix of training sets."""
    if all(image.dtype == images[0].dtype for image in images):
        return torch.stack(list(images))
    return torch.stack([i.float() / 255 if i.dtype == torch.uint8 else i for i in images])
