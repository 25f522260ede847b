"""Open a finished or running training to test its weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vheatir.data.sources import BUNDLED
from vheatir.errors import VHeatIRError
from vheatir.evaluation.run import TrainingRun
from vheatir.training.experiment import Experiment, trained_iterations
from vheatir.training.options import load_options
from vheatir.training.schema import Options
from vheatir.training.validation import validation_set
from vheatir.weights import LoadedModel, level_range, load_weights


def open_training_run(
    path: str, force: Sequence[str] = (), imports: Sequence[str] = ()
) -> TrainingRun:
    """Load the weights of an option file's experiment.

    Args:
        path: the option file; see :func:`vheatir.training.options.load_options`, also for the
            others.
        force: overrides.
        imports: modules to import.

    Raises:
        VHeatIRError: an invalid option file, or no weights.
    """
    options = load_options(path, force, imports)
    val_sets = options.datasets.val_sets.values()
    pairs = [data for data in val_sets if data.is_paired]
    return TrainingRun(
        model=load_experiment(options),
        is_bundled={root for data in val_sets for root in data.dataroot_gt} == {BUNDLED},
        open_pairs=lambda task: [validation_set(data, task) for data in pairs],
    )


def load_experiment(options: Options) -> LoadedModel:
    """Load the exported weights of an option file's experiment, those of the most iterations.

    Without exported weights, fall back to ``path:pretrain_network_g`` if it is for the same task
    and level (an option file for testing only; fine-tuning starts from another level).

    Raises:
        VHeatIRError: there are no such weights.
    """
    experiment = Experiment(options, is_main=False)
    files = [experiment.weights, experiment.latest_weights]
    if found := [file for file in files if file.is_file()]:
        # After a continued run the final weights of its first part are the older ones.
        return load_weights(max(found, key=trained_iterations))
    start = options.path.pretrain_network_g
    if start is None:
        reason = ""
    elif Path(start).suffix != ".safetensors" or not Path(start).is_file():
        reason = f", and path:pretrain_network_g {start!r} is not an existing .safetensors file"
    else:
        model = load_weights(start)
        task, trained = model.info.get("task"), level_range(model.info)
        if task == options.task and trained == options.level_range:
            return model
        at = f" at level {model.info['level']}" if trained is not None else ""
        reason = f", and path:pretrain_network_g is for {task}{at}"
    raise VHeatIRError(
        f"experiment {options.name!r} has no weights in {str(experiment.models)!r}{reason}: "
        "train it first, or give --weights FILE"
    )
