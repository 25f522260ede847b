"""Roofline of the Heat Conduction Operator: its time against memory and compute bounds.

    python studies/speed/ceilings.py --device cuda --dtype bfloat16 --out results/ceilings

Two bounds: the minimum memory traffic (each input read once, each output written once, in the
network's dtype) over the bandwidth of a large copy, and the operations over the throughput of a
large matrix product. Parts of the operator are timed alone, eager and compiled, each against the
higher of its two bounds.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.console import Console
from torch import Tensor, nn

from benchmarks import report
from benchmarks.contenders import (
    AUTO,
    DTYPES,
    SIZES,
    build,
    choose_dtype,
    set_products,
    synchronise,
)
from benchmarks.measure import count_macs
from vheatir.hardware import pick_device
from vheatir.ops import dct2, idct2
from vheatir.ops.layer_norm import LayerNorm


@dataclass
class Part:
    """One part of the operator.

    Attributes:
        name: name of the part.
        read: minimum bytes read.
        written: minimum bytes written.
        transform_macs: multiply-adds of the transforms, which run in float32 (TF32).
        macs: those of other products and convolutions; element-wise passes count as none.
        seconds: measured, eager.
        compiled: measured, with torch.compile.
        ceiling: lower bound in seconds.
    """

    name: str
    side: int
    channels: int
    read: float
    written: float
    transform_macs: float
    macs: float
    seconds: float | None = None
    compiled: float | None = None
    ceiling: float = 0.0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python studies/speed/ceilings.py", description=(__doc__ or "").split("\n\n")[0]
    )
    add = parser.add_argument
    add("--device", default="auto", help="auto, cpu, cuda, cuda:1, ...")
    add("--dtype", default=AUTO, choices=(AUTO, *DTYPES))
    add("--size", default="light", choices=SIZES, help="network size that sets the channels")
    add("--sides", default="256,768", help="sides of square images, comma-separated")
    add("--repetitions", type=int, default=7, help="timed runs after two warm-up runs")
    add("--compile", action="store_true", help="also time compiled parts")
    add("--out", type=Path, default=Path("results/ceilings"), help="output folder")
    return parser.parse_args(arguments)


def timed(work: Callable[[], object], device: str, repetitions: int) -> float:
    """Return the median seconds of one run; short runs are repeated to fill 0.01 s."""

    def run(times: int) -> float:
        synchronise(device)
        start = time.perf_counter()
        for _ in range(times):
            work()
        synchronise(device)
        return (time.perf_counter() - start) / times

    run(2)
    times = max(1, round(0.01 / max(run(1), 1e-6)))
    return median(run(times) for _ in range(repetitions))


def machine(device: str, dtype: str, repetitions: int) -> dict[str, float]:
    """Measure the bandwidth of a copy and the multiply-adds per second of matrix products.

    Returns:
        ``bytes_per_second`` (read and written), ``macs_per_second`` in ``dtype`` and
        ``transform_macs_per_second`` in the precision of the transform.
    """
    on_gpu = device.startswith("cuda")
    x = torch.rand((512 if on_gpu else 64) * 2**18, device=device)
    y = torch.empty_like(x)
    moved = 2 * x.nbytes / timed(lambda: y.copy_(x), device, repetitions)
    side = 8192 if on_gpu else 1024

    def rate(kind: torch.dtype) -> float:
        a = torch.rand(side, side, device=device).to(kind)
        return side**3 / timed(lambda: a @ a, device, repetitions)

    single = rate(torch.float32)
    fast = rate(torch.bfloat16) if dtype == "bfloat16" else single
    return {
        "bytes_per_second": moved,
        "macs_per_second": fast,
        "transform_macs_per_second": single,
    }


class _Transform(nn.Module):
    def __init__(self, function: Callable[..., Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, u: Tensor) -> Tensor:
        return self.function(u, (1, 2))


class _Gate(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim)

    def forward(self, u: Tensor, z: Tensor) -> Tensor:
        return self.norm(u, gate=z)


def parts(
    side: int, size: str, device: str, dtype: str
) -> list[tuple[Part, nn.Module, tuple[Tensor, ...]]]:
    """Return the parts of one operator at one image size, each with its module and inputs."""
    heat, hco, block = (
        build(name, size).to(device).eval() for name in ("heat", "hco", "heat-block")
    )
    channels: int = heat.dim
    half = 2 if dtype == "bfloat16" else 4
    values = side * side * channels
    tokens = torch.rand(1, side, side, channels, device=device)
    low = tokens.bfloat16() if half == 2 else tokens
    f32, out = 4.0 * values, float(half * values)

    with torch.inference_mode():
        one_way = count_macs(lambda: dct2(tokens, (1, 2)))

    def part(name: str, read: float, written: float, transforms: int, macs: float) -> Part:
        return Part(name, side, channels, read, written, transforms * one_way, macs)

    return [
        (part("DCT", f32, f32, 1, 0), _Transform(dct2), (tokens,)),
        (part("inverse DCT", f32, f32, 1, 0), _Transform(idct2), (tokens,)),
        (part("heat: DCT, decay, inverse", out, f32, 2, 0), heat, (low,)),
        (part("LayerNorm, gate", f32 + out, out, 0, 0), _Gate(channels).to(device), (tokens, low)),
        (part("HCO", out, out, 2, (3 * channels + 9) * values), hco, (low,)),
        (part("block", f32, f32, 2, (7 * channels + 9) * values), block, (tokens,)),
    ]


def measure(options: argparse.Namespace, device: str, rates: dict[str, float]) -> list[Part]:
    """Time each part at each size."""
    found = []
    kind = torch.device(device).type
    enabled = options.dtype == "bfloat16"
    for side in report.numbers("--sides", options.sides):
        for part, module, inputs in parts(side, options.size, device, options.dtype):
            products = part.macs / rates["macs_per_second"]
            products += part.transform_macs / rates["transform_macs_per_second"]
            moved = (part.read + part.written) / rates["bytes_per_second"]
            part.ceiling = max(products, moved)
            with torch.inference_mode(), torch.autocast(kind, torch.bfloat16, enabled=enabled):
                part.seconds = timed(partial(module, *inputs), device, options.repetitions)
                if options.compile:
                    compiled = partial(torch.compile(module), *inputs)
                    part.compiled = timed(compiled, device, options.repetitions)
            found.append(part)
    return found


def rows(found: Sequence[Part]) -> list[list[str]]:
    """Return the cells of the table."""

    def cells(seconds: float | None, ceiling: float) -> list[str]:
        if seconds is None:
            return ["-", "-"]
        return [f"{1e3 * seconds:.3f}", f"{100 * ceiling / seconds:.0f} %"]

    return [
        [
            f"{part.side}",
            part.name,
            f"{(part.read + part.written) / 1e6:.0f}",
            f"{(part.transform_macs + part.macs) / 1e9:.1f}",
            f"{1e3 * part.ceiling:.3f}",
            *cells(part.seconds, part.ceiling),
            *cells(part.compiled, part.ceiling),
        ]
        for part in found
    ]


HEADER = ("side", "part", "MB", "GMACs", "bound", "eager", "of bound", "compiled", "of bound")


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the files."""
    device = str(pick_device(options.device))
    options.dtype = choose_dtype(options.dtype, device)
    set_products(options.dtype, device)
    rates = machine(device, options.dtype, options.repetitions)
    found = measure(options, device, rates)
    title = (
        f"one layer of {options.size}, {options.dtype}, {device}, in milliseconds; "
        f"copy {rates['bytes_per_second'] / 1e9:.0f} GB/s, products "
        f"{rates['macs_per_second'] / 1e12:.2f} TMAC/s, transforms "
        f"{rates['transform_macs_per_second'] / 1e12:.2f} TMAC/s"
    )
    Console().print(report.text_table(title, HEADER, rows(found)))
    content: dict[str, Any] = {
        "environment": report.environment(device),
        "dtype": options.dtype,
        "machine": rates,
        "parts": [asdict(part) for part in found],
    }
    texts = {".md": report.markdown(HEADER, rows(found)), ".csv": report.csv_text(content["parts"])}
    report.write(options.out, "ceilings", content, texts)
    print(f"written: {options.out / 'ceilings'}.json, .md, .csv")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return report.exit_status(lambda: run(parse(arguments)))


if __name__ == "__main__":
    raise SystemExit(main())
