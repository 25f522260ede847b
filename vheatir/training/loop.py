"""The training loop, with exact resume, on top of a BasicSR model."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import numpy as np
import torch

from vheatir.errors import VHeatIRError
from vheatir.hardware import pick_device
from vheatir.training.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    newest_state,
    restore_rng,
    set_aside_newer,
)
from vheatir.training.checkpoint import save_checkpoint as write_checkpoint
from vheatir.training.distributed import Processes, is_lost_process
from vheatir.training.experiment import Experiment
from vheatir.training.feed import TrainingFeed
from vheatir.training.model import RestorationModel
from vheatir.training.progress import ProgressLine
from vheatir.training.schedule import learning_rate, progress, stage_at
from vheatir.training.schema import Options
from vheatir.training.validation import Scores, Validator
from vheatir.training.watch import LossWatch
from vheatir.weights import save_weights

log = logging.getLogger("vheatir")

# Iterations between synchronisations of elapsed time and stop flag: each one is a barrier.
_SYNC_EVERY = 10

# With more consecutive skipped iterations than this, the data is not the cause.
_MAX_CONSECUTIVE_SKIPS = 100


class Interrupted(Exception):
    """A signal ended the run; its training state is saved.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Trainer:
    """Train the network of an option file.

    Args:
        options: options of the run.
        experiment: its folders and logs.
        processes: its processes.

    Raises:
        VHeatIRError: data, weights and options do not match.
    """

    def __init__(self, options: Options, experiment: Experiment, processes: Processes) -> None:
        self.options = options
        self.experiment = experiment
        self.processes = processes
        self.device = processes.device(pick_device(options.device))
        torch.manual_seed(options.manual_seed)
        # Crop sizes stay fixed for thousands of iterations, so benchmarking kernels pays off.
        torch.backends.cudnn.benchmark = self.device.type == "cuda"
        np.random.seed(options.manual_seed)
        random.seed(options.manual_seed)
        self.feed = TrainingFeed(options, self.device, processes)
        self.validator = Validator(options) if processes.is_main else None
        self.model = RestorationModel(options, self.device, processes)
        self.iteration = 0
        self.samples_seen = 0
        self.minutes = 0.0
        self.losses: list[list[float]] = []
        self.scores: list[list[Any]] = []
        self._signal: int | None = None
        self._stopping = False
        self.skipped = 0
        self._consecutive_skips = 0
        # Whether the training state is that of a complete iteration, with log and validation.
        self._is_consistent = True
        self._watch = LossWatch(experiment.states, self.feed.names)

    def resume(self, auto: bool) -> bool:
        """Continue from a training state; return whether there was one.

        Args:
            auto: prefer the newest complete state of the experiment to ``path: resume_state`` of
                the option file.

        Raises:
            VHeatIRError: the state is missing, damaged or does not match the option file.
        """
        found = newest_checkpoint(self.experiment.states) if auto else None
        named = self.options.path.resume_state
        if found is None and named is not None:
            found = Path(named), load_checkpoint(Path(named))
        self.processes.barrier()
        if self.processes.is_main:
            set_aside_newer(self.experiment.states, found[1]["iteration"] if found else -1)
        if found is None:
            log.info("no training state in %s: starting a new run", self.experiment.states)
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
        self.skipped = state.get("skipped", 0)
        log.info("resumed from %s at iteration %d", path, self.iteration)
        return True

    def run(self) -> None:
        """Train to the end or until a signal.

        Raises:
            Interrupted: SIGINT or SIGTERM was received; the state is saved.
            VHeatIRError: the loss is not finite, a state cannot be saved, or another process of
                the run died.
        """
        with self._signals(), ProgressLine(self) as line:
            try:
                self._run(line)
            except RuntimeError as error:
                if self.processes.count == 1 or not is_lost_process(error):
                    raise
                raise self._lost_process(error) from None

    def _run(self, line: ProgressLine) -> None:
        train = self.options.train
        started = time.monotonic() - 60 * self.minutes
        stage, batches = None, None
        while (done := self.done()) < 1:
            current = stage_at(train, done)
            if batches is None or current != stage:
                stage, batches = current, self.feed.batches(current, self.samples_seen)
            rate = learning_rate(train, self.iteration, done)
            loss, samples = self._accumulate(batches)
            self._is_consistent = False
            if loss is not None:
                self.model.step(rate, self.iteration)
            self.iteration += 1
            self.samples_seen += samples
            self._synchronise(started)
            self._finish_iteration(loss, rate, line)
            self._is_consistent = True
        if not self.scores or self.scores[-1][0] != self.iteration:
            self.validate(line)
        self.save()

    def _accumulate(self, batches: Iterator[dict[str, Any]]) -> tuple[torch.Tensor | None, int]:
        """Accumulate one iteration's gradients.

        Returns:
            Mean loss, None if the iteration is to be skipped; number of samples.
        """
        count = self.options.train.accumulate
        losses, samples = [], 0
        for number in range(1, count + 1):
            batch = self._next_batch(batches)
            losses.append(self.model.accumulate_gradients(batch, 1 / count, last=number == count))
            self._watch.add(self.iteration + 1, losses[-1], batch)
            samples += len(batch["gt"]) * self.processes.count
        loss = losses[0] if count == 1 else torch.stack(losses).mean()
        if self.options.train.skip_nonfinite and not self.model.can_step(loss):
            self._skip(self.iteration + 1)
            return None, samples
        self._consecutive_skips = 0
        return loss, samples

    def _skip(self, iteration: int) -> None:
        """Skip an iteration: no optimiser step, but its samples count as seen."""
        self.model.drop_gradients()
        self.skipped += 1
        self._consecutive_skips += 1
        reason = self._watch.drop(iteration)
        if reason is None and self.processes.is_main:
            reason = "the gradient is not finite"  # or the loss of another process, which logs it
        if reason is not None:
            log.warning("iteration %d: %s: skipped, %d so far", iteration, reason, self.skipped)
        if self._consecutive_skips >= _MAX_CONSECUTIVE_SKIPS:
            raise VHeatIRError(
                f"{_MAX_CONSECUTIVE_SKIPS} iterations in a row, up to {iteration}, had a "
                f"non-finite loss or gradient: {self._watch.advice()}"
            )

    def _lost_process(self, error: RuntimeError) -> VHeatIRError:
        """Save the state if it is consistent; return the error to raise."""
        self._watch.check()  # may be the cause
        self.model.drop_gradients()
        if self._is_consistent:
            self.save()
        newest = newest_state(self.experiment.states)
        return VHeatIRError(
            f"another process of this run has ended at iteration {self.iteration} "
            f"({' '.join(str(error).split())[:120]}); see its own message for the cause; "
            f"newest state: {newest or 'none saved yet'}; continue with --auto_resume"
        )

    def _next_batch(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        try:
            return next(batches)
        except RuntimeError as error:
            # A job scheduler's SIGTERM may reach the loader workers before this process.
            time.sleep(0.5)
            if self._signal is None or self.processes.count > 1:
                raise VHeatIRError(
                    f"the data loader failed after iteration {self.iteration}: "
                    f"{' '.join(str(error).split())}; continue with --auto_resume, perhaps with "
                    "datasets:train:num_worker_per_gpu=0"
                ) from error
            self.model.drop_gradients()
            self._stop(self._signal)

    def _synchronise(self, started: float) -> None:
        """Update elapsed time and stop flag, synchronised over the processes."""
        if self.processes.count == 1 or self.iteration % _SYNC_EVERY == 0:
            self._stopping, self.minutes = self.processes.agree(
                self._signal is not None, (time.monotonic() - started) / 60, self.device
            )

    def _finish_iteration(self, loss: torch.Tensor | None, rate: float, line: ProgressLine) -> None:
        """Log, validate, save and stop when due; the loss is None for a skipped iteration."""
        options, last = self.options, self.done() >= 1
        if self.iteration % options.logger.print_freq == 0 or last:
            self._watch.check()
            if loss is not None:
                value = float(self.processes.mean(loss))
                self.losses.append([self.iteration, self.minutes, value, rate])
                line.report(value, rate)
        else:
            line.advance()
        if self.iteration % options.val.val_freq == 0 and not last:
            self.validate(line)
        if self._stopping:
            self._stop(self._signal or signal.SIGTERM)
        if self.iteration % options.logger.save_checkpoint_freq == 0 and not last:
            self.save()

    def _stop(self, number: int) -> NoReturn:
        self.save()
        raise Interrupted(number)

    def validate(self, line: ProgressLine | None = None) -> Scores | None:
        """Evaluate the EMA weights on the validation sets, in the main process only.

        Returns:
            The scores; None in other processes and without validation sets.
        """
        scores = None
        if self.validator is not None and self.validator.sets:
            folder = self.experiment.visualization / str(self.iteration)
            network = self.model.net_g_ema
            watch = line.watch(len(self.validator)) if line and self.options.val.pbar else None
            scores = self.validator.run(
                network, self.device, folder if self.options.val.save_img else None, watch
            )
            self.scores.append([self.iteration, self.minutes, scores])
            self.experiment.report_scores(self.iteration, scores)
        self.processes.barrier()
        return scores

    def save(self) -> None:
        """Save the training state and the EMA weights.

        Raises:
            VHeatIRError: they are not finite or cannot be written; earlier states are left
                untouched.
        """
        if not self.processes.is_main:
            return
        self._watch.check()
        wrong = self.model.unsound()
        if wrong is not None:
            raise VHeatIRError(
                f"{wrong} is not finite at iteration {self.iteration}, so it is not saved: "
                f"{self._watch.advice()}"
            )
        state = {
            "iteration": self.iteration,
            "samples_seen": self.samples_seen,
            "minutes": self.minutes,
            "losses": self.losses,
            "scores": self.scores,
            "skipped": self.skipped,
            "options": self.options.dump(),
            "model": self.model.state_dict(),
        }
        write_checkpoint(self.experiment.states, state, self.options.logger.keep_last)
        try:
            self.export(self.experiment.models / "net_g_latest.safetensors")
            self.experiment.write_history(self.losses, self.scores)
        except OSError as error:
            raise VHeatIRError(
                f"weights and curves could not be written to {self.experiment.root} "
                f"({error.strerror}): free some space and continue with --auto_resume"
            ) from error

    def export(self, path: Path) -> Path:
        """Write the EMA weights to a file for :func:`vheatir.load_weights`."""
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
                **({"skipped": self.skipped} if self.skipped else {}),
                "scores": self.scores[-1][2] if self.scores else {},
            },
        }
        return save_weights(path, self.model.net_g_ema, info)

    def done(self) -> float:
        """Return the fraction of the training that is done, 0 to 1."""
        return progress(self.options.train, self.iteration, self.minutes)

    def _warn_of_changes(self, before: dict[str, Any]) -> None:
        """Log the options that differ from those of the resumed run."""
        for key, was, now in changes(before, self.options.dump()):
            log.warning("option %s changed: was %s, is %s", key, was, now)

    @contextmanager
    def _signals(self) -> Iterator[None]:
        """Turn SIGINT and SIGTERM into a request to save and stop."""

        def request_stop(number: int, _: FrameType | None) -> None:
            self._signal = number
            # A second signal ends the run immediately.
            signal.signal(number, signal.default_int_handler)

        kinds = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(kind, request_stop) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)


def changes(before: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Return (option, before, now) for every option that differs."""
    if not isinstance(before, dict) or not isinstance(now, dict):
        return [] if before == now else [(key, before, now)]
    names = sorted(before.keys() | now.keys())
    return [
        change
        for name in names
        for change in changes(before.get(name), now.get(name), f"{key}:{name}" if key else name)
    ]
