"""Reporting: tables, a plot of time and memory against pixels, and fitted exponents."""

from __future__ import annotations

import csv
import io
import json
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich import box
from rich.markup import escape
from rich.table import Table

from benchmarks.measure import OK, Result, pairwise_ratio
from vheatir.cli import run_entry_point
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically


def grouped(results: Iterable[Result]) -> dict[tuple[int, int], list[Result]]:
    """Return results by height and width, in order."""
    groups: dict[tuple[int, int], list[Result]] = {}
    for result in results:
        groups.setdefault((result.height, result.width), []).append(result)
    return groups


def ratios(results: Sequence[Result], reference: str) -> list[dict[str, Any]]:
    """Return the ratios of throughput, memory and multiply-adds to those of ``reference``."""
    rows = []
    for (height, width), group in grouped(results).items():
        base = next((r for r in group if r.method == reference), None)
        for result in group:
            if base is None or result is base:
                continue
            speed = pairwise_ratio(base, result)
            rows.append(
                {
                    "height": height,
                    "width": width,
                    "method": result.method,
                    "reference": reference,
                    "throughput": speed,
                    "memory": _over(result.peak_bytes, base.peak_bytes),
                    "macs": _over(result.macs, base.macs),
                }
            )
    return rows


def _over(value: float | None, base: float | None) -> float | None:
    return value / base if value is not None and base else None


def _narrow_table(title: str) -> Table:
    # fits terminals of 80 columns
    return Table(title=title, box=box.SIMPLE_HEAD, padding=0, pad_edge=False)


def table(title: str, results: Sequence[Result], reference: str) -> Table:
    """Return the table to print."""
    shown = _narrow_table(title)
    for name in ("image", "method"):
        shown.add_column(name, no_wrap=True)
    columns = ("M par", "GMACs", "seconds", "img/s", "MB", "speed", "mem.", "MACs")
    for name in columns:
        shown.add_column(name, justify="right")
    by_cell = {(r["height"], r["width"], r["method"]): r for r in ratios(results, reference)}
    for (height, width), group in grouped(results).items():
        for result in group:
            ratio = by_cell.get((height, width, result.method), {})
            done = result.status == OK
            shown.add_row(
                f"{height}x{width}",
                result.method,
                _format(result.params, ".3f", 1e-6),
                _format(result.macs, ".3g" if (result.macs or 0) < 1e12 else ".0f", 1e-9),
                _format(result.seconds, ".3f") if done else result.status,
                _format(result.images_per_second, ".3g"),
                _format(result.peak_bytes, ".0f", 1e-6),
                _format(ratio.get("throughput"), ".2f", unit="x"),
                _format(ratio.get("memory"), ".0f", 100, " %"),
                _format(ratio.get("macs"), ".0f", 100, " %"),
            )
        shown.add_section()
    shown.caption = f"last three columns: ratio to {reference}; speed is paired by round"
    return shown


def _format(value: float | None, style: str, scale: float | None = None, unit: str = "") -> str:
    if value is None:
        return "-"
    return format(value if scale is None else value * scale, style) + unit


def exponent(points: Sequence[tuple[float, float]]) -> float | None:
    """Fit b of y = a x^b by least squares in log space; None for fewer than two points."""
    if len({x for x, _ in points}) < 2 or any(y <= 0 for _, y in points):
        return None
    x, y = np.log(np.array(points, dtype=float)).T
    return float(np.polyfit(x, y, 1)[0])


def exponents(results: Sequence[Result]) -> dict[str, dict[str, float | None]]:
    """Return the exponents of time and memory against pixels, by method."""
    return {
        method: {quantity: exponent(_points(results, method, quantity)) for quantity in QUANTITIES}
        for method in dict.fromkeys(r.method for r in results)
    }


QUANTITIES = {"seconds": "seconds", "peak_bytes": "peak memory, bytes"}


def _points(results: Sequence[Result], method: str, quantity: str) -> list[tuple[float, float]]:
    chosen = [(r.height * r.width, getattr(r, quantity)) for r in results if r.method == method]
    return [(pixels, value) for pixels, value in chosen if value is not None]


def plot(results: Sequence[Result], path: Path, title: str) -> None:
    """Plot time and memory against pixels, both on log scales."""
    fitted = exponents(results)
    with figure(path, panels=2, title=title) as axes:
        for axis, (quantity, label) in zip(axes, QUANTITIES.items(), strict=True):
            for method, slopes in fitted.items():
                points = _points(results, method, quantity)
                slope = slopes[quantity]
                name = method if slope is None else f"{method}: pixels^{slope:.2f}"
                if points:
                    axis.loglog(*zip(*points, strict=True), marker="o", label=name)
            axis.set_xlabel("pixels")
            axis.set_ylabel(label)
            sizes = {r.height * r.width: f"{r.height}x{r.width}" for r in results}
            axis.set_xticks(list(sizes), labels=list(sizes.values()), rotation=30)
            axis.minorticks_off()
            axis.grid(True, alpha=0.3)
            if axis.lines:
                axis.legend()


@contextmanager
def figure(path: Path, panels: int, title: str = "") -> Iterator[list[Any]]:
    """Yield the axes of panels side by side, and save the figure on exit."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(
        1, panels, figsize=(5 * panels, 4.2), layout="constrained", squeeze=False
    )
    try:
        yield list(axes[0])
        drawn.suptitle(title)
        png = io.BytesIO()
        drawn.savefig(png, dpi=120)
    finally:
        pyplot.close(drawn)
    write_bytes_atomically(path, png.getvalue())


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def text_table(title: str, header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """Return a Markdown table for the terminal; the first two columns do not wrap."""
    shown = _narrow_table(title)
    for name in header:
        shown.add_column(name, no_wrap=name in header[:2])
    for row in rows:
        shown.add_row(*(re.sub(r"\*\*(.+?)\*\*", r"[bold]\1[/bold]", escape(cell)) for cell in row))
    return shown


def csv_text(records: Sequence[Mapping[str, Any]]) -> str:
    """Return records with equal keys as CSV."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(records[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue()


def write(folder: Path, stem: str, content: object, texts: Mapping[str, str]) -> None:
    """Write ``content`` as ``stem.json``, and each text as ``stem`` plus its suffix."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, text in {".json": json.dumps(content, indent=1) + "\n", **texts}.items():
        write_bytes_atomically(folder / f"{stem}{suffix}", text.encode())


def numbers(option: str, text: str) -> list[int]:
    """Read positive numbers, comma-separated.

    Raises:
        VHeatIRError: something else.
    """
    parts = text.split(",")
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise VHeatIRError(f"{option} {text!r}: give positive numbers, such as 256,1024")
    return [int(part) for part in parts]


def exit_status(
    work: Callable[[], None], interrupted: str = "nothing was written", extra: str = "train"
) -> int:
    """Run a benchmark's command line; see :func:`vheatir.cli.run_entry_point`."""

    def status() -> int:
        work()
        return 0

    return run_entry_point(status, interrupted, extra)


def environment(device: str) -> dict[str, Any]:
    """Return the software and hardware facts behind the numbers, without a host name."""
    features = Path("/proc/cpuinfo")
    flags = features.read_text() if features.is_file() else ""
    facts: dict[str, Any] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "cpu": [name for name in ("avx2", "avx512f", "amx_bf16") if name in flags],
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts
