"""Several training sets mixed by weight."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch.utils.data import Dataset

from vheatir.data.restoration_dataset import CropDataset
from vheatir.data.sampler import SampleKey


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

    def __len__(self) -> int:
        """Return the number of samples in an epoch: that of all sets together."""
        return sum(len(each) for each in self.sets)

    def __getitem__(self, key: SampleKey) -> dict[str, Any]:
        """Return the sample (epoch, index)."""
        epoch, index = key
        rng = np.random.default_rng([self.seed, epoch, index])
        chosen = self.sets[int(np.searchsorted(self._bounds, rng.random(), side="right"))]
        return chosen.sample(int(rng.integers(len(chosen.source))), rng)
