"""Find the widths at which the networks of the study take the present one's inference time.

    python studies/networks/widths.py

For each network of study_*.yml, it is the largest width (the same at every scale) at which an image
takes at most 5 % longer than with the present network. Both are timed in turns, and the median of
the ratios of one round counts; processor time, on one thread. Time does not grow evenly with width:
multiples of 16 are faster than their neighbours. The widths go into the option files.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONFIG, Case, parameters, prepare
from benchmarks.measure import count_macs, timed_on_processor
from benchmarks.report import environment
from vheatir.cli import run_entry_point
from vheatir.image_io import write_bytes_atomically
from vheatir.training.options import load_options

HERE = Path(__file__).resolve().parent
PRESENT = "study_present"
LARGEST_RATIO = 1.05
FILES = {path.stem: path for path in sorted(HERE.glob("study_*.yml"))}
#: Module that registers the networks of the study.
PLUGINS = "studies.networks.nafnet"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python studies/networks/widths.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--side", type=int, default=512, help="side of the image in pixels")
    add("--rounds", type=int, default=7, help="timed rounds of each comparison")
    add("--dtype", default="float32", help="float32 or bfloat16 (autocast)")
    add("--widths", type=int, nargs="+", default=range(40, 97, 8), help="widths to try")
    add("--out", type=Path, default=Path("results/networks"), help="folder for widths.json")
    return parser.parse_args(arguments)


def configuration(name: str, width: int | None = None) -> dict[str, Any]:
    """Return the network of an option file of the study.

    Args:
        name: key of :data:`FILES`.
        width: channels of every scale; None for those of the file.
    """
    config = load_options(FILES[name]).network_g.config()
    return config if width is None else {**config, "channels": [width] * len(config["channels"])}


def prepared(config: dict[str, Any], options: argparse.Namespace) -> tuple[Any, Callable[[], None]]:
    """Return a network, and a function that runs it once on an image."""
    method = f"{CONFIG}{PLUGINS}:{json.dumps(config)}"
    return prepare(Case(method, "-", options.side, options.side, dtype=options.dtype))


def ratio(work: Callable[[], None], reference: Callable[[], None], rounds: int) -> float:
    """Return the median ratio of two processor times, measured in turns after a warm-up."""
    work(), reference()
    return median(timed_on_processor(work) / timed_on_processor(reference) for _ in range(rounds))


def equal_width(ratios: Mapping[int, float]) -> int:
    """Return the largest width that takes at most 5 % longer; the smallest if none does.

    Args:
        ratios: time of each width over that of the present network.
    """
    return max((w for w, value in ratios.items() if value <= LARGEST_RATIO), default=min(ratios))


def run(options: argparse.Namespace) -> int:
    """Search, print and write the widths; returns the exit status."""
    console = Console() if Console().is_terminal else Console(width=200)
    _, reference = prepared(configuration(PRESENT), options)
    rows: dict[str, dict[str, Any]] = {}
    for name in FILES:
        ratios: dict[int, float] = {}
        for width in options.widths if name != PRESENT else ():
            _, work = prepared(configuration(name, width), options)
            ratios[width] = ratio(work, reference, options.rounds)
            console.print(f"{name}, width {width}: {ratios[width]:.3f} times the present time")
        width = equal_width(ratios) if ratios else configuration(name)["channels"][0]
        network, work = prepared(configuration(name, width), options)
        rows[name] = {
            "channels": configuration(name, width)["channels"],
            "in_the_file": configuration(name)["channels"],
            "parameters": parameters(network),
            "macs": count_macs(work),
            "ratios": ratios,
            "ratio": ratio(work, reference, options.rounds),
            "seconds": median(timed_on_processor(work) for _ in range(options.rounds)),
        }
    content = {
        "environment": environment("cpu"),
        "settings": {"side": options.side, "rounds": options.rounds, "dtype": options.dtype},
        "networks": rows,
    }
    target = options.out / "widths.json"
    write_bytes_atomically(target, (json.dumps(content, indent=1) + "\n").encode())
    title = f"{options.side}x{options.side} pixels, {options.dtype}, one thread"
    table = Table(
        "network", "channels", "in the file", "parameters", "multiply-adds", "seconds", "ratio",
        title=title,
    )  # fmt: skip
    for name, row in rows.items():
        channels, current = ("-".join(map(str, row[k])) for k in ("channels", "in_the_file"))
        numbers = (f"{row['parameters'] / 1e6:.2f} M", f"{row['macs'] / 1e9:.1f} G")
        times = (f"{row['seconds']:.3f}", f"{row['ratio']:.3f}")
        table.add_row(name, channels, current, *numbers, *times)
    console.print(table)
    console.print(f"written: {target}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    torch.set_num_threads(1)
    options = parse(arguments)
    return run_entry_point(lambda: run(options), "nothing is kept", "train")


if __name__ == "__main__":
    raise SystemExit(main())
