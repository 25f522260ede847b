"""Row bands on a thread pool against PyTorch's own threading, for one block, interleaved.

``python studies/speed/strips.py`` prints the wall-clock seconds of both and their ratio over
rounds. The switch is ``POOLED`` in ``vheatir/ops/fast/strips.py``. Run it on idle cores only: the
difference is how often threads wait for one another.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import time
from collections.abc import Sequence
from statistics import median

import torch

from benchmarks import report
from benchmarks.contenders import build
from vheatir.ops.fast import strips


def run(options: argparse.Namespace) -> None:
    """Measure and print."""
    if options.threads:
        torch.set_num_threads(options.threads)
    print(f"{torch.get_num_threads()} threads, {options.size}, float32")
    print("image      pooled, s   PyTorch's, s   pool's speed over PyTorch's (median, range)")
    layer = build("heat-block", options.size).eval()
    for side in report.numbers("--sides", options.sides):
        x = torch.randn(1, side, side, layer.dim)
        seconds: dict[bool, list[float]] = {True: [], False: []}
        for number in range(options.repetitions + 1):
            for pooled, times in seconds.items():
                strips.POOLED = pooled
                with torch.inference_mode():
                    start = time.perf_counter()
                    layer(x)
                    if number > 0:  # the first warms up
                        times.append(time.perf_counter() - start)
        ratios = sorted(b / a for a, b in zip(seconds[True], seconds[False], strict=True))
        print(
            f"{side}x{side:<6} {median(seconds[True]):9.4f} {median(seconds[False]):12.4f}"
            f"   {median(ratios):.2f}x, {ratios[0]:.2f} to {ratios[-1]:.2f}"
        )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="light", choices=("base", "light", "mini"))
    parser.add_argument("--sides", default="128,256,512,768,1024")
    parser.add_argument("--threads", type=int, help="CPU threads (default: PyTorch's)")
    parser.add_argument("--repetitions", type=int, default=9)
    options = parser.parse_args(arguments)
    return report.exit_status(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
