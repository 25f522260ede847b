"""Find and load the weight files of a benchmark run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vheatir.errors import VHeatIRError
from vheatir.zoo import find_weights

if TYPE_CHECKING:
    from vheatir.training.schema import Options
    from vheatir.weights import LoadedModel


def released_weights(tasks: Iterable[str]) -> list[Path]:
    """Return the weight files of the released models for ``tasks``."""
    return [path for task in tasks for path in find_weights(task)]


def load_all(paths: Iterable[str | os.PathLike[str]]) -> list[LoadedModel]:
    """Load weight files, ignoring duplicates.

    Raises:
        VHeatIRError: a file is missing, damaged or not a vHeatIR weight file.
    """
    from vheatir.weights import load_weights

    return [load_weights(path) for path in dict.fromkeys(Path(path) for path in paths)]


def load_experiment(options: Options) -> LoadedModel:
    """Load the exported weights of an option file's experiment: the final or the latest ones.

    Without exported weights, fall back to ``path:pretrain_network_g`` if it is for the same task
    and level (an option file for testing only; fine-tuning starts from another level).

    Raises:
        VHeatIRError: there are no such weights.
    """
    from vheatir.training.experiment import Experiment
    from vheatir.weights import load_weights

    models = Experiment(options, is_main=False).models
    for name in (f"{options.name}.safetensors", "net_g_latest.safetensors"):
        if (models / name).is_file():
            return load_weights(models / name)
    start = options.path.pretrain_network_g
    if start is None:
        raise VHeatIRError(
            f"experiment {options.name!r} has no weights in {str(models)!r}: "
            "train it first, or give --weights FILE"
        )
    if Path(start).suffix != ".safetensors" or not Path(start).is_file():
        raise VHeatIRError(
            f"experiment {options.name!r} has no weights in {str(models)!r}, and "
            f"path:pretrain_network_g {start!r} is not an existing .safetensors file: "
            "train it first, or give --weights FILE"
        )
    model = load_weights(start)
    level: object = options.level
    trained = model.info.get("level")
    if model.info.get("task") != options.task or _pair(trained) != _pair(level):
        at = f" at level {trained}" if trained is not None else ""
        raise VHeatIRError(
            f"experiment {options.name!r} has no weights in {str(models)!r}, and "
            f"path:pretrain_network_g is for {model.info.get('task')}{at}: "
            "train it first, or give --weights FILE"
        )
    return model


def _pair(level: object) -> Sequence[object]:
    return tuple(level) if isinstance(level, (list, tuple)) else (level, level)
