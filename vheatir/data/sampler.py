"""Sample order as a pure function of the seed and the position in the stream."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from torch.utils.data import Sampler

#: Sample key (epoch, index). With the seed, it determines all randomness of the sample.
SampleKey = tuple[int, int]


@dataclass(eq=False)
class SampleStream(Sampler[list[SampleKey]]):
    """An infinite stream of batches over shuffled epochs, with random access.

    The global stream concatenates one permutation per epoch. The processes of a distributed run
    split each global batch, so the samples of an iteration do not depend on the number of
    processes or workers, or on interruptions.

    Args:
        length: samples in an epoch.
        batch_size: samples in one process's batch.
        seed: ``manual_seed`` of the run.
        start: samples already used, over all processes.
        rank: rank of this process.
        world_size: number of processes.
    """

    length: int
    batch_size: int
    seed: int
    start: int = 0
    rank: int = 0
    world_size: int = 1

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield the batches of this process, endlessly."""
        position = self.start + self.rank * self.batch_size
        while True:
            yield [self._key(position + i) for i in range(self.batch_size)]
            position += self.batch_size * self.world_size

    def _key(self, position: int) -> SampleKey:
        epoch, place = divmod(position, self.length)
        return epoch, int(_permutation(self.length, self.seed, epoch)[place])


@lru_cache(maxsize=2)  # a batch may lie in two epochs
def _permutation(length: int, seed: int, epoch: int) -> np.ndarray:
    # A spawn key separates this from the sample seeds (seed, epoch, index): NumPy pads a short seed
    # with zeros, so (seed, epoch) would be the generator of sample 0.
    sequence = np.random.SeedSequence([seed, epoch], spawn_key=(1,))
    return np.random.default_rng(sequence).permutation(length)
