"""Progress reporting: loss, learning rate, images per second, time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vheatir.training.distributed import Processes
from vheatir.training.experiment import Experiment
from vheatir.training.schema import Options

log = logging.getLogger("vheatir")


class Run(Protocol):
    """A training run whose progress can be shown."""

    options: Options
    processes: Processes
    experiment: Experiment
    iteration: int
    samples_seen: int

    def done(self) -> float:
        """Return the fraction of the training that is done, 0 to 1."""


class ProgressLine:
    """A progress bar on a terminal, and log lines everywhere.

    Args:
        trainer: the training run.
    """

    def __init__(self, trainer: Run) -> None:
        self.trainer = trainer
        self.visible = trainer.processes.is_main and sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True), disable=not self.visible, transient=True,
        )  # fmt: skip
        self._started = self._last = self._bar_updated = time.monotonic()
        self._last_samples = trainer.samples_seen
        self._done_before = trainer.done()

    def __enter__(self) -> ProgressLine:
        """Start the bar."""
        self.bar.start()
        self.task = self.bar.add_task(
            self.trainer.options.name,
            total=self.trainer.options.train.total_iter,
            completed=self.trainer.iteration,
            text="",
        )
        return self

    def __exit__(self, *_: Any) -> None:
        """Remove the bar."""
        self.bar.stop()

    def advance(self) -> None:
        """Update the bar, if it is visible."""
        if self.visible and time.monotonic() - self._bar_updated > 0.1:
            self._bar_updated = time.monotonic()
            self.bar.update(self.task, completed=self.trainer.iteration)

    def watch(self, images: int) -> Callable[[], None]:
        """Add a bar for a validation; return a callback to call after each image."""
        task = self.bar.add_task("validation", total=images, text="")
        left = images

        def tick() -> None:
            nonlocal left
            left -= 1
            self.bar.advance(task)
            if left == 0:
                self.bar.remove_task(task)

        return tick

    def report(self, loss: float, rate: float) -> None:
        """Log a progress line; write loss and learning rate to TensorBoard."""
        trainer, now = self.trainer, time.monotonic()
        speed = (trainer.samples_seen - self._last_samples) / max(now - self._last, 1e-9)
        self._last, self._last_samples = now, trainer.samples_seen
        done = trainer.done()
        fraction = done - self._done_before
        left = (now - self._started) * (1 - done) / fraction if fraction > 0 else 0.0
        text = (
            f"loss {loss:.5f}  lr {rate:.2e}  {speed:.1f} images/s  {_format_duration(left)} left"
        )
        self.bar.update(self.task, completed=trainer.iteration, text=text)
        if trainer.processes.is_main:
            total = trainer.options.train.total_iter
            log.info("iteration %d/%d  %s", trainer.iteration, total, text)
            trainer.experiment.scalars(trainer.iteration, {"loss": loss, "lr": rate})


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
