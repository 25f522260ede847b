"""Compare vHeatIR with SwinIR, and with its own variant with the paper's dense transform.

``python benchmarks/compare.py --size light --sizes 128,256,512 --out results/compare`` prints two
tables (whole networks; the operator alone against one Swin layer) and writes ``compare.json`` and
``compare.png``. ``--released`` measures the released models at one megapixel instead.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import torch
from rich.console import Console

from benchmarks import report
from benchmarks.contenders import (
    AUTO,
    COMPILE_MODES,
    DTYPES,
    LAYERS,
    MODES,
    NETWORKS,
    RELEASED,
    SIZES,
    WINDOW,
    Case,
    build,
    check_parameters,
    choose_dtype,
)
from benchmarks.measure import Result, interleaved
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.hardware import pick_device

RELEASED_MODELS = ("denoise_color_medium", "denoise_gray_small")


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ... (default: auto)")
    add("--dtype", default="float32", choices=(AUTO, *DTYPES), help="bfloat16 is autocast")
    add("--size", default="light", choices=SIZES)
    add("--sizes", default="128,256,512,768,1024", help="sides, or HEIGHTxWIDTH, comma-separated")
    add("--mode", default="infer", choices=MODES)
    add("--batch", type=int, help="default: 1 for inference, 2 for training")
    add("--methods", default=",".join(NETWORKS), help=f"any of {', '.join(NETWORKS)}")
    add("--repetitions", type=int, default=5, help="timed rounds after one warm-up round")
    add("--budget", type=float, default=600, help="time limit per method and size, in seconds")
    add("--threads", type=int, help="CPU threads (default: PyTorch's)")
    add(
        "--compile",
        nargs="?",
        const="default",
        choices=COMPILE_MODES,
        help="compile all networks with torch.compile in this mode (default: default)",
    )
    add("--no-layers", action="store_true", help="skip the second table")
    add("--released", action="store_true", help="the released models at 1024x1024 against SwinIR")
    add("--out", type=Path, default=Path("results/compare"), help="output folder")
    return parser.parse_args(arguments)


def image_sizes(text: str) -> list[tuple[int, int]]:
    """Read ``128,256x384``.

    Raises:
        VHeatIRError: not numbers, or not multiples of SwinIR's window.
    """
    sizes = []
    for item in text.split(","):
        try:
            numbers = [int(number) for number in item.split("x")]
        except ValueError:
            numbers = []
        if len(numbers) not in (1, 2) or any(n < 2 * WINDOW or n % WINDOW for n in numbers):
            raise VHeatIRError(
                f"size {item!r} is invalid: give multiples of SwinIR's window, {WINDOW}, of at "
                f"least {2 * WINDOW}, such as 128,256x384"
            )
        sizes.append((numbers[0], numbers[-1]))
    return sizes


def measure(
    methods: Sequence[str], sizes: Sequence[tuple[int, int]], options: dict[str, Any], limits: Any
) -> Iterator[list[Result]]:
    """Measure methods one size at a time, printing a progress line per size."""
    progress = Console(stderr=True)
    for height, width in sizes:
        group = [Case(method, height=height, width=width, **options) for method in methods]
        with progress.status(f"{height}x{width}: {', '.join(methods)}"):
            results = interleaved(group, limits.repetitions, limits.budget)
        found = (r.status if r.seconds is None else f"{r.seconds:.3g} s" for r in results)
        texts = (f"{method} {text}" for method, text in zip(methods, found, strict=True))
        progress.print(f"{height}x{width}: {', '.join(texts)}")
        yield results


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the files."""
    if options.threads:
        torch.set_num_threads(options.threads)
    device = str(pick_device(options.device))
    options.dtype = choose_dtype(options.dtype, device)
    methods = options.methods.split(",")
    for method in methods:
        if method not in NETWORKS:
            raise unknown_name("method", method, NETWORKS)
    sizes = image_sizes(options.sizes)
    check_parameters(build("vheatir", options.size), build("swinir", options.size))

    common = {
        "size": options.size,
        "mode": options.mode,
        "batch": options.batch or (2 if options.mode == "train" else 1),
        "dtype": options.dtype,
        "device": device,
        "compiled": options.compile,
    }
    name = f"{options.size}, {options.mode}, {options.dtype}, batch {common['batch']}, {device}"
    console = Console()
    networks: list[Result] = []
    layers: list[Result] = []
    stem = "released" if options.released else "compare"

    def save() -> None:  # after every size, as a full run takes an hour
        content = {
            "environment": report.environment(device),
            "records": [asdict(result) for result in networks],
            "ratios": report.ratios(networks, "swinir"),
            "exponents": report.exponents(networks),
            "layers": [asdict(result) for result in layers],
            "layer_ratios": report.ratios(layers, "swin-layer"),
        }
        report.write(options.out, stem, content, {})

    if options.released:
        methods = [*(RELEASED + model for model in RELEASED_MODELS), "swinir"]
        sizes = [(1024, 1024)]
        name = f"released models against SwinIR {options.size}, {options.dtype}, {device}"
        if options.mode == "train":
            raise VHeatIRError("released models are not trained here: omit --mode or --released")
    for results in measure(methods, sizes, common, options):
        networks += results
        save()
    console.print(report.table(name, networks, "swinir"))
    if not (options.released or options.no_layers):
        for results in measure(LAYERS, sizes, {**common, "mode": "infer"}, options):
            layers += results
            save()
        console.print(report.table(f"one layer, {options.size}", layers, "swin-layer"))
    console.print(f"written: {options.out / stem}.json")
    if not options.released:
        report.plot(networks, options.out / "compare.png", name)
        for method, slopes in report.exponents(networks).items():
            time, memory = (
                "-" if s is None else f"{s:.2f}" for s in (slopes["seconds"], slopes["peak_bytes"])
            )
            console.print(f"{method}: time ~ pixels^{time}, memory ~ pixels^{memory}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    kept = "the sizes measured so far are saved"
    return report.exit_status(lambda: run(parse(arguments)), kept)


if __name__ == "__main__":
    raise SystemExit(main())
