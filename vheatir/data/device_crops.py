"""Noisy crops generated on the device, with all images in device memory and no data loader."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vheatir.data.recolor import DRAWS, color_matrices, recolor
from vheatir.data.restoration_dataset import RestorationDataset
from vheatir.data.sources import ImageSource

# Number of samples whose random parameters (all but the noise) are drawn at once: drawing them per
# batch would be dominated by kernel launch overhead.
_DRAW_BLOCK = 1024


@dataclass(eq=False)
class DeviceCrops:
    """An infinite stream of noisy batches generated entirely on a device.

    Images are drawn in proportion to their area. Position, orientation and level of sample p of the
    stream depend only on (manual_seed, p), its noise on (manual_seed, first sample of its global
    batch). A resumed run therefore continues exactly, and two processes generate the same samples
    as one with twice the batch size. Random numbers differ between device types.

    Args:
        dataset: the training set, with noise; crops are flipped and rotated in all ways or none.
        pool: its images.
        batch_size: crops per batch and process.
        start: samples already used, over all processes.
        rank: rank of this process.
        world_size: number of processes.
    """

    dataset: RestorationDataset
    pool: ImagePool
    batch_size: int
    start: int = 0
    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        self._recolor = self.dataset.recolor if self.pool.channels > 1 else 0.0
        self._generator = torch.Generator(self.pool.device)
        self._block = lru_cache(maxsize=1)(self._draw)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches: float32 ``lq``, ``gt`` (white is 1); ``level``; crop corners ``first``."""
        position = self.start
        while True:
            yield self.batch(position)
            position += self.batch_size * self.world_size

    def batch(self, position: int) -> dict[str, Any]:
        """Return this process's part of the global batch that starts at a stream position."""
        own_offset = self.rank * self.batch_size
        first, down, across, level, *colors = self._samples(position + own_offset)
        gt = self.pool.cut(first, down, across, self.dataset.size).float().div_(255)
        if colors:
            gt = recolor(gt, colors[0])
        shape = (self.batch_size * self.world_size, *gt.shape[1:])
        noise = torch.randn(shape, device=self.pool.device, generator=self._seeded(position, 1))
        sigma = (level / 255)[:, None, None, None]
        lq = gt + noise[own_offset : own_offset + self.batch_size] * sigma
        return {"lq": lq, "gt": gt, "level": level, "first": first}

    def _samples(self, position: int) -> list[Tensor]:
        """Return first pixel, strides, level and, if used, colour matrix for a batch of samples."""
        number, place = divmod(position, _DRAW_BLOCK)
        count = -(-(place + self.batch_size) // _DRAW_BLOCK)
        blocks = [self._block(number + i) for i in range(count)]
        own = slice(place, place + self.batch_size)
        return [torch.cat(values)[own] for values in zip(*blocks, strict=True)]

    def _draw(self, number: int) -> tuple[Tensor, ...]:
        generator, augment = self._seeded(number, 0), self.dataset.augment
        where = self.pool.draw(_DRAW_BLOCK, self.dataset.size, generator, bool(augment))
        low, high = self.dataset.degradation.low, self.dataset.degradation.high
        fraction = torch.rand(_DRAW_BLOCK, device=self.pool.device, generator=generator)
        drawn = (*where, low + (high - low) * fraction)
        if not self._recolor:
            return drawn
        uniform = torch.rand(DRAWS, _DRAW_BLOCK, device=self.pool.device, generator=generator)
        return (*drawn, color_matrices(self._recolor, uniform))

    def _seeded(self, number: int, purpose: int) -> torch.Generator:
        sequence = np.random.SeedSequence([self.dataset.seed, number], spawn_key=(2, purpose))
        return self._generator.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))


class ImagePool:
    """All images of a source as one uint8 tensor, cropped by index arithmetic.

    Args:
        source: images, (H, W) or (H, W, 3).
        device: device of the pool.
    """

    def __init__(self, source: ImageSource, device: torch.device) -> None:
        self.device = device
        images = [source[i] for i in range(len(source))]
        self.channels = 1 if images[0].ndim == 2 else 3
        sizes = torch.tensor([image.shape[:2] for image in images], device=device)
        self.heights, self.widths = sizes[:, 0], sizes[:, 1]
        areas = self.heights * self.widths
        self.offsets = (areas.cumsum(0) - areas) * self.channels
        self.weights = areas.double()
        # concatenate on the CPU, so that a single copy to the device suffices
        flat = np.concatenate([image.reshape(-1) for image in images])
        self.pixels = torch.from_numpy(flat).to(device)

    def draw(
        self, count: int, size: int, generator: torch.Generator, augment: bool = True
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Draw random positions and orientations.

        Args:
            count: number of crops.
            size: side of a crop.
            generator: random generator on the pool's device.
            augment: whether to draw one of the eight flips and rotations for each crop.

        Returns:
            int64 tensors (count,) for :meth:`cut`: index in ``pixels`` of a crop's corner, and the
            strides in ``pixels`` to the next row and to the next column.
        """

        def uniform() -> Tensor:
            return torch.rand(count, device=self.device, generator=generator, dtype=torch.float64)

        image = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        top = (uniform() * (self.heights[image] - size + 1)).long()
        left = (uniform() * (self.widths[image] - size + 1)).long()
        right = torch.full_like(top, self.channels)
        down = self.widths[image] * self.channels
        first = self.offsets[image] + top * down + left * self.channels
        flips = torch.rand(3, count, device=self.device, generator=generator) < 0.5
        if augment:
            # A flipped crop starts at its other end and steps backwards.
            for flipped, step in ((flips[0], down), (flips[1], right)):
                first += flipped * step * (size - 1)
                step *= 1 - 2 * flipped.long()
            down, right = torch.where(flips[2], right, down), torch.where(flips[2], down, right)
        return first, down, right

    def images(self, first: Tensor) -> list[int]:
        """Return the source image index of each crop of :meth:`draw`."""
        return (torch.searchsorted(self.offsets, first, right=True) - 1).tolist()

    def cut(self, first: Tensor, down: Tensor, right: Tensor, size: int) -> Tensor:
        """Return the crops drawn by :meth:`draw`, uint8 (count, C, size, size)."""
        steps = torch.arange(size, device=self.device)
        rows = first[:, None] + steps * down[:, None]
        place = (rows[:, :, None] + steps * right[:, None, None])[:, None]
        if self.channels > 1:
            place = place + torch.arange(self.channels, device=self.device)[:, None, None]
        return self.pixels[place]
