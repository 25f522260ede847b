"""Progress reporting: loss, learning rate, images per second, time left."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from vheatir.training.experiment import Experiment

log = logging.getLogger("vheatir")


class ProgressLine:
    """A progress bar on a terminal, and log lines everywhere.

    Args:
        experiment: the experiment, which holds the options of the run.
        iteration: iterations done so far.
        samples: samples seen so far, over all processes.
        done: fraction of the training that is done, 0 to 1.
    """

    def __init__(self, experiment: Experiment, iteration: int, samples: int, done: float) -> None:
        self.experiment = experiment
        self.options = experiment.options
        self.visible = experiment.is_main and sys.stderr.isatty()
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=Console(stderr=True), disable=not self.visible, transient=True,
        )  # fmt: skip
        self.task = self.bar.add_task(
            self.options.name, total=self.options.train.total_iter, completed=iteration, text=""
        )
        self._started = self._last = time.monotonic()
        self._last_samples = samples
        self._done_before = done

    def __enter__(self) -> ProgressLine:
        """Start the bar."""
        self.bar.start()
        return self

    def __exit__(self, *_: Any) -> None:
        """Remove the bar."""
        self.bar.stop()

    def advance(self, iteration: int) -> None:
        """Update the bar, if it is visible."""
        if self.visible:
            self.bar.update(self.task, completed=iteration)

    @contextmanager
    def watch(self, images: int) -> Iterator[Callable[[], None]]:
        """Show a bar during a validation (``val: pbar``); call the result after each image."""
        visible = self.options.val.pbar
        task = self.bar.add_task("validation", total=images, visible=visible, text="")
        yield partial(self.bar.advance, task)
        self.bar.remove_task(task)

    def report(self, iteration: int, samples: int, done: float, loss: float, rate: float) -> None:
        """Log a progress line; write loss and learning rate to TensorBoard."""
        now = time.monotonic()
        speed = (samples - self._last_samples) / max(now - self._last, 1e-9)
        self._last, self._last_samples = now, samples
        fraction = done - self._done_before
        seconds = (now - self._started) * (1 - done) / fraction if fraction > 0 else 0.0
        left = _format_duration(seconds)
        text = f"loss {loss:.5f}  lr {rate:.2e}  {speed:.1f} images/s  {left} left"
        self.bar.update(self.task, completed=iteration, text=text)
        if self.experiment.is_main:
            log.info("iteration %d/%d  %s", iteration, self.options.train.total_iter, text)
            self.experiment.scalars(iteration, {"loss": loss, "lr": rate})


def _format_duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
