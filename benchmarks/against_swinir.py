"""Train vHeatIR and SwinIR side by side, reproducing figure 6 of the vHeatIR paper.

    python benchmarks/against_swinir.py --size light --iterations 15000 --data datasets/BSD500

Both networks (the flat vHeatIR with the paper's operator, and BasicSR's SwinIR with the same
channels, depths, MLP ratio and pixel-unshuffle) are trained one after the other by the same loop
with the same data, seed, schedule and iterations. Writes both PSNR curves over iterations and over
seconds, the same crops side by side, and the numbers as JSON. It can be interrupted: the same
command resumes.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import json
import os
import subprocess
from collections.abc import Sequence
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import GRID, SIZES, check_parameters
from benchmarks.report import environment
from benchmarks.swinir import HEADS, register
from benchmarks.trainings import resolve_roots, training_options
from vheatir.archs import VHeatIR, build_network
from vheatir.bundled import heldout_photographs
from vheatir.cli import run_entry_point
from vheatir.colors import to_color_mode
from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.hardware import pick_device
from vheatir.image_io import write_bytes_atomically, write_image
from vheatir.inference.tiled import restore_tensor
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import Task, get_task
from vheatir.weights import load_weights

ROOT = Path(__file__).resolve().parents[1]
#: (photograph, top, left) of the crops; held out from training.
CROPS = (("chelsea", 60, 150), ("coffee", 120, 260))
CROP = 192


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python benchmarks/against_swinir.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
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


def train(options: argparse.Namespace, task: Task, configs: dict[str, dict[str, Any]]) -> None:
    """Train both networks in turn; finished trainings are skipped.

    Raises:
        VHeatIRError: a training failed, or the folder contains one with other settings.
    """
    folder = options.out / "options"
    folder.mkdir(parents=True, exist_ok=True)
    for name, config in configs.items():
        file = folder / f"{name}.yml"
        text = yaml.safe_dump(option_file(options, task, config), sort_keys=False)
        if file.is_file() and file.read_text() != text:
            raise VHeatIRError(
                f"{options.out} contains trainings with other settings (see {file}): "
                "give another --out, or remove it"
            )
        write_bytes_atomically(file, text.encode())
        if not weights(options, name).is_file():
            command = [sys.executable, "-m", "benchmarks.swinir", "-opt", str(file.resolve())]
            environ = {**os.environ, "PYTHONPATH": str(ROOT)}
            status = subprocess.run([*command, "--auto_resume"], cwd=ROOT, env=environ).returncode
            if status:
                raise VHeatIRError(
                    f"the training of {name} failed with status {status} (see its output above); "
                    "the same command resumes it"
                )


def weights(options: argparse.Namespace, name: str) -> Path:
    """Return the weights file that a finished training writes."""
    return Path(options.out / "runs" / name / "models" / f"{name}.safetensors")


def curves(options: argparse.Namespace, name: str) -> list[dict[str, float]]:
    """Return iteration, seconds and PSNR of each validation."""
    file = options.out / "runs" / name / "results" / "history.json"
    points = []
    for iteration, minutes, scores in json.loads(file.read_text())["scores"]:
        values = {key.split()[0]: score["psnr"] for key, score in scores.items()}
        points.append({"iteration": iteration, "seconds": 60 * minutes, **values})
    return points


def draw(found: dict[str, list[dict[str, float]]], path: Path, title: str) -> None:
    """Draw PSNR over iterations and over seconds."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4.2), layout="constrained", sharey=True)
    for axis, quantity in zip(axes, ("iteration", "seconds"), strict=True):
        for name, points in found.items():
            for data in sorted(points[0].keys() - {"iteration", "seconds"}):
                line = ([p[quantity] for p in points], [p[data] for p in points])
                axis.plot(*line, marker=".", label=f"{name}, {data}")
        axis.set(xlabel=quantity)
        axis.grid(alpha=0.3)
    axes[0].set(ylabel="PSNR [dB]")
    axes[0].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def crops(options: argparse.Namespace, task: Task, path: Path) -> dict[str, dict[str, float]]:
    """Draw clean | degraded | vHeatIR | SwinIR; returns the crops' PSNR."""
    restorers = {name: load_weights(weights(options, name)).network for name in NAMES}
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
            restored = _restore(network, degraded)
            found[name][method] = psnr(restored, clean)
            shown.append(restored)
        rows.append(np.concatenate(shown, axis=1))
    write_image(path, np.concatenate(rows))
    return found


def _restore(network: Any, degraded: NDArray[np.float32]) -> NDArray[np.uint8]:
    from vheatir.data.restoration_dataset import to_tensor

    planes = restore_tensor(network, to_tensor(degraded)[None])[0].numpy()
    return to_uint8(planes[0] if degraded.ndim == 2 else planes.transpose(1, 2, 0))


NAMES = ("vheatir", "swinir")


def run(options: argparse.Namespace) -> int:
    """Train, compare, and write the files."""
    console = Console()
    task = get_task(options.task)
    options.device = str(pick_device(options.device))
    configs = networks(options.size, task)
    train(options, task, configs)
    found = {name: curves(options, name) for name in NAMES}
    title = f"{options.size}, {task.name}, level {options.level:g}, {options.iterations} iterations"
    draw(found, options.out / "curves.png", title)
    found_crops = crops(options, task, options.out / "crops.png")
    content = {
        "environment": environment(options.device),
        "settings": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in vars(options).items()
            if key not in ("out", "data", "test_set")
        },
        "networks": configs,
        "curves": found,
        "crops": found_crops,
    }
    target = options.out / "against_swinir.json"
    write_bytes_atomically(target, (json.dumps(content, indent=1) + "\n").encode())
    table = Table("iteration", "vHeatIR: seconds", "PSNR", "SwinIR: seconds", "PSNR", title=title)
    for ours, theirs in zip(*found.values(), strict=True):
        cells = [f"{p[key]:.{d}f}" for p in (ours, theirs)
                 for key, d in (("seconds", 0), ("validation", 3))]  # fmt: skip
        table.add_row(str(ours["iteration"]), *cells)
    console.print(table)
    for file in (target, options.out / "curves.png", options.out / "crops.png"):
        console.print(f"written: {file}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = parse(arguments)
    kept = "progress is saved; the same command resumes"
    return run_entry_point(lambda: run(options), kept, "train")


if __name__ == "__main__":
    raise SystemExit(main())
