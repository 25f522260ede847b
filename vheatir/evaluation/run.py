"""Run a benchmark: find models and test sets, evaluate, print and save the tables."""

from __future__ import annotations

import argparse
import itertools
import platform
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich import progress
from rich.console import Console

from vheatir import __version__
from vheatir.errors import VHeatIRError
from vheatir.evaluation.benchmark_sets import (
    BenchmarkSet,
    bundled_test_set,
    default_data_folder,
    find_test_sets,
)
from vheatir.evaluation.methods import Method, bm3d_method, model_method, tell_apart
from vheatir.evaluation.protocol import Measured, measure
from vheatir.evaluation.published import COLUMNS, published_records
from vheatir.evaluation.records import Record
from vheatir.evaluation.tables import check_writable, print_task, save_results
from vheatir.hardware import pick_device
from vheatir.image_io import write_image
from vheatir.plugins import import_modules
from vheatir.tasks import PAIRED_TASKS, TASKS, Task, format_levels, get_task
from vheatir.weights import LoadedModel, load_weights
from vheatir.zoo import list_models

# Console width for piped output, so that tables are not folded to 80 columns.
_PIPE_WIDTH = 180


@dataclass(frozen=True)
class TrainingRun:
    """A training run whose weights are tested, and what its option file says on testing them.

    Attributes:
        model: the weights.
        is_bundled: whether the run is validated on the bundled photographs alone.
        open_pairs: returns its validation sets of pairs, in the colour mode of a task.
    """

    model: LoadedModel
    is_bundled: bool
    open_pairs: Callable[[Task], list[BenchmarkSet]]


@dataclass(frozen=True)
class Plan:
    """What to evaluate for one task.

    Attributes:
        task: the task.
        test_sets: test sets to evaluate on.
        levels: levels to evaluate at; ``[None]`` for a task without a level.
        methods: models and baselines; the degraded input is always included.
        remarks: remarks for the title of the table.
    """

    task: Task
    test_sets: list[BenchmarkSet]
    levels: Sequence[float | None]
    methods: list[Method]
    remarks: list[str]

    def rows(self) -> list[tuple[float | None, Method | None]]:
        """Return what to measure on each test set: level, and method (None: the input)."""
        return [
            (level, method)
            for level in self.levels
            for method in (None, *self.methods)
            if method is None or method.covers(level)
        ]


def run(arguments: argparse.Namespace, training: TrainingRun | None = None) -> list[Record]:
    """Run the benchmark that the arguments of ``vheatir/test.py`` ask for; print and save tables.

    Args:
        arguments: see :func:`vheatir.test.parse_arguments`.
        training: the training run of ``-opt``, if given.

    Raises:
        VHeatIRError: any problem that the user can solve, if possible before the evaluation.
    """
    out = Console()
    if not out.is_terminal:
        out = Console(width=_PIPE_WIDTH)
    errors = Console(stderr=True)
    plans = make_plans(
        arguments, training, lambda text: errors.print(f"note: {text}", markup=False)
    )
    folder = Path(arguments.out)
    images = folder / "images" if arguments.save_images else None
    records: list[Record] = []
    remarks = {plan.task.name: plan.remarks for plan in plans}
    footer = _footer(arguments)
    check_writable(folder)
    files: list[Path] = []
    total = sum(len(test_set) * len(plan.rows()) for plan in plans for test_set in plan.test_sets)
    with progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TimeElapsedColumn(),
        progress.TimeRemainingColumn(),
        console=errors,
        transient=True,
    ) as bar:
        bar.add_task("", total=total)
        for plan in plans:
            own = measure_plan(plan, images, bar)
            records += own
            files = save_results(folder, records, remarks, footer)
            bar.stop()  # keeps it out of the table
            print_task(out, own, plan.remarks)
            bar.start()
    for file in files:
        out.print(f"wrote {file}", markup=False, highlight=False, soft_wrap=True)
    return records


def make_plans(
    arguments: argparse.Namespace, training: TrainingRun | None, note: Callable[[str], None]
) -> list[Plan]:
    """Find weights and test sets, and plan the evaluation.

    Args:
        arguments: see :func:`vheatir.test.parse_arguments`.
        training: the training run of ``-opt``, if given.
        note: called with notes to the user.

    Raises:
        VHeatIRError: there is nothing to evaluate, or an argument is invalid.
    """
    if arguments.limit is not None and arguments.limit < 1:
        raise VHeatIRError(f"--limit {arguments.limit}: give at least 1 image")
    requested = [get_task(name) for name in dict.fromkeys(arguments.task or ())]
    methods = _find_methods(arguments, training, requested)
    named = bool(training or arguments.weights)
    with_methods = {method.task for method in methods}
    tasks = requested or [
        task
        for task in (*TASKS.values(), *PAIRED_TASKS.values())
        if task.name in with_methods or not (named or task.kind == "pairs")
    ]
    if named and not with_methods & {task.name for task in tasks}:
        raise VHeatIRError(
            f"the weights are for {', '.join(sorted(with_methods))}, but --task asks for "
            f"{', '.join(task.name for task in tasks)}: give weights for that task"
        )
    plans = []
    for task in _tasks_with_level(arguments, tasks, note):
        own = [method for method in methods if method.task == task.name]
        levels = _levels(arguments, task, own if named else [])
        if not own and not named:
            note(f"no weights found for {task.name}: only the degraded input is measured")
        for method in own:
            if not any(method.covers(level) for level in levels):
                trained = f"{task.level_name} {format_levels(method.level_range)}"
                note(f"{method.name} is left out: it is trained for {trained}")
        if arguments.bm3d and task.kind == "denoise":
            own = [bm3d_method(task), *own]
        test_sets, remarks = _find_test_sets(arguments, task, training)
        if not test_sets:
            note(f"no test set for {task.name}: {', '.join(task.benchmark_sets)} not found")
            continue
        plans.append(Plan(task, test_sets, levels, own, remarks))
    if not plans:
        raise VHeatIRError(
            f"no test set for {', '.join(task.name for task in tasks)} in {arguments.data!r}: "
            "fetch one with datasets/prepare.py, or give another --data"
        )
    return plans


def measure_plan(plan: Plan, images: Path | None, bar: progress.Progress) -> list[Record]:
    """Evaluate one task.

    Args:
        plan: what to evaluate.
        images: folder for restored images; None saves none.
        bar: shows the current step; its only task advances by one for each image.

    Returns:
        By test set: the degraded input, published results, measured results.
    """
    (task,) = bar.task_ids
    for model in plan.methods:
        if model.params is not None:  # the first call of a network also initialises its device
            warm_up = np.zeros((64, 64, 3)[: 3 if plan.task.color == "rgb" else 2], np.float32)
            model.restore(warm_up, None if model.level_range is None else model.level_range[0])
    records: list[Record] = []
    for test_set in plan.test_sets:
        measured: dict[str, list[Record]] = {}
        for level, method in plan.rows():
            at = "" if level is None else f"{level:g}"
            name = "input" if method is None else method.name
            description = f"{plan.task.name} {test_set.name} {at}".rstrip()
            bar.update(task, description=f"{description}: {name}")
            folder = f"{test_set.name}_{at}".rstrip("_")

            def done(result: Measured, name: str = name, folder: str = folder) -> None:
                if images is not None:
                    file = f"{result.name}_{_slug(name)}.png"
                    write_image(images / plan.task.name / folder / file, result.output)
                bar.advance(task)

            record = measure(plan.task, test_set, level, method, done)
            measured.setdefault(record.method, []).append(record)
        inputs, *restored = measured.values()
        quoted = published_records(plan.task.name, test_set.name, plan.levels)
        records += [*inputs, *quoted, *itertools.chain(*restored)]
    return records


def _find_methods(
    arguments: argparse.Namespace, training: TrainingRun | None, requested: list[Task]
) -> list[Method]:
    """Return the models to evaluate."""
    device = pick_device(arguments.device)
    import_modules(arguments.imports)
    labels: dict[str, str] = {}
    if training is not None:
        models = [training.model]
    elif arguments.weights:
        models = [load_weights(path) for path in dict.fromkeys(map(Path, arguments.weights))]
    else:
        names = {task.name for task in requested or TASKS.values()}
        released = [entry for entry in list_models() if entry.task in names]
        models = [load_weights(entry.path) for entry in released]
        labels = {entry.name: entry.label for entry in released}
    options = {"self_ensemble": arguments.self_ensemble, "tile": arguments.tile}
    methods = [model_method(each, device, name=labels.get(each.name), **options) for each in models]
    return tell_apart([(m, model.path) for m, model in zip(methods, models, strict=True)])


def _tasks_with_level(
    arguments: argparse.Namespace, tasks: list[Task], note: Callable[[str], None]
) -> list[Task]:
    """With ``--level``, leave out the tasks without a level.

    Raises:
        VHeatIRError: such a task is requested by name, or no other task is left.
    """
    if not arguments.level:
        return tasks
    without = [task.name for task in tasks if not task.has_level]
    if any(name in (arguments.task or ()) for name in without) or len(without) == len(tasks):
        shown = ", ".join(f"{level:g}" for level in arguments.level)
        raise VHeatIRError(
            f"--level {shown}: task {without[0]} has no level, its models estimate the "
            "degradation from the image: leave --level out"
        )
    for name in without:
        note(f"{name} is left out: it has no level")
    return [task for task in tasks if task.has_level]


def _levels(
    arguments: argparse.Namespace, task: Task, named: list[Method]
) -> Sequence[float | None]:
    """Return the levels to evaluate: those of ``--level`` or of the weights."""
    if not task.has_level:
        return [None]
    if arguments.level:
        levels = sorted(set(arguments.level))
        is_sigma = task.kind == "denoise"
        for level in levels:
            if not (0 <= level <= 255 if is_sigma else level in range(1, 101)):
                allowed = "0 to 255" if is_sigma else "whole numbers 1 to 100"
                raise VHeatIRError(
                    f"--level {level:g}: {task.level_name} of {task.name} is {allowed}"
                )
        if named and not any(method.covers(level) for method in named for level in levels):
            trained = dict.fromkeys(format_levels(method.level_range) for method in named)
            raise VHeatIRError(
                f"--level {', '.join(f'{level:g}' for level in levels)}: the weights for "
                f"{task.name} are trained for {task.level_name} {', '.join(trained)}"
            )
        return levels
    if not named:
        return [float(level) for level in task.benchmark_levels]
    return levels_to_test(task, [m.level_range for m in named if m.level_range is not None])


def levels_to_test(task: Task, ranges: Sequence[tuple[float, float]]) -> list[float]:
    """Return the levels at which models are evaluated, here and in the validation of a training.

    Args:
        task: task of the models.
        ranges: lowest and highest level of each model.

    Returns:
        The benchmark levels within any of the ranges; without one, the highest of each range.
    """
    levels = [float(level) for level in task.benchmark_levels]
    covered = [n for n in levels if any(low <= n <= high for low, high in ranges)]
    return covered or sorted({high for _, high in ranges})


def _find_test_sets(
    arguments: argparse.Namespace, task: Task, training: TrainingRun | None
) -> tuple[list[BenchmarkSet], list[str]]:
    """Return the test sets and remarks on them for the title of the table.

    Raises:
        VHeatIRError: a folder has no images, or a network that was trained on pairs has no pairs.
    """
    remarks: list[str] = []
    if arguments.data is not None:
        test_sets = find_test_sets(arguments.data, task)
    elif task.kind == "pairs":
        test_sets = training.open_pairs(task) if training is not None else []
    else:
        use_bundled = training is not None and training.is_bundled
        folder = None if use_bundled else default_data_folder()
        test_sets = find_test_sets(folder, task) if folder is not None else []
        if not test_sets:
            test_sets = [bundled_test_set()]
            missing = f" ({', '.join(task.benchmark_sets)} not found)" if not use_bundled else ""
            remarks = [f"on photographs bundled with scikit-image{missing}"]
    unpaired = [test_set.name for test_set in test_sets if not test_set.is_paired]
    if task.kind == "pairs" and (unpaired or not test_sets):
        raise VHeatIRError(
            "a network that was trained on pairs is tested on pairs: give --data FOLDER with the "
            "folders noisy and clean, or -opt FILE with a paired validation set"
        )
    if task.kind == "photo" and unpaired:
        where = f" (on {', '.join(unpaired)})" if len(unpaired) < len(test_sets) else ""
        remarks.append(f"with synthetic degradation: camera noise and JPEG{where}")
    for each in test_sets:
        _, whole = COLUMNS.get((task.name, each.name), ((), len(each)))
        if len(each) != whole:
            remarks.append(f"{each.name} has {len(each)} of its {whole} images")
    if arguments.limit is not None and any(len(each) > arguments.limit for each in test_sets):
        some = "image" if arguments.limit == 1 else f"{arguments.limit} images"
        remarks.append(f"only the first {some} of each test set")
    return [test_set.first(arguments.limit) for test_set in test_sets], remarks


def _footer(arguments: argparse.Namespace) -> str:
    device = pick_device(arguments.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return (
        f"Measured by vheatir {__version__}, PyTorch {torch.__version__}, on {device.type} "
        f"({name}{threads}). Seconds per image are restoration time only, in float32."
    )


def _slug(name: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", name).strip("_")
