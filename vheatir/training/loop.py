"""The training loop, with exact resume."""

from __future__ import annotations

import logging
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch

from vheatir.archs import FOREIGN
from vheatir.errors import VHeatIRError, first_line
from vheatir.hardware import is_out_of_memory, pick_device
from vheatir.training.checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    newest_state,
    restore_rng,
    save_checkpoint,
    set_aside_newer,
)
from vheatir.training.distributed import Processes, is_lost_process
from vheatir.training.experiment import Experiment
from vheatir.training.feed import TrainingFeed
from vheatir.training.model import RestorationModel
from vheatir.training.options import changed_options, in_full
from vheatir.training.progress import ProgressLine
from vheatir.training.schedule import learning_rate, progress, stage_at
from vheatir.training.schema import Options
from vheatir.training.stopping import Interrupted, StopSignals
from vheatir.training.validation import Validator
from vheatir.training.watch import LossWatch
from vheatir.weights import save_weights

log = logging.getLogger("vheatir")

# Iterations between synchronisations of elapsed time and stop flag: each one is a barrier.
_SYNC_EVERY = 10
# What a training state holds of the Trainer's own attributes.
_COUNTED = ("iteration", "samples_seen", "minutes", "losses", "scores")
# Further ones, which the states of earlier releases lack.
_WORK = ("processor_seconds", "pixels_seen", "work")
# Optimisers that keep the same quantities.
_SAME_STATE = frozenset({"Adam", "AdamW", "RAdam"})


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
        self._seed_process()
        self.samples_seen = 0
        self.minutes = 0.0
        self.losses: list[list[float]] = []
        self.scores: list[list[Any]] = []
        # Processor time of the iterations, without validation and loader workers: that of this
        # process, times the number of processes.
        self.processor_seconds = 0.0
        self.pixels_seen = 0
        # [iteration, processor seconds, pixels seen] at each validation.
        self.work: list[list[float]] = []
        self.watch = LossWatch(experiment.states, self.feed.names)
        self.signals = StopSignals()
        self._stopping = False

    def run(self) -> None:
        """Train to the end or until a signal.

        Raises:
            Interrupted: SIGINT or SIGTERM was received; the state is saved.
            VHeatIRError: the loss is not finite, a state cannot be saved, memory is insufficient,
                or another process of the run died.
        """
        start = self.iteration, self.samples_seen, self.done()
        with self.signals, ProgressLine(self.experiment, *start) as line:
            try:
                self._run(line)
            except (RuntimeError, MemoryError) as error:
                if is_out_of_memory(error):
                    raise VHeatIRError(
                        f"not enough memory after iteration {self.iteration}: lower "
                        "datasets:train:batch_size_per_gpu (train:accumulate makes up for it), or "
                        "set train:checkpointing=true; in a validation, set val:tile"
                    ) from None
                if self.processes.count == 1 or not is_lost_process(error):
                    raise
                raise self._lost_process(error) from None

    def _run(self, line: ProgressLine) -> None:
        train, logger = self.options.train, self.options.logger
        started = time.monotonic() - 60 * self.minutes
        stage, batches = None, None
        while (done := self.done()) < 1:
            current = stage_at(self.options.stages, done)
            if batches is None or current != stage:
                stage, batches = current, self.feed.batches(current, self.samples_seen)
            rate = learning_rate(train, self.iteration, done)
            before = time.process_time()
            loss, samples, pixels = self.forward_backward(batches)
            # All that processes exchange precedes the step: if it fails because one of them died,
            # the state is that of the iteration before, complete with log and validation.
            can_step = not train.skip_nonfinite or self.model.can_step(loss)
            self._synchronise(started)
            last = progress(train, self.iteration + 1, self.minutes) >= 1
            reported = can_step and (last or (self.iteration + 1) % logger.print_freq == 0)
            if reported:
                self.watch.check()
                loss = self.processes.mean(loss)
            self.step(can_step, rate, samples, pixels)
            self.processor_seconds += (time.process_time() - before) * self.processes.count
            if reported:
                self.report(float(loss), rate, line)
            else:
                line.advance(self.iteration)
            if not last and self.iteration % self.options.val.val_freq == 0:
                self.validate(line)
            if self._stopping:
                self._stop(self.signals.received or signal.SIGTERM)
            if not last and self.iteration % logger.save_checkpoint_freq == 0:
                self.save()
        if not self.scores or self.scores[-1][0] != self.iteration:
            self.validate(line)
        self.save()

    def done(self) -> float:
        """Return the fraction of the training that is done, 0 to 1."""
        return progress(self.options.train, self.iteration, self.minutes)

    def forward_backward(self, batches: Iterator[dict[str, Any]]) -> tuple[torch.Tensor, int, int]:
        """Accumulate the gradients of one iteration; return its mean loss, samples and pixels.

        Args:
            batches: the training batches, of which ``train: accumulate`` are taken.
        """
        accumulate = self.options.train.accumulate
        losses, samples, pixels = [], 0, 0
        for number in range(1, accumulate + 1):
            batch = self._next_batch(batches)
            last = number == accumulate
            losses.append(self.model.accumulate_gradients(batch, 1 / accumulate, last))
            self.watch.add(self.iteration + 1, losses[-1], batch)
            count, _, height, width = batch["gt"].shape
            samples += count * self.processes.count
            pixels += count * height * width * self.processes.count
        loss = losses[0] if len(losses) == 1 else torch.stack(losses).mean()
        return loss, samples, pixels

    def step(self, can_step: bool, rate: float, samples: int, pixels: int) -> None:
        """Finish an iteration with an optimiser step.

        Args:
            can_step: whether loss and gradients are finite; otherwise the step is skipped, and its
                samples count as seen.
            rate: learning rate.
            samples: number of samples of the iteration, in all processes.
            pixels: number of their pixels.
        """
        if can_step:
            self.model.step(rate, self.iteration)
        else:
            self.model.drop_gradients()
            self.watch.skip(self.iteration + 1, self.processes.is_main)
        self.iteration += 1
        self.samples_seen += samples
        self.pixels_seen += pixels

    def report(self, loss: float, rate: float, line: ProgressLine) -> None:
        """Log the loss, over all processes, and the learning rate of the iteration."""
        self.losses.append([self.iteration, self.minutes, loss, rate])
        line.report(self.iteration, self.samples_seen, self.done(), loss, rate)

    def validate(self, line: ProgressLine) -> None:
        """Evaluate the EMA weights on the validation sets, in the main process only.

        If this fails, the state is saved, without scores of this iteration.
        """
        if self.validator is not None and self.validator.sets:
            settings = self.options.val
            folder = self.experiment.visualization / str(self.iteration)
            kept = folder if settings.save_img else None
            try:
                with line.watch(len(self.validator)) as tick:
                    scores = self.validator.run(self.model.net_g_ema, kept, tick)
            except Exception as error:
                self.save()
                known = isinstance(error, VHeatIRError) or is_out_of_memory(error)
                if known or self.options.network_g.type not in FOREIGN:
                    raise
                raise VHeatIRError(
                    f"network_g {self.options.network_g.type} cannot restore a validation image: "
                    f"{first_line(error)}; give it the attribute window_size if its images need "
                    "sides that are multiples of a number; everything is saved, continue with "
                    "--auto_resume"
                ) from error
            self.scores.append([self.iteration, self.minutes, scores])
            self.work.append([self.iteration, round(self.processor_seconds, 3), self.pixels_seen])
            self.experiment.report_scores(self.iteration, scores, self.validator.best(self.scores))
        self.processes.barrier()

    def save(self) -> None:
        """Save the training state and the EMA weights.

        Raises:
            VHeatIRError: they are not finite or cannot be written; earlier states are left
                untouched.
        """
        if not self.processes.is_main:
            return
        self.watch.check()
        wrong = self.model.unsound()
        if wrong is not None:
            raise VHeatIRError(
                f"{wrong} is not finite at iteration {self.iteration}, so it is not saved: "
                f"{self.watch.advice()}"
            )
        save_checkpoint(self.experiment.states, self.state_dict(), self.options.logger.keep_last)
        try:
            self.export(self.experiment.latest_weights)
            self.experiment.write_history(self.losses, self.scores, self.work)
        except OSError as error:
            raise VHeatIRError(
                f"weights and curves could not be written to {self.experiment.root} "
                f"({error.strerror}): free some space and continue with --auto_resume"
            ) from error

    def export(self, path: Path) -> Path:
        """Write the EMA weights to a file for :func:`vheatir.load_weights`."""
        options, skipped = self.options, self.watch.skipped
        info = {
            "name": options.name,
            "task": options.task,
            "level": options.level,
            **({"color": options.task_info.color} if options.task is None else {}),
            "training": {
                "iterations": self.iteration,
                "samples": self.samples_seen,
                "minutes": round(self.minutes, 2),
                "processor_hours": round(self.processor_seconds / 3600, 3),
                "pixels": self.pixels_seen,
                "seed": options.manual_seed,
                **({"skipped": skipped} if skipped else {}),
                "scores": self.scores[-1][2] if self.scores else {},
            },
        }
        return save_weights(path, self.model.net_g_ema, info)

    def resume(self, auto: bool) -> None:
        """Continue from a training state, if there is one.

        Args:
            auto: prefer the newest complete state of the experiment to ``path: resume_state`` of
                the option file.

        Raises:
            VHeatIRError: the state is missing, damaged or does not match the option file.
        """
        path, state = self._state_to_resume(auto)
        if state is None:
            log.info("no training state in %s: starting a new run", self.experiment.states)
        else:
            before = in_full(state["options"])
            for key, was, now in changed_options(before, self.options.dump()):
                log.warning("option %s changed: was %s, is %s", key, was, now)
            try:
                self._check_optimizer(before)
                self.load_state_dict(state)
            except (RuntimeError, ValueError, KeyError) as error:
                reason = first_line(error)
                raise VHeatIRError(f"{path} does not fit this option file: {reason}") from None
            restore_rng(state["rng"])
            self._seed_process()
            log.info("resumed from %s at iteration %d", path, self.iteration)
        self.processes.barrier()
        # Not before the state is loaded in all processes: a failed resume changes nothing.
        if self.processes.is_main:
            set_aside_newer(self.experiment.states, self.iteration)
            self.experiment.set_aside_weights(self.iteration)

    def _state_to_resume(self, auto: bool) -> tuple[Path | None, dict[str, Any] | None]:
        """Return the path and the contents of the state that the main process chooses."""
        found = None
        named = self.options.path.resume_state
        if self.processes.is_main:
            found = newest_checkpoint(self.experiment.states) if auto else None
            if found is None and named is not None:
                found = Path(named), load_checkpoint(Path(named))
        path = self.processes.from_main(found and found[0])
        if path is None:
            return None, None
        return path, found[1] if found else load_checkpoint(path)

    def _check_optimizer(self, before: dict[str, Any]) -> None:
        """Raise ValueError if the saved state is that of an optimiser with other quantities."""
        was = before["train"]["optim_g"]["type"]
        now = self.options.train.optim_g.type
        if was != now and not {was, now} <= _SAME_STATE:
            raise ValueError(f"its optimiser is {was}, not {now}: set train:optim_g:type={was}")

    def _seed_process(self) -> None:
        """Give each process random numbers of its own, for networks with dropout."""
        if not self.processes.is_main:  # the generators of the main process are saved
            entropy = (self.options.manual_seed, self.processes.rank, self.iteration)
            torch.manual_seed(int(np.random.SeedSequence(entropy).generate_state(1)[0]))

    def state_dict(self) -> dict[str, Any]:
        """Return the training state, except the random generators."""
        return {
            **{name: getattr(self, name) for name in (*_COUNTED, *_WORK)},
            "skipped": self.watch.skipped,
            "options": self.options.dump(),
            "model": self.model.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the result of :meth:`state_dict`."""
        self.model.load_state_dict(state["model"])
        for name in _COUNTED:
            setattr(self, name, state[name])
        for name in _WORK:
            setattr(self, name, state.get(name, getattr(self, name)))
        if "work" not in state:
            log.info("the state is of an earlier release: processor time counts from here on")
        self.watch.skipped = state.get("skipped", 0)

    # --- stopping and failures ---

    def _synchronise(self, started: float) -> None:
        """Update elapsed time and stop flag, synchronised over the processes."""
        minutes = (time.monotonic() - started) / 60
        if self.processes.count == 1 or (self.iteration + 1) % _SYNC_EVERY == 0:
            self._stopping, self.minutes = self.processes.agree(
                self.signals.received is not None, minutes, self.device
            )

    def _stop(self, number: int) -> NoReturn:
        self.save()
        raise Interrupted(number)

    def _next_batch(self, batches: Iterator[dict[str, Any]]) -> dict[str, Any]:
        try:
            return next(batches)
        except VHeatIRError as error:  # from a loader worker: after its traceback
            raise VHeatIRError(str(error).strip().rpartition("VHeatIRError: ")[2]) from None
        except RuntimeError as error:
            # A job scheduler's SIGTERM may reach the loader workers before this process.
            time.sleep(0.5)
            if self.signals.received is None or self.processes.count > 1:
                raise VHeatIRError(
                    f"the data loader failed after iteration {self.iteration}: "
                    f"{' '.join(str(error).split())}; continue with --auto_resume, perhaps with "
                    "datasets:train:num_worker_per_gpu=0"
                ) from error
            self.model.drop_gradients()
            self._stop(self.signals.received)

    def _lost_process(self, error: Exception) -> VHeatIRError:
        """Save the state of the last complete iteration; return the error to raise."""
        self.watch.check()  # may be the cause
        self.model.drop_gradients()
        self.save()
        newest = newest_state(self.experiment.states)
        return VHeatIRError(
            f"another process of this run has ended at iteration {self.iteration} "
            f"({' '.join(str(error).split())[:120]}); see its own message for the cause; "
            f"newest state: {newest or 'none saved yet'}; continue with --auto_resume"
        )
