"""Find and load the weight files of a benchmark run."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vheatir.errors import VHeatIRError
from vheatir.weights import LoadedModel, load_weights

if TYPE_CHECKING:
    from vheatir.training.schema import Options


def load_all(paths: Iterable[str | os.PathLike[str]]) -> list[LoadedModel]:
    """Load weight files, ignoring duplicates.

    Raises:
        VHeatIRError: a file is missing, damaged or not a vHeatIR weight file.
    """
    return [load_weights(path) for path in dict.fromkeys(Path(path) for path in paths)]


def load_experiment(options: Options) -> LoadedModel:
    """Load the exported weights of an option file's experiment: the final or the latest ones.

    Without exported weights, fall back to ``path:pretrain_network_g`` if it is for the same task
    and level (an option file for testing only; fine-tuning starts from another level).

    Raises:
        VHeatIRError: there are no such weights.
    """
    from vheatir.training.experiment import Experiment

    models = Experiment(options, is_main=False).models
    for name in (f"{options.name}.safetensors", "net_g_latest.safetensors"):
        if (models / name).is_file():
            return load_weights(models / name)
    start = options.path.pretrain_network_g
    if start is None:
        reason = ""
    elif Path(start).suffix != ".safetensors" or not Path(start).is_file():
        reason = f", and path:pretrain_network_g {start!r} is not an existing .safetensors file"
    else:
        model = load_weights(start)
        trained = model.info.get("level")
        if model.info.get("task") == options.task and _pair(trained) == _pair(options.level):
            return model
        at = f" at level {trained}" if trained is not None else ""
        reason = f", and path:pretrain_network_g is for {model.info.get('task')}{at}"
    raise VHeatIRError(
        f"experiment {options.name!r} has no weights in {str(models)!r}{reason}: "
        "train it first, or give --weights FILE"
    )


def _pair(level: object) -> Sequence[object]:
    return tuple(level) if isinstance(level, (list, tuple)) else (level, level)
