"""Report of the mixer study: records, tables, curves, impulse responses, receptive fields."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from rich import box
from rich.table import Table
from torch import Tensor, nn

from benchmarks.trainings import split
from studies.heat.candidates import Candidate
from studies.heat.measure import (
    FIELD_SIDE,
    gradient_energy,
    impulse_response,
    receptive_field,
)
from studies.heat.runs import Level, Study, Training, level_text
from vheatir.data.restoration_dataset import to_tensor
from vheatir.data.sources import ImageSource
from vheatir.degradations import degrade_for_benchmark
from vheatir.training.paths import resolve_list
from vheatir.weights import load_weights

Record = dict[str, Any]
_FIELD_IMAGES = 4


def records(
    study: Study,
    chosen: Sequence[Candidate],
    plan: Sequence[Training],
    rates: dict[str, float],
    costs: dict[str, dict[str, Any]],
) -> list[Record]:
    """Return one record for each candidate, level and seed with a finished training."""
    found: dict[tuple[str, Level, int], Record] = {}
    by_key = {candidate.key: candidate for candidate in chosen}
    for training in plan:
        scores = final_scores(study, training)
        if not scores:
            continue
        key, cost = training.candidate.key, costs.get(training.candidate.key, {})
        record = found.setdefault(
            (key, training.level, training.seed),
            {
                "shape": by_key[key].shape,
                "mixer": by_key[key].mixer,
                "level": training.level,
                "seed": training.seed,
                "psnr_equal_time": None,
                "psnr_equal_iterations": None,
                "test_equal_time": None,
                "test_equal_iterations": None,
                "iterations_equal_time": None,
                "iterations_per_second": rates[key],
                "receptive_field": None,
                **cost,
            },
        )
        record[f"psnr_equal_{training.kind}"] = scores.get("validation")
        record[f"test_equal_{training.kind}"] = scores.get("test")
        if training.kind == "time":
            record["iterations_equal_time"] = training.iterations
        if training.kind == "time" or record["receptive_field"] is None:
            record["receptive_field"] = _field(study, training)[0]
    return list(found.values())


def final_scores(study: Study, training: Training) -> dict[str, float]:
    """Return the PSNR of a training by data set, ``{}`` if it has not finished."""
    history = training.history(study)
    if not history:
        return {}
    return _mean_over_levels(history["scores"][-1][2])


def _mean_over_levels(scores: dict[str, dict[str, float]]) -> dict[str, float]:
    """Return the PSNR by data set; for a range, the mean over the measured levels."""
    found: dict[str, list[float]] = defaultdict(list)
    for name, value in scores.items():
        found[name.split()[0]].append(value["psnr"])
    return {name: mean(values) for name, values in found.items()}


def curves(study: Study, plan: Sequence[Training]) -> list[Record]:
    """Return the validation curves of the equal-time trainings, else of all finished ones."""
    lines = []
    for training in _preferred(study, plan):
        points = [
            [iteration, _mean_over_levels(scores)["validation"]]
            for iteration, _, scores in training.history(study)["scores"]
        ]
        candidate = training.candidate
        lines.append(
            {
                "shape": candidate.shape,
                "mixer": candidate.mixer,
                "level": training.level,
                "seed": training.seed,
                "kind": training.kind,
                "points": points,
            }
        )
    return lines


def _preferred(study: Study, plan: Sequence[Training]) -> list[Training]:
    finished = [training for training in plan if training.finished(study)]
    timed = [training for training in finished if training.kind == "time"]
    return timed or finished


# --- tables --------------------------------------------------------------------------------------

_COLUMNS = {
    "psnr_equal_time": ("equal time", ".3f", 1.0),
    "spread": ("spread", ".3f", 1.0),
    "test_equal_time": ("test set", ".3f", 1.0),
    "psnr_equal_iterations": ("equal iterations", ".3f", 1.0),
    "iterations_per_second": ("it/s", ".1f", 1.0),
    "params": ("M params", ".3f", 1e-6),
    "macs": ("GMACs", ".2f", 1e-9),
    "seconds_256": ("s 256", ".3f", 1.0),
    "seconds_768": ("s 768", ".3f", 1.0),
    "peak_bytes_768": ("MB 768", ".0f", 1e-6),
    "receptive_field": ("radius 90 %", ".0f", 1.0),
}
_QUALITIES = 4  # the first columns are quality, the others cost


def rows(found: Sequence[Record]) -> list[tuple[str, Level, int, dict[str, float | None]]]:
    """Return (name, level, seeds, values) with seeds averaged, best at each level first.

    ``spread`` is the largest minus the smallest equal-time PSNR over the seeds.
    """
    groups: dict[tuple[str, Level], list[Record]] = defaultdict(list)
    for record in found:
        groups[f"{record['shape']}/{record['mixer']}", record["level"]].append(record)
    result = []
    for (name, level), group in groups.items():
        values: dict[str, float | None] = {}
        for column in _COLUMNS:
            numbers = [r[column] for r in group if r.get(column) is not None]
            values[column] = mean(numbers) if numbers else None
        timed = [r["psnr_equal_time"] for r in group if r["psnr_equal_time"] is not None]
        values["spread"] = max(timed) - min(timed) if len(timed) > 1 else None
        result.append((name, level, len(group), values))

    def order(row: tuple[str, Level, int, dict[str, float | None]]) -> tuple[float, float, float]:
        values = row[3]
        return (
            _ends(row[1])[1],
            -(values["psnr_equal_time"] or 0),
            -(values["psnr_equal_iterations"] or 0),
        )

    return sorted(result, key=order)


def _cells(values: dict[str, float | None], columns: Sequence[str]) -> list[str]:
    cells = []
    for column in columns:
        _, style, scale = _COLUMNS[column]
        value = values[column]
        cells.append("-" if value is None else format(value * scale, style))
    return cells


def tables(found: Sequence[Record]) -> list[Table]:
    """Return the tables to print: quality, and cost."""
    names = list(_COLUMNS)
    titles = {
        "PSNR in dB on the validation split, mean of seeds": names[:_QUALITIES],
        "Cost and receptive field": names[_QUALITIES:],
    }
    found_rows = rows(found)
    shown = []
    for title, columns in titles.items():
        table = Table(title=title, box=box.SIMPLE, collapse_padding=True)
        table.add_column("network", no_wrap=True)
        table.add_column("level")
        for column in columns:
            table.add_column(_COLUMNS[column][0], justify="right")
        last = None
        for name, level, _, values in found_rows:
            if last is not None and level != last:
                table.add_section()
            table.add_row(name, level_text(level), *_cells(values, columns))
            last = level
        shown.append(table)
    return shown


def markdown(found: Sequence[Record]) -> str:
    """Return both tables as one Markdown table."""
    header = ["network", "level", "seeds", *(name for name, _, _ in _COLUMNS.values())]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for name, level, seeds, values in rows(found):
        lines.append(
            f"| {name} | {level_text(level)} | {seeds} | "
            + " | ".join(_cells(values, list(_COLUMNS)))
            + " |"
        )
    return "\n".join(lines) + "\n"


# --- figures -------------------------------------------------------------------------------------


def figures(study: Study, chosen: Sequence[Candidate], plan: Sequence[Training]) -> list[Path]:
    """Draw curves, impulse responses and receptive fields; returns the files."""
    trained = _preferred(study, plan)
    if not trained:
        return []
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    written = []
    levels = sorted({training.level for training in trained}, key=_ends)
    figure, axes = pyplot.subplots(
        1, len(levels), figsize=(7 * len(levels), 5), layout="constrained", squeeze=False
    )
    for axis, level in zip(axes[0], levels, strict=True):
        axis.set_prop_cycle(color=pyplot.get_cmap("tab20").colors)
        for line in curves(study, plan):
            if line["level"] == level and line["seed"] == study.seeds[0]:
                name = f"{line['shape']}/{line['mixer']}"
                axis.plot(*zip(*line["points"], strict=True), marker=".", lw=1, label=name)
        axis.set(
            title=f"level {level_text(level)}", xlabel="iterations", ylabel="validation PSNR, dB"
        )
        axis.set_xscale("log")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, ncols=2)
    written.append(study.out / "curves.png")
    figure.savefig(written[-1], dpi=110)
    pyplot.close(figure)

    shown = [t for t in trained if t.level == levels[-1] and t.seed == study.seeds[0]]
    columns = min(6, len(shown))
    lines = -(-len(shown) // columns)
    for kind, title in ((0, "receptive fields"), (1, "impulse responses")):
        figure, axes = pyplot.subplots(
            lines, columns, figsize=(2.3 * columns, 2.5 * lines), layout="constrained",
            squeeze=False,
        )  # fmt: skip
        for axis in axes.flat:
            axis.axis("off")
        for axis, training in zip(axes.flat, shown, strict=False):
            radius, energy, response = _field(study, training)
            shown_map = (energy, response**2)[kind]
            decades = np.log10(shown_map / shown_map.max() + 1e-12)
            axis.imshow(decades, vmin=-9, vmax=0, cmap="inferno")
            axis.set_title(f"{training.candidate.name}\nradius {radius:.0f}", fontsize=8)
        figure.suptitle(f"{title}, {FIELD_SIDE}x{FIELD_SIDE}, energy, nine decades")
        written.append(study.out / f"{title.replace(' ', '_')}.png")
        figure.savefig(written[-1], dpi=110)
        pyplot.close(figure)
    return written


_fields: dict[Path, tuple[float, Any, Any]] = {}


def _field(study: Study, training: Training) -> tuple[float, Any, Any]:
    """Return the radius, the gradient energy and the impulse response of trained weights."""
    path = training.weights(study)
    if path not in _fields:
        network = _AtLevel(load_weights(path).network, training.level)
        images = _field_images(study, training.level)
        energy = gradient_energy(network, images)
        _fields[path] = receptive_field(energy), energy, impulse_response(network, images[0])
    return _fields[path]


def _ends(level: Level) -> tuple[float, float]:
    return level if isinstance(level, tuple) else (level, level)


class _AtLevel(nn.Module):
    """A network at its highest trained level, passed to it if it takes a level."""

    def __init__(self, network: nn.Module, level: Level) -> None:
        super().__init__()
        self.network = network
        self.extra = (_ends(level)[1],) if network.takes_level else ()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x, *self.extra)


def _field_images(study: Study, level: Level) -> list[Tensor]:
    """Return degraded crops from the large enough images of the validation split."""
    _, validation = split(study.roots)
    include = [str(resolve_list(validation["include"]))] if "include" in validation else []
    every = validation.get("holdout_every")
    color = study.task.color
    source = ImageSource(study.roots, color, include=include, holdout_every=every, heldout=True)
    images = []
    for index in range(len(source)):
        if min(source.size(index)) < FIELD_SIDE:
            continue
        clean = source[index][:FIELD_SIDE, :FIELD_SIDE]
        images.append(to_tensor(degrade_for_benchmark(clean, study.task, _ends(level)[1]))[None])
        if len(images) == _FIELD_IMAGES:
            break
    return images
