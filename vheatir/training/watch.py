"""Losses that are not finite: found, named after their images, told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vheatir.errors import VHeatIRError
from vheatir.training.checkpoint import newest_state


class LossWatch:
    """The losses since the last look: reading each at once would stop a GPU.

    Args:
        states: the folder of training states.
        names: names the images of a batch.
    """

    def __init__(self, states: Path, names: Callable[[Mapping[str, Any]], list[str]]) -> None:
        self._states = states
        self._names = names
        self._unread: list[tuple[int, Tensor, dict[str, Any]]] = []

    def add(self, iteration: int, loss: Tensor, batch: Mapping[str, Any]) -> None:
        """Take the loss of one batch of an iteration; of the batch, only its names are kept."""
        named = {key: batch[key] for key in ("gt_path", "first") if key in batch}
        self._unread.append((iteration, loss, named))

    def check(self) -> None:
        """Look at the losses.

        Raises:
            VHeatIRError: one is not finite; names the first one's iteration and images.
        """
        found = self._wrong()
        self._unread = []
        if found is not None:
            iteration, words = found
            raise VHeatIRError(f"{words} at iteration {iteration}: {self.advice()}")

    def drop(self, iteration: int) -> str | None:
        """Forget an iteration; says what was wrong with its losses, if anything was."""
        kept = [entry for entry in self._unread if entry[0] < iteration]
        self._unread = self._unread[len(kept) :]
        found = self._wrong()
        self._unread = kept
        return None if found is None else found[1]

    def advice(self) -> str:
        """Say what to do now, with the state to go on from."""
        newest = newest_state(self._states)
        last = f"the last good state is {newest}" if newest else "no state is saved yet"
        return (
            "lower train:optim_g:lr or set train:grad_clip, or pass over such batches with "
            f"train:skip_nonfinite=true, and go on with --auto_resume; {last}"
        )

    def _wrong(self) -> tuple[int, str] | None:
        if not self._unread:
            return None
        fine = torch.stack([loss for _, loss, _ in self._unread]).isfinite().tolist()
        if all(fine):
            return None
        iteration, loss, batch = self._unread[fine.index(False)]
        names = ", ".join(dict.fromkeys(self._names(batch)))
        return iteration, f"the loss is {float(loss):g} for {names}"
