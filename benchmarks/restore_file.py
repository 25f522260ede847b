"""Profile ``vheatir restore IMG.jpg -o out.jpg`` on one large photograph.

``python benchmarks/restore_file.py`` makes a JPEG of twelve megapixels from bundled photographs
with camera noise, times each step of its restoration (reading, choosing, comparing the results of
two models, network, strength, encoding), and runs the whole command, by Automatic, in a subprocess
to measure its peak memory. Shares are of the sum with JPEG output and a changed strength. The
network is that of one model; Automatic may run two.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import argparse
import json
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from vheatir import Restorer
from vheatir.bundled import training_photographs
from vheatir.cli import run_entry_point
from vheatir.degradations import CameraNoise, add_camera_noise, jpeg_bytes
from vheatir.image_io import write_bytes_atomically
from vheatir.inference.choose import choose_model
from vheatir.inference.files import encode_photograph, read_photograph_file
from vheatir.inference.restorer import compare_models
from vheatir.inference.strength import apply_strength
from vheatir.metrics import to_uint8

HEIGHT, WIDTH = 3000, 4000


def make_photograph(path: Path) -> None:
    """Write a JPEG of quality 92: photographs side by side, with camera noise."""
    tile = training_photographs()["astronaut"]
    image = np.tile(tile, (HEIGHT // tile.shape[0] + 1, WIDTH // tile.shape[1] + 1, 1))
    rng = np.random.default_rng(0)
    camera = CameraNoise.draw(rng, luma_std=4.0)
    noisy = add_camera_noise(
        image[:HEIGHT, :WIDTH].astype(np.float32) / np.float32(255), camera, rng
    )
    path.write_bytes(jpeg_bytes(to_uint8(noisy), 92))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="photo_small_clean")
    parser.add_argument("--out", type=Path, default=Path("results/restore_file"))
    arguments = parser.parse_args(argv)
    return run_entry_point(lambda: _run(arguments), "nothing was written")


def _run(arguments: argparse.Namespace) -> int:
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], Any]) -> Any:
        began = time.perf_counter()
        result = step()
        seconds[name] = time.perf_counter() - began
        return result

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "photo.jpg"
        make_photograph(source)
        restorer = timed("load model (apart)", lambda: Restorer(arguments.model, "cpu"))
        compared = {"photo": restorer, "jpeg_color": Restorer("jpeg_color", "cpu")}
        photo = timed("read JPEG", lambda: read_photograph_file(source))
        choice = timed("choose", lambda: choose_model(photo.pixels, photo.quality))
        choice = timed(
            "compare", lambda: compare_models(choice, compared.__getitem__, photo.pixels)
        )
        result = timed("network", lambda: restorer.restore_detailed(photo.pixels))
        changed = timed("strength 80", lambda: apply_strength(photo.pixels, result.image, 80, 80))
        timed("write JPEG", lambda: encode_photograph(changed, "jpg", photo.metadata))
        timed("write PNG (apart)", lambda: encode_photograph(changed, "png", photo.metadata))
        command = [sys.executable, "-m", "vheatir.cli", "restore", str(source), "-o"]
        command += [str(Path(folder) / "out.jpg"), "--device", "cpu"]
        paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": paths})
        peak = max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    total = sum(value for name, value in seconds.items() if "apart" not in name)
    table = Table(title=f"{WIDTH} x {HEIGHT}, {arguments.model}, {torch.get_num_threads()} threads")
    table.add_column("step")
    table.add_column("seconds", justify="right")
    table.add_column("share", justify="right")
    for name, value in seconds.items():
        share = "" if "apart" in name else f"{100 * value / total:.1f} %"
        table.add_row(name, f"{value:.2f}", share)
    console = Console()
    console.print(table)
    others = 1 - seconds["network"] / total
    console.print(f"all but the network: {100 * others:.1f} %; found: {choice.message}")
    console.print(f"peak memory of the whole command: {peak / 1e6:.2f} GB")
    report = {"seconds": seconds, "share_of_the_rest": others, "peak_gigabytes": peak / 1e6}
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1) + "\n"
    write_bytes_atomically(arguments.out / "restore_file.json", text.encode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
