"""Folders, logs, curves and images of an experiment: ``experiments/<name>/…``, as in BasicSR."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from rich.logging import RichHandler

from vheatir.errors import VHeatIRError
from vheatir.image_io import remove_unfinished, write_bytes_atomically
from vheatir.training.checkpoint import set_aside
from vheatir.training.paths import resolve_output
from vheatir.training.schema import Options
from vheatir.training.validation import Scores
from vheatir.weights import read_info, with_nulls

log = logging.getLogger("vheatir")


class Experiment:
    """Output folder and loggers of a training run.

    ``training_states/``: training states to resume from; ``models/``: weights;
    ``visualization/``: validation images; ``results/``: tables, curves and before/after images.
    The folder itself holds the resolved option file and the logs.

    Args:
        options: options of the run.
        is_main: whether this process writes files.

    Raises:
        VHeatIRError: Weights & Biases is requested but not installed, or TensorBoard is off.
    """

    def __init__(self, options: Options, is_main: bool = True) -> None:
        self.options = options
        self.root = resolve_output(options.path.experiments_root or "experiments") / options.name
        self.states = self.root / "training_states"
        self.models = self.root / "models"
        #: EMA weights, at the end of training and at the last save.
        self.weights = self.models / f"{options.name}.safetensors"
        self.latest_weights = self.models / "net_g_latest.safetensors"
        self.visualization = self.root / "visualization"
        self.results = self.root / "results"
        self.is_main = is_main
        self._tensorboard: Any = None
        self._wandb: Any = None
        wandb = options.logger.wandb
        self._wandb_options = wandb if wandb and wandb.project else None
        if self._wandb_options is not None:
            if not options.logger.use_tb_logger:
                raise VHeatIRError(
                    "logger:wandb mirrors the TensorBoard events: set logger:use_tb_logger=true too"
                )
            if is_main and importlib.util.find_spec("wandb") is None:
                raise VHeatIRError(
                    "logger:wandb needs the package wandb, which is not installed: "
                    "pip install wandb, or set logger:wandb=~"
                )

    def open(self, resuming: bool) -> None:
        """Create the folders and start the loggers; archive an earlier run of the same name."""
        if not self.is_main:
            return
        stamp = time.strftime("%Y%m%d_%H%M%S")
        if self.root.exists() and not resuming:
            self.root.rename(self.root.with_name(f"{self.root.name}_archived_{stamp}"))
        for folder in (self.states, self.models, self.results):
            folder.mkdir(parents=True, exist_ok=True)
            remove_unfinished(folder)
        remove_unfinished(self.root)
        logs = sorted(self.root.glob(f"train_{self.options.name}_*.log"))
        new = self.root / f"train_{self.options.name}_{stamp}.log"
        # a resumed run appends to its log
        handler = logging.FileHandler(logs[-1] if logs else new, encoding="utf-8")
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s: %(message)s"))
        log.addHandler(handler)
        if self._wandb_options is not None:
            # mirrors the events of TensorBoard, as in BasicSR
            self._wandb = importlib.import_module("wandb").init(
                project=self._wandb_options.project,
                id=self._wandb_options.resume_id,
                resume="allow" if self._wandb_options.resume_id else None,
                name=self.options.name,
                config=self.options.dump(),
                sync_tensorboard=True,
            )
        if self.options.logger.use_tb_logger:
            from torch.utils.tensorboard import SummaryWriter

            self._tensorboard = SummaryWriter(str(self.root / "tb_logger"))

    def write_options(self) -> None:
        """Write the options as resolved, to ``<name>.yml``."""
        if self.is_main:
            text = yaml.safe_dump(self.options.dump(), sort_keys=False, allow_unicode=True)
            write_bytes_atomically(self.root / f"{self.options.name}.yml", text.encode())

    def set_aside_weights(self, iteration: int) -> None:
        """Rename exported weights of more iterations, which belong to an abandoned run."""
        for path in (self.weights, self.latest_weights):
            with suppress(VHeatIRError):  # missing, or damaged
                if trained_iterations(path) > iteration:
                    set_aside(path)

    def close(self) -> None:
        """Close the loggers."""
        if self._tensorboard is not None:
            self._tensorboard.close()
        if self._wandb is not None:
            self._wandb.finish()
        for handler in [h for h in log.handlers if isinstance(h, logging.FileHandler)]:
            handler.close()
            log.removeHandler(handler)

    def scalars(self, iteration: int, values: Mapping[str, float]) -> None:
        """Write scalars to TensorBoard."""
        for name, value in values.items() if self._tensorboard is not None else ():
            self._tensorboard.add_scalar(name, value, iteration)

    def report_scores(
        self, iteration: int, scores: Scores, best: Mapping[str, Mapping[str, str]]
    ) -> None:
        """Log validation scores, also to TensorBoard.

        Args:
            iteration: iterations done.
            scores: the scores.
            best: see :meth:`vheatir.training.validation.Validator.best`.
        """
        for name, values in scores.items():
            notes = best.get(name, {})
            text = "  ".join(
                f"{key} {value:.4f}" + (f" ({notes[key]})" if key in notes else "")
                for key, value in values.items()
            )
            log.info("validation at %d  %s: %s", iteration, name, text)
            self.scalars(iteration, {f"{name}/{key}": value for key, value in values.items()})

    def write_history(
        self, losses: list[list[float]], scores: list[list[Any]], work: list[list[float]]
    ) -> None:
        """Write losses and validation scores, and the work done at each, to ``history.json``."""
        history = with_nulls({"losses": losses, "scores": scores, "work": work})
        text = json.dumps(history, indent=1, allow_nan=False)
        write_bytes_atomically(self.results / "history.json", text.encode())


def log_to_console(is_main: bool) -> None:
    """Log to standard output: in colour on a terminal, one line per record elsewhere.

    Args:
        is_main: whether this is the first process; the others log warnings and errors alone.
    """
    log.setLevel(logging.INFO if is_main else logging.WARNING)
    if any(isinstance(handler, (RichHandler, _StdoutHandler)) for handler in log.handlers):
        return
    handler: logging.Handler
    if sys.stdout.isatty():
        handler = RichHandler(show_path=False, omit_repeated_times=False, markup=False)
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:  # rich would fold long lines at 80 columns
        handler = _StdoutHandler()
        layout = "%(asctime)s %(levelname)s %(message)s"
        handler.setFormatter(logging.Formatter(layout, "%Y-%m-%d %H:%M:%S"))
    log.addHandler(handler)
    log.propagate = False


class _StdoutHandler(logging.Handler):
    """Writes to the current ``sys.stdout``, as rich does."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sys.stdout.write(self.format(record) + "\n")
            sys.stdout.flush()
        except Exception:
            self.handleError(record)


def trained_iterations(weights: Path) -> int:
    """Return the number of iterations that a weight file was trained for; 0 if it is not known.

    Raises:
        VHeatIRError: the file is missing or damaged.
    """
    training = read_info(weights).get("training") or {}
    return int(training.get("iterations", 0))
