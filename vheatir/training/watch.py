"""Detect non-finite losses, report the images that caused them, count skipped iterations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vheatir.errors import VHeatIRError
from vheatir.training.checkpoint import newest_state

log = logging.getLogger("vheatir")

# With more consecutive skipped iterations than this, the data is not the cause.
_MAX_CONSECUTIVE_SKIPS = 100


class LossWatch:
    """Losses since the last check; reading each one immediately would synchronise with the GPU.

    Args:
        states: folder of the training states.
        names: returns the image names of a batch.

    Attributes:
        skipped: number of skipped iterations of the run.
    """

    def __init__(self, states: Path, names: Callable[[Mapping[str, Any]], list[str]]) -> None:
        self._states = states
        self._names = names
        self._unchecked: list[tuple[int, Tensor, dict[str, Any]]] = []
        self.skipped = 0
        self._consecutive_skips = 0
        self._last_skip: int | None = None

    def add(self, iteration: int, loss: Tensor, batch: Mapping[str, Any]) -> None:
        """Record the loss of one batch of an iteration; of the batch, only image names are kept."""
        named = {key: batch[key] for key in ("gt_path", "first") if key in batch}
        self._unchecked.append((iteration, loss, named))

    def check(self) -> None:
        """Check the recorded losses and forget them.

        Raises:
            VHeatIRError: one is not finite; names iteration and images of the first.
        """
        found = self._take_nonfinite()
        if found is not None:
            iteration, problem = found
            raise VHeatIRError(f"{problem} at iteration {iteration}: {self.advice()}")

    def skip(self, iteration: int, is_main: bool) -> None:
        """Count an iteration as skipped, log why, and forget its losses.

        Args:
            iteration: number of the iteration.
            is_main: whether to log even if the losses of this process are finite.

        Raises:
            VHeatIRError: too many iterations in a row were skipped.
        """
        follows = self._last_skip == iteration - 1
        self._consecutive_skips = self._consecutive_skips + 1 if follows else 1
        self._last_skip = iteration
        self.skipped += 1
        found = self._take_nonfinite()
        # or the loss of another process is not, which logs it
        reason = found[1] if found else "the gradient is not finite" if is_main else None
        if reason is not None:
            log.warning("iteration %d: %s: skipped, %d so far", iteration, reason, self.skipped)
        if self._consecutive_skips >= _MAX_CONSECUTIVE_SKIPS:
            raise VHeatIRError(
                f"{_MAX_CONSECUTIVE_SKIPS} iterations in a row, up to {iteration}, had a "
                f"non-finite loss or gradient: {self.advice()}"
            )

    def advice(self) -> str:
        """Return advice to the user, with the last good training state."""
        newest = newest_state(self._states)
        last = f"the last good state is {newest}" if newest else "no state is saved yet"
        return (
            "lower train:optim_g:lr, set train:grad_clip, or skip such batches with "
            f"train:skip_nonfinite=true, and continue with --auto_resume; {last}"
        )

    def _take_nonfinite(self) -> tuple[int, str] | None:
        """Forget the recorded losses; return iteration and problem of the first non-finite one."""
        recorded, self._unchecked = self._unchecked, []
        if not recorded:
            return None
        finite = torch.stack([loss for _, loss, _ in recorded]).isfinite().tolist()
        if all(finite):
            return None
        iteration, loss, batch = recorded[finite.index(False)]
        names = ", ".join(dict.fromkeys(self._names(batch)))
        return iteration, f"the loss is {float(loss):g} for {names}"
