"""The training loop: what BasicSR's lacks is here, what it has is used."""

from __future__ import annotations

import logging
import math
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from vheatir.errors import VHeatIRError
from vheatir.models.restoration_model import RestorationModel
from vheatir.training.checkpoint import load_checkpoint, newest_checkpoint, restore_rng
from vheatir.training.checkpoint import save_checkpoint as write_checkpoint
from vheatir.training.distributed import Processes
from vheatir.training.experiment import Experiment
from vheatir.training.feed import TrainingFeed
from vheatir.training.precision import pick_device
from vheatir.training.progress import ProgressLine
from vheatir.training.schedule import learning_rate, progress, stage_at
from vheatir.training.schema import Options
from vheatir.training.validation import Scores, Validator
from vheatir.weights import save_weights

log = logging.getLogger("vheatir")


class Interrupted(Exception):
    """A signal asked the run to end; its state is saved."""


class Trainer:
    """One run of an option file.

    Args:
        options: the run's options.
        experiment: its folders and logs.
        processes: its processes.

    Raises:
        VHeatIRError: data, weights or options do not fit.
    """

    def __init__(self, options: Options, experiment: Experiment, processes: Processes) -> None:
        self.options = options
        self.experiment = experiment
        self.processes = processes
        self.device = processes.device(pick_device(options.device))
        torch.manual_seed(options.manual_seed)
        self.feed = TrainingFeed(options, self.device, processes)
        self.validator = Validator(options) if processes.is_main else None
        self.model = RestorationModel(
            {
                "options": options,
                "device": self.device,
                "processes": processes,
                "network_g": options.network_g.config(),
            }
        )
        self.iteration = 0
        self.samples_seen = 0
        self.minutes = 0.0
        self.losses: list[list[float]] = []
        self.scores: list[list[Any]] = []
        self._signal: int | None = None

    def resume(self, path: Path | None) -> bool:
        """Continue from a training state: the one given, or the newest complete one, if any."""
        if path is not None:
            found: tuple[Path, dict[str, Any]] | None = (path, load_checkpoint(path))
        else:
            found = newest_checkpoint(self.experiment.states)
        if found is None:
            return False
        path, state = found
        self._warn_of_changes(state["options"])
        try:
            self.model.load_state_dict(state["model"])
        except (RuntimeError, ValueError, KeyError) as error:
            line = str(error).splitlines()[0]
            raise VHeatIRError(f"{path} does not fit this option file: {line}") from None
        restore_rng(state["rng"])
        self.iteration = state["iteration"]
        self.samples_seen = state["samples_seen"]
        self.minutes = state["minutes"]
        self.losses = state["losses"]
        self.scores = state["scores"]
        log.info("resumed from %s at iteration %d", path, self.iteration)
        return True

    def run(self) -> None:
        """Train to the end, or until a signal.

        Raises:
            Interrupted: after saving, when SIGINT or SIGTERM came.
            VHeatIRError: the loss is not finite, or a state cannot be saved.
        """
        train = self.options.train
        started = time.monotonic() - 60 * self.minutes
        stage, batches = stage_at(train, self._done()), None
        with self._signals(), ProgressLine(self) as line:
            while self._done() < 1:
                current = stage_at(train, self._done())
                if batches is None or current != stage:
                    stage, batches = current, self.feed.batches(current, self.samples_seen)
                rate = learning_rate(train, self.iteration, self._done())
                loss = self._iterate(batches)
                self.model.step(rate, self.iteration)
                self.iteration += 1
                self.minutes = self._shared_clock((time.monotonic() - started) / 60)
                self._after(loss, rate, line)
        self.validate()
        self.save()

    def _iterate(self, batches: Iterator[dict[str, Any]]) -> torch.Tensor:
        """Accumulate one iteration's gradients; returns its mean loss."""
        count = self.options.train.accumulate
        total = torch.zeros((), device=self.device)
        for _ in range(count):
            batch = next(batches)
            self.model.feed_data(batch)
            loss = self.model.accumulate_gradients(1 / count)
            total += loss / count
            self.samples_seen += len(batch["gt"]) * self.processes.count
        return total

    def _after(self, loss: torch.Tensor, rate: float, line: ProgressLine) -> None:
        """Log, validate, save and stop where it is due."""
        options, last = self.options, self._done() >= 1
        if self.iteration % options.logger.print_freq == 0 or last:
            value = float(self.processes.mean(loss))
            if not math.isfinite(value):
                raise VHeatIRError(
                    f"the loss is {value} at iteration {self.iteration}: lower train:optim_g:lr "
                    f"or set train:grad_clip, and continue from {self.experiment.states}"
                )
            self.losses.append([self.iteration, self.minutes, value, rate])
            line.report(value, rate)
        else:
            line.advance()
        if self.iteration % options.val.val_freq == 0 and not last:
            self.validate()
        stopping = self.processes.any(self._signal is not None, self.device)
        if stopping or (self.iteration % options.logger.save_checkpoint_freq == 0 and not last):
            self.save()
        if stopping:
            raise Interrupted

    def validate(self) -> Scores | None:
        """Measure the moving average on the validation sets."""
        scores = None
        if self.validator is not None and self.validator.sets:
            folder = self.experiment.pictures / str(self.iteration)
            network = self.model.net_g_ema
            scores = self.validator.run(
                network, self.device, folder if self.options.val.save_img else None
            )
            self.scores.append([self.iteration, self.minutes, scores])
            self.experiment.report_scores(self.iteration, scores)
        self.processes.barrier()
        return scores

    def save(self) -> None:
        """Save the training state and the averaged weights."""
        if not self.processes.is_main:
            return
        state = {
            "iteration": self.iteration,
            "samples_seen": self.samples_seen,
            "minutes": self.minutes,
            "losses": self.losses,
            "scores": self.scores,
            "options": self.options.dump(),
            "model": self.model.state_dict(),
        }
        write_checkpoint(self.experiment.states, state, self.options.logger.keep_last)
        self.export(self.experiment.models / "net_g_latest.safetensors")

    def export(self, path: Path) -> Path:
        """Write the averaged weights as a file that :func:`vheatir.load_weights` rebuilds."""
        options = self.options
        level = options.level
        info = {
            "name": options.name,
            "task": options.task,
            "level": list(level) if isinstance(level, tuple) else level,
            "training": {
                "iterations": self.iteration,
                "samples": self.samples_seen,
                "minutes": round(self.minutes, 2),
                "seed": options.manual_seed,
                "scores": self.scores[-1][2] if self.scores else {},
            },
        }
        return save_weights(path, self.model.net_g_ema, info)

    def _done(self) -> float:
        return progress(self.options.train, self.iteration, self.minutes)

    def _shared_clock(self, minutes: float) -> float:
        """Let the processes agree on the time where the schedule depends on it."""
        if self.processes.count == 1 or self.options.train.max_minutes is None:
            return minutes
        return float(self.processes.mean(torch.tensor(minutes, device=self.device)))

    def _warn_of_changes(self, before: dict[str, Any]) -> None:
        """Name what the option file says differently from the run that is resumed."""
        now = self.options.dump()
        for key in sorted(before.keys() | now.keys()):
            if before.get(key) != now.get(key):
                log.warning("option %s changed: was %s, is %s", key, before.get(key), now.get(key))

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a request to save and end."""

        def note(number: int, _: FrameType | None) -> None:
            self._signal = number
            # A second signal ends the run at once.
            signal.signal(number, signal.default_int_handler)

        kinds = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(kind, note) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)
