"""Noisy crops made on the device itself: every image in its memory, no loader in between."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vheatir.data.degrade import DegradationRange
from vheatir.data.sources import ImageSource
from vheatir.errors import VHeatIRError


class DeviceCrops:
    """An endless stream of noisy batches whose images, crops, flips and noise live on a device.

    Images are drawn in proportion to their area. The batch at stream position p depends on
    (manual_seed, p, rank) alone, so a resumed run continues exactly.

    Args:
        source: clean images.
        degradation: noise range; JPEG is made by a loader's workers instead.
        size: side of a crop.
        batch_size: crops a batch.
        seed: the run's ``manual_seed``.
        device: where batches are made.
        start: samples already used, over all processes.
        rank: this process.
        world_size: number of processes.
        pool: the uint8 tensors of an earlier stage on the same source, to be used again.

    Raises:
        VHeatIRError: the task is not denoising, or an image is smaller than the crop.
    """

    def __init__(
        self,
        source: ImageSource,
        degradation: DegradationRange,
        size: int,
        batch_size: int,
        seed: int,
        device: torch.device,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
        pool: ImagePool | None = None,
    ) -> None:
        if degradation.task.degradation != "noise":
            raise VHeatIRError(
                "data_on_device makes noise only: set it to false for JPEG tasks, "
                "whose loader workers compress in parallel"
            )
        self.pool = pool or ImagePool(source, device)
        if self.pool.shortest < size:
            raise VHeatIRError(
                f"an image of the training set is {self.pool.shortest} pixels across, smaller "
                f"than the crop of {size}: lower gt_size or remove the image"
            )
        self.degradation = degradation
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.device = device
        self.start = start
        self.rank = rank
        self.world_size = world_size

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches as the loader does: ``lq``, ``gt`` float32 in [0, 1], ``level``."""
        position = self.start + self.rank * self.batch_size
        while True:
            yield self.batch(position)
            position += self.batch_size * self.world_size

    def batch(self, position: int) -> dict[str, Any]:
        """Return the batch at a position of the stream."""
        generator = torch.Generator(self.device)
        generator.manual_seed(int(np.random.SeedSequence([self.seed, position]).generate_state(1)[0]))
        gt = self.pool.crops(self.batch_size, self.size, generator).float() / 255
        low, high = self.degradation.low, self.degradation.high
        level = low + (high - low) * torch.rand(
            self.batch_size, device=self.device, generator=generator
        )
        noise = torch.randn(gt.shape, device=self.device, generator=generator)
        lq = gt + noise * (level / 255)[:, None, None, None]
        return {"lq": lq, "gt": gt, "level": level, "gt_path": []}


class ImagePool:
    """All images of a source as one uint8 tensor, cropped by index arithmetic.

    Args:
        source: images, (H, W) or (H, W, 3).
        device: where the pool lives.
    """

    def __init__(self, source: ImageSource, device: torch.device) -> None:
        images = [source[i] for i in range(len(source))]
        self.channels = 1 if images[0].ndim == 2 else 3
        self.shortest = min(min(image.shape[:2]) for image in images)
        sizes = torch.tensor([image.shape[:2] for image in images], device=device)
        self.heights, self.widths = sizes[:, 0], sizes[:, 1]
        areas = self.heights * self.widths
        self.offsets = (areas.cumsum(0) - areas) * self.channels
        self.weights = areas.double()
        self.pixels = torch.cat([torch.from_numpy(image.reshape(-1)) for image in images]).to(device)

    def crops(self, count: int, size: int, generator: torch.Generator) -> Tensor:
        """Return crops at random places in random orientations, uint8 (count, C, size, size)."""
        device = self.pixels.device

        def uniform() -> Tensor:
            return torch.rand(count, device=device, generator=generator, dtype=torch.float64)

        image = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        top = (uniform() * (self.heights[image] - size + 1)).long()
        left = (uniform() * (self.widths[image] - size + 1)).long()
        steps = torch.arange(size, device=device)
        flips = torch.rand(3, count, 1, device=device, generator=generator) < 0.5
        down = torch.where(flips[0], size - 1 - steps, steps)
        across = torch.where(flips[1], size - 1 - steps, steps)
        i, j = down[:, :, None], across[:, None, :]
        transposed = flips[2][:, :, None]
        row = torch.where(transposed, across[:, None, :], i)
        column = torch.where(transposed, down[:, :, None], j)
        rows = top[:, None, None] + row
        columns = left[:, None, None] + column
        first = self.offsets[image][:, None, None] + (
            rows * self.widths[image][:, None, None] + columns
        ) * self.channels
        channel = torch.arange(self.channels, device=device)[None, :, None, None]
        return self.pixels[first[:, None] + channel]
