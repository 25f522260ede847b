"""Which sample comes when: a pure function of the seed and the position in the stream."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

#: A sample: (epoch, index). With the seed it fixes everything random about the sample.
SampleKey = tuple[int, int]


class SampleStream(Sampler[list[SampleKey]]):
    """An endless stream of batches over shuffled epochs that can be entered anywhere.

    The global stream concatenates the epochs' permutations. The processes of a distributed run
    cut each global batch between them, so the samples of an iteration do not depend on their
    number, nor on the number of workers, nor on interruptions.

    Args:
        length: samples in an epoch.
        batch_size: samples in one process's batch.
        seed: the run's ``manual_seed``.
        start: samples of the stream (over all processes) that are already used.
        rank: this process.
        world_size: number of processes.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        self.start = start
        self.rank = rank
        self.world_size = world_size
        self._shuffled: tuple[int, np.ndarray] | None = None

    def __iter__(self) -> Iterator[list[SampleKey]]:
        """Yield this process's batches, without end."""
        position = self.start + self.rank * self.batch_size
        while True:
            yield [self._key(position + i) for i in range(self.batch_size)]
            position += self.batch_size * self.world_size

    def _key(self, position: int) -> SampleKey:
        epoch, place = divmod(position, self.length)
        return epoch, int(self._permutation(epoch)[place])

    def _permutation(self, epoch: int) -> np.ndarray:
        if self._shuffled is None or self._shuffled[0] != epoch:
            # A spawn key keeps this apart from the samples' own (seed, epoch, index): NumPy pads
            # a short seed with zeros, so (seed, epoch) would be the generator of sample 0.
            sequence = np.random.SeedSequence([self.seed, epoch], spawn_key=(1,))
            order = np.random.default_rng(sequence).permutation(self.length)
            self._shuffled = (epoch, order)
        return self._shuffled[1]
