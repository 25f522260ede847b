"""Add trained weights to the zoo, and write the model cards.

``python tools/release.py add EXPORT.safetensors --history history.json --facts facts.yml`` stores
the weights in half precision, if that costs less than 0.005 dB, and adds them to the registry;
``--default`` puts them before the other models of the task.
``python tools/release.py cards --results results/benchmark.json`` regenerates the cards of the
models in these results, with their benchmark tables.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import argparse
import json
import tempfile
from typing import Any

import numpy as np
import torch
import yaml

from vheatir.archs import network_config
from vheatir.bundled import heldout_photographs
from vheatir.cli import run_entry_point
from vheatir.colors import to_color_mode
from vheatir.data.restoration_dataset import to_tensor
from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import format_levels, get_task
from vheatir.weights import LoadedModel, level_range, load_weights, save_weights
from vheatir.zoo import CLEAN_LICENCE, FOLDER, REGISTRY, ModelEntry, list_models

LARGEST_LOSS_DB = 0.005
CURVES = ROOT / "docs" / "results" / "zoo"


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(required=True)
    add = commands.add_parser("add", help="add weights to the zoo")
    add.add_argument("weights", type=Path)
    add.add_argument("--history", type=Path, required=True, help="the run's results/history.json")
    add.add_argument("--facts", type=Path, required=True, help="YAML file with data, hardware etc.")
    add.add_argument("--name", help="name of the model (default: that of the run)")
    add.add_argument("--default", action="store_true", help="make it the default of its task")
    add.set_defaults(run=add_model)
    cards = commands.add_parser("cards", help="write the model cards")
    cards.add_argument("--results", type=Path, nargs="+", required=True, help="benchmark.json")
    cards.set_defaults(run=write_cards)
    arguments = parser.parse_args()
    return run_entry_point(lambda: arguments.run(arguments), "nothing was released", "train")


def add_model(arguments: argparse.Namespace) -> None:
    """Store weights in half precision, and add them to the registry and the facts."""
    facts = _read_facts(arguments.facts)
    history = _read_json(arguments.history)
    clean = facts["licence"].startswith("clean licence:")
    licence = CLEAN_LICENCE if clean else facts["licence"]
    full = load_weights(arguments.weights)
    name, task = arguments.name or full.info["name"], full.info["task"]
    info = {"name": name, **{key: full.info[key] for key in ("task", "level", "training")}}
    path = FOLDER / f"{name}.safetensors"
    # The released file is replaced once nothing can fail any more.
    with tempfile.TemporaryDirectory() as folder:
        draft = save_weights(Path(folder) / path.name, full.network, info, dtype=torch.float16)
        half, data = load_weights(draft), draft.read_bytes()
    loss = bundled_psnr(full) - bundled_psnr(half)
    if loss > LARGEST_LOSS_DB:
        raise VHeatIRError(f"half precision costs {name} {loss:.4f} dB: store it in float32")
    facts["half precision costs"] = f"{loss:.4f} dB on the bundled photographs"
    facts["training"] = info["training"]
    write_bytes_atomically(CURVES / f"{name}.yml", yaml.safe_dump(facts, sort_keys=False).encode())
    plot(name, history)
    entry = ModelEntry(
        name=name,
        task=task,
        network=network_config(half.network)["type"],
        level=only_level(half),
        sha256=half.sha256,
        params=sum(p.numel() for p in half.network.parameters()),
        commercial_use=clean,
        licence=licence,
    )
    entries = with_entry(list_models(), entry, arguments.default)
    text = json.dumps([vars(m) for m in entries], indent=1) + "\n"
    write_bytes_atomically(path, data)
    write_bytes_atomically(REGISTRY, text.encode())
    sys.stdout.write(f"{name}: half precision costs {loss:.4f} dB, {path.stat().st_size} bytes\n")


def _read_facts(path: Path) -> dict[str, Any]:
    try:
        facts = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise VHeatIRError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(facts, dict):
        raise VHeatIRError(f"{path} has no facts: give one a line, such as 'licence: CC0'")
    if not isinstance(facts.get("licence"), str):
        raise VHeatIRError(f"{path} names no licence: add the fact 'licence'")
    return facts


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise VHeatIRError(f"{path} is not valid JSON: {error}") from None


def with_entry(models: list[ModelEntry], new: ModelEntry, is_default: bool) -> list[ModelEntry]:
    """Return the registry with a new or changed model.

    It takes the place of an entry of its name, or else follows the default and the larger models of
    its task; ``is_default`` puts it first.
    """
    names = [m.name for m in models]
    if new.name in names and not is_default:
        return [new if m.name == new.name else m for m in models]
    others = [m for m in models if m.name != new.name]
    own = [m for m in others if m.task == new.task]
    place = 0 if is_default else max(1, sum(m.params >= new.params for m in own))
    own.insert(place, new)
    own.sort(key=lambda m: m.level is not None)
    return sorted([*(m for m in others if m.task != new.task), *own], key=lambda m: m.task)


def only_level(model: LoadedModel) -> float | None:
    """Return the level of a model for a single one, else None."""
    levels = level_range(model.info)
    return levels[0] if levels is not None and levels[0] == levels[1] else None


def bundled_psnr(model: LoadedModel) -> float:
    """Return the mean PSNR on the held-out bundled photographs, over the benchmark levels.

    A model for a single level is measured at that level, and a task without a level once, on its
    synthetic degradation.
    """
    task = get_task(model.info["task"])
    only = only_level(model) if task.has_level else None
    values = []
    for image in heldout_photographs().values():
        clean = to_color_mode(image, task.color)
        levels = task.benchmark_levels or (None,)
        for level in levels if only is None else (only,):
            x = to_tensor(degrade_for_benchmark(clean, task, level))[None]
            takes_level = level is not None and model.network.takes_level
            with torch.no_grad():
                y = model.network(x, float(level) if takes_level else None)[0]
            restored = y[0] if clean.ndim == 2 else y.permute(1, 2, 0)
            values.append(psnr(to_uint8(restored.numpy()), clean))
    return float(np.mean(values))


def plot(name: str, history: dict[str, Any]) -> None:
    """Plot the loss and the validation PSNR of a run."""
    from vheatir.training.report import draw_curves

    draw_curves(CURVES / f"{name}.png", name, history["losses"], history["scores"])


def write_cards(arguments: argparse.Namespace) -> None:
    """Write the card of every model in the results."""
    records = [r for path in arguments.results for r in _read_json(path)]
    measured = {(r["task"], r["method"]) for r in records}
    for entry in list_models():
        if (entry.task, entry.label) in measured:
            write_bytes_atomically(entry.card, card(entry, records).encode())


def card(entry: ModelEntry, records: list[dict[str, Any]]) -> str:
    """Return a model card as Markdown."""
    facts = yaml.safe_load((CURVES / f"{entry.name}.yml").read_text())
    training = facts.pop("training")
    task = get_task(entry.task)
    model = load_weights(entry.path)
    config = network_config(model.network)
    own = [r for r in records if r["task"] == entry.task and r["method"] == entry.label]
    inputs = {
        (r["dataset"], r["level"]): r
        for r in records
        if r["task"] == entry.task and r["method"] == "degraded"
    }
    levels = format_levels(level_range(model.info))
    level = f", {task.level_name} {levels}" if task.has_level else ""
    columns = [*([task.level_name] if task.has_level else []), "input PSNR", "PSNR", "SSIM"]
    lines = [
        f"# {entry.name}",
        "",
        f"{task.title[0].upper()}{task.title[1:]}{level}; {entry.params / 1e6:.2f} M parameters.",
        "",
        f"| data set | {' | '.join(columns)} |",
        "|---" * (len(columns) + 1) + "|",
    ]
    for r in own:
        before = inputs.get((r["dataset"], r["level"]), {}).get("psnr", float("nan"))
        values = [f"{before:.2f}", f"{r['psnr']:.2f}", f"{r['ssim']:.4f}"]
        if task.has_level:
            values.insert(0, f"{r['level']:g}")
        lines.append(f"| {r['dataset']} | {' | '.join(values)} |")
    lines += [
        "",
        "Made with `python vheatir/test.py`; conventions as printed there.",
        "",
        "## Training",
        "",
        f"- {training['iterations']} iterations, {training['samples']} crops, {work(training)}, "
        f"seed {training['seed']}",
        f"- commercial use: {'yes' if entry.commercial_use else 'no'}",
        *(f"- {key}: {value}" for key, value in facts.items()),
        f"- curve: [docs/results/zoo/{entry.name}.png](../../docs/results/zoo/{entry.name}.png)",
        "",
        "## Network",
        "",
        "```json",
        json.dumps(config),
        "```",
        "",
        f"SHA-256 `{entry.sha256}`",
        "",
    ]
    return "\n".join(lines)


def work(training: dict[str, Any]) -> str:
    """Return what a training took; earlier ones have not recorded pixels and processor time."""
    minutes = f"{training['minutes']:.1f} minutes"
    if "pixels" not in training:
        return minutes
    hours = f"{training['processor_hours']:.1f} processor hours"
    return f"{training['pixels'] / 1e9:.2f} gigapixels, {hours} ({minutes})"


if __name__ == "__main__":
    sys.exit(main())
