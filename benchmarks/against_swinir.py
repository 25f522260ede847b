"""Train vHeatIR and SwinIR side by side, reproducing figure 6 of the vHeatIR paper.

    python benchmarks/against_swinir.py --size light --iterations 15000 --data datasets/BSD500

Both networks (the flat vHeatIR with the paper's operator, and BasicSR's SwinIR with the same
channels, depths, MLP ratio and pixel-unshuffle) are trained one after the other by the same loop
with the same data, seed, schedule and iterations. Then both PSNR curves are drawn over iterations
and over seconds (on a CPU the processor's, without validation), and the same crops side by side;
the numbers are written as JSON and as a Markdown table.

Each network can be trained by itself, on one core; ``report`` compares them, also before the
trainings are finished:

    OMP_NUM_THREADS=1 nice -n 19 python benchmarks/against_swinir.py vheatir OPTIONS
    OMP_NUM_THREADS=1 nice -n 19 python benchmarks/against_swinir.py swinir OPTIONS
    python benchmarks/against_swinir.py report OPTIONS

All of it can be interrupted: the same command resumes, and the seconds add up.

After trainings on a GPU, where networks of this size wait for the launch of their kernels,
``report --measure`` takes for the seconds those of a CPU: iterations times the processor time of
one, which is measured for both networks in turns.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import yaml
from rich.console import Console

from benchmarks.contenders import GRID, SIZES, check_parameters, parameters, training_case
from benchmarks.measure import count_macs, processor_seconds
from benchmarks.report import environment
from benchmarks.swinir import HEADS, register
from benchmarks.trainings import resolve_roots, training_options
from vheatir.archs import VHeatIR, build_network
from vheatir.bundled import heldout_photographs
from vheatir.cli import run_entry_point
from vheatir.colors import to_color_mode
from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.evaluation.methods import network_restorer
from vheatir.hardware import pick_device
from vheatir.image_io import write_bytes_atomically, write_image
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import Task, get_task
from vheatir.weights import load_weights

NAMES = ("vheatir", "swinir")
LABELS = {"vheatir": "vHeatIR", "swinir": "SwinIR"}
STEPS = ("all", *NAMES, "report")
#: (photograph, top, left) of the crops; held out from training.
CROPS = (("chelsea", 60, 150), ("coffee", 120, 260))
CROP = 192


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/against_swinir.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add(
        "step",
        nargs="?",
        choices=STEPS,
        default="all",
        help="train one network, or report the results so far (default: train both, and report)",
    )
    add("--task", default="denoise_color", help="task of both networks")
    add("--level", type=float, default=15.0, help="sigma or JPEG quality")
    add("--size", choices=list(SIZES), default="mini", help="channels, depths and MLP ratio")
    add("--iterations", type=int, default=2000, help="iterations of each training")
    add("--validations", type=int, default=10, help="validations per training")
    add("--data", default="bundled", help="folders of photographs, comma-separated, or 'bundled'")
    add("--test-set", type=Path, help="folder to measure besides the validation split")
    add("--crop", type=int, default=64, help="side of the training crops")
    add("--batch", type=int, default=8, help="crops per iteration")
    add("--rate", type=float, default=5e-4, help="peak learning rate")
    add("--seed", type=int, default=0, help="seed of weights and data")
    add("--device", default="auto", help="auto, cpu, cuda")
    add("--out", type=Path, default=Path("results/against_swinir"), help="output folder")
    add("--measure", action="store_true", help="measure the processor time of an iteration")
    add("--rounds", type=int, default=7, help="timed rounds of --measure")
    return parser.parse_args(arguments)


def networks(size: str, task: Task) -> dict[str, dict[str, Any]]:
    """Return both configurations.

    Raises:
        VHeatIRError: their parameter counts differ by more than 5 %.
    """
    shape = {**VHeatIR.SIZES[size], "in_chans": task.channels}
    ours = {"type": "VHeatIR", **shape, "mixer": "hco", "fve_size": GRID[size]}
    theirs = {"type": "SwinIR", **shape, "heads": HEADS[size]}
    register()
    check_parameters(build_network(ours), build_network(theirs))
    return {"vheatir": ours, "swinir": theirs}


def option_file(options: argparse.Namespace, task: Task, config: dict[str, Any]) -> dict[str, Any]:
    """Return the option file for training one network."""
    return training_options(
        name=config["type"].lower(),
        task=task,
        level=options.level,
        seed=options.seed,
        device=options.device,
        network=config,
        roots=resolve_roots(options.data),
        validation_limit=8,
        test_set=options.test_set,
        crop=options.crop,
        batch=options.batch,
        workers=0 if options.device == "cpu" else 4,
        rate=options.rate,
        iterations=options.iterations,
        validations=options.validations,
        reports=200,
        metrics=["psnr", "ssim"],
        experiments=(options.out / "runs").resolve(),
        grad_clip=1.0,
        data_on_device=options.device != "cpu" and task.kind == "denoise",
    )


def train(options: argparse.Namespace, task: Task, config: dict[str, Any], name: str) -> int:
    """Train one network; a finished training is skipped.

    Returns:
        The exit status: 0, or 130 or 143 after a signal, when everything is saved.

    Raises:
        VHeatIRError: the training failed, or the folder contains one with other settings.
    """
    from vheatir.train import main as train_main

    folder = options.out / "options"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.yml"
    content = option_file(options, task, config)
    if file.is_file() and _settings(yaml.safe_load(file.read_text())) != _settings(content):
        raise VHeatIRError(
            f"{options.out} contains trainings with other settings (see {file}): "
            "give another --out, or remove it"
        )
    write_bytes_atomically(file, yaml.safe_dump(content, sort_keys=False).encode())
    if weights(options, name).is_file():
        return 0
    status = train_main(["-opt", str(file.resolve()), "--auto_resume"])
    if status in (130, 143):
        # the command that training names does not know SwinIR as it is set up here
        sys.stderr.write("instead, repeat the command of benchmarks/against_swinir.py\n")
    if status not in (0, 130, 143):
        raise VHeatIRError(
            f"the training of {name} failed with status {status} (see its output above); "
            "the same command resumes it"
        )
    return status


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Return what determines a training: not where it is written."""
    return {key: value for key, value in options.items() if key != "path"}


def weights(options: argparse.Namespace, name: str) -> Path:
    """Return the weights file that a finished training writes."""
    return Path(options.out / "runs" / name / "models" / f"{name}.safetensors")


def newest_weights(options: argparse.Namespace, name: str) -> Path:
    """Return the weights of a finished training, else those of its last save."""
    final = weights(options, name)
    return final if final.is_file() else final.with_name("net_g_latest.safetensors")


def curves(options: argparse.Namespace, name: str) -> list[dict[str, float]]:
    """Return iteration, seconds, processor seconds and PSNR of each validation.

    Raises:
        VHeatIRError: the network has not been validated yet, or an earlier release trained it.
    """
    file = options.out / "runs" / name / "results" / "history.json"
    history = json.loads(file.read_text()) if file.is_file() else {"scores": []}
    if not history["scores"]:
        raise VHeatIRError(
            f"{options.out} contains no validation of {name} yet: train it first, with the step "
            f"{name}"
        )
    if len(history.get("work", [])) != len(history["scores"]):
        raise VHeatIRError(
            f"the training of {name} in {options.out} began with an earlier release, which "
            "recorded no processor time: train it anew, with another --out"
        )
    points = []
    for (iteration, minutes, scores), work in zip(history["scores"], history["work"], strict=True):
        values = {key.split()[0]: score["psnr"] for key, score in scores.items()}
        seconds = {"seconds": 60 * minutes, "processor_seconds": work[1]}
        points.append({"iteration": iteration, **seconds, **values})
    return points


def draw(
    found: dict[str, list[dict[str, float]]], path: Path, title: str, seconds: str = "seconds"
) -> None:
    """Draw PSNR over iterations and over seconds.

    Args:
        found: the curves by network, see :func:`curves`.
        path: image file to write.
        title: title of the figure.
        seconds: ``"seconds"`` or ``"processor_seconds"``.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for axis, quantity in zip(axes, ("iteration", seconds), strict=True):
        for name, points in found.items():
            for data in sorted(points[0].keys() - _QUANTITIES):
                line = ([p[quantity] for p in points], [p[data] for p in points])
                axis.plot(*line, marker=".", label=f"{LABELS[name]}, {data}")
        axis.set(xlabel=quantity.replace("_", " "))
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="PSNR [dB]")
    axes[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


_QUANTITIES = {"iteration", "seconds", "processor_seconds"}


def comparison(found: dict[str, list[dict[str, float]]], seconds: str) -> list[str]:
    """Return sentences that compare the validation curves of vHeatIR and SwinIR.

    Between two validations PSNR is interpolated linearly.

    Args:
        found: the curves, see :func:`curves`.
        seconds: ``"seconds"`` or ``"processor_seconds"``.
    """
    ours, theirs = (found[name] for name in NAMES)
    unit = seconds.replace("_", " ")
    lines = []
    for quantity in ("iteration", seconds):
        shared = min(ours[-1][quantity], theirs[-1][quantity])
        first, second = (
            np.interp(shared, [p[quantity] for p in c], [p["validation"] for p in c])
            for c in (ours, theirs)
        )
        name = f"{shared:,.0f} " + ("iterations" if quantity == "iteration" else unit)
        lines.append(
            f"After {name}: vHeatIR {first:.2f} dB, SwinIR {second:.2f} dB, "
            f"difference {first - second:+.2f} dB."
        )
    last = theirs[-1]
    reached = next((p for p in ours if p["validation"] >= last["validation"]), None)
    goal = f"SwinIR's last {last['validation']:.2f} dB (after {last['iteration']:,} iterations and "
    goal += f"{last[seconds]:,.0f} {unit})"
    lines.append(
        f"vHeatIR has not reached {goal}."
        if reached is None
        else f"vHeatIR reached {goal} by the validation after {reached['iteration']:,} iterations "
        f"and {reached[seconds]:,.0f} {unit}."
    )
    return lines


def markdown(found: dict[str, list[dict[str, float]]], seconds: str, lines: list[str]) -> str:
    """Return the validations as a Markdown table, and the sentences of :func:`comparison`."""
    unit = seconds.replace("_", " ")
    table = [
        f"| iteration | vHeatIR: {unit} | PSNR | SwinIR: {unit} | PSNR |",
        "|---|---|---|---|---|",
    ]
    by_iteration = {name: {p["iteration"]: p for p in points} for name, points in found.items()}
    for iteration in sorted(set().union(*by_iteration.values())):
        cells = [str(iteration)]
        for name in NAMES:
            point = by_iteration[name].get(iteration)
            cells += [f"{point[seconds]:.0f}", f"{point['validation']:.2f}"] if point else ["", ""]
        table.append(f"| {' | '.join(cells)} |")
    return "\n".join([*table, "", *lines]) + "\n"


def iteration_seconds(
    configs: dict[str, dict[str, Any]], options: argparse.Namespace
) -> dict[str, float]:
    """Return the processor time of a training iteration of each network, measured in turns.

    An iteration is the forward and backward pass and the step of AdamW, in bfloat16 where the CPU
    multiplies it natively, else in float32.
    """
    cases = {
        name: training_case(config, "benchmarks.swinir", options.crop, options.batch)
        for name, config in configs.items()
    }
    return processor_seconds(cases, "swinir", options.rounds)


def costs(config: dict[str, Any], crop: int) -> dict[str, int]:
    """Return the parameters of a network, and its multiply-adds for one crop."""
    network = build_network(config).eval()
    x = torch.zeros(1, config["in_chans"], crop, crop)
    with torch.inference_mode():
        return {"parameters": parameters(network), "macs": count_macs(lambda: network(x))}


def crops(options: argparse.Namespace, task: Task, path: Path) -> dict[str, dict[str, float]]:
    """Draw clean | degraded | vHeatIR | SwinIR; returns the crops' PSNR."""
    restorers = {name: load_weights(newest_weights(options, name)).network for name in NAMES}
    photographs = heldout_photographs()
    rows, found = [], {}
    for name, top, left in CROPS:
        window = (slice(top, top + CROP), slice(left, left + CROP))
        clean = to_color_mode(photographs[name], task.color)
        degraded = degrade_for_benchmark(clean, task, options.level)[window]
        clean = clean[window]
        shown = [clean, to_uint8(degraded)]
        found[name] = {"degraded": psnr(shown[1], clean)}
        for method, network in restorers.items():
            restored = to_uint8(network_restorer(network, None)(degraded, None))
            found[name][method] = psnr(restored, clean)
            shown.append(restored)
        rows.append(np.concatenate(shown, axis=1))
    write_image(path, np.concatenate(rows))
    return found


def report(options: argparse.Namespace, task: Task, configs: dict[str, dict[str, Any]]) -> None:
    """Compare what has been trained so far, and write the files."""
    console = Console()
    found = {name: curves(options, name) for name in NAMES}
    measured = iteration_seconds(configs, options) if options.measure else None
    seconds = "processor_seconds" if measured or options.device == "cpu" else "seconds"
    if measured is not None:
        for name, points in found.items():
            for point in points:
                point[seconds] = point["iteration"] * measured[name]
    found_costs = {name: costs(configs[name], options.crop) for name in NAMES}
    lines = [
        f"{LABELS[name]}: {cost['parameters']:,} parameters, {cost['macs'] / 1e6:,.0f} M "
        f"multiply-adds for a crop of {options.crop}x{options.crop} pixels."
        for name, cost in found_costs.items()
    ]
    lines += comparison(found, seconds)
    title = f"{options.size}, {task.name}, level {options.level:g}, {options.iterations} iterations"
    draw(found, options.out / "curves.png", title, seconds)
    content = {
        "environment": environment(options.device),
        "settings": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(options).items()
            if key not in ("step", "out", "data", "test_set", "measure", "rounds")
        },
        "networks": configs,
        "costs": found_costs,
        "measured": measured,
        "curves": found,
        "crops": crops(options, task, options.out / "crops.png"),
    }
    target = options.out / "against_swinir.json"
    write_bytes_atomically(target, (json.dumps(content, indent=1) + "\n").encode())
    text = markdown(found, seconds, lines)
    write_bytes_atomically(options.out / "table.md", text.encode())
    console.print(title, text, sep="\n\n", soft_wrap=True)
    for name in ("against_swinir.json", "table.md", "curves.png", "crops.png"):
        console.print(f"written: {options.out / name}")


def run(options: argparse.Namespace) -> int:
    """Train, compare, and write the files; returns the exit status."""
    task = get_task(options.task)
    options.device = str(pick_device(options.device))
    configs = networks(options.size, task)
    for name in NAMES:
        if options.step in ("all", name):
            status = train(options, task, configs[name], name)
            if status:
                return status
    if options.step in ("all", "report"):
        report(options, task, configs)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse(arguments)
    kept = "progress is saved; the same command resumes"
    return run_entry_point(lambda: run(options), kept, "train")


if __name__ == "__main__":
    raise SystemExit(main())
