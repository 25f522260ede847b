"""Which weight files a benchmark run tests."""

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
    """Return the files of the released models for ``tasks``."""
    return [path for task in tasks for path in find_weights(task)]


def load_all(paths: Iterable[str | os.PathLike[str]]) -> list[LoadedModel]:
    """Load weight files, each once.

    Raises:
        VHeatIRError: one is missing, damaged or not ours.
    """
    from vheatir.weights import load_weights

    return [load_weights(path) for path in dict.fromkeys(Path(path) for path in paths)]


def load_experiment(options: Options) -> LoadedModel:
    """Load what the experiment of an option file has exported, the final weights first.

    Where it has exported nothing, ``path:pretrain_network_g`` if it is for the same task and level
    (an option file that only tests; a fine-tuning starts from weights for another level).

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
            f"path:pretrain_network_g {start!r} is no .safetensors file that exists: "
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
