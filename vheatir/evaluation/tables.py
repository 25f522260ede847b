"""Format records as terminal tables, Markdown, CSV and JSON."""

from __future__ import annotations

import csv
import io
import json
import tempfile
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vheatir.errors import VHeatIRError
from vheatir.evaluation.published import protocols, sources
from vheatir.evaluation.records import Record
from vheatir.image_io import StrPath, write_bytes_atomically
from vheatir.metrics import CONVENTIONS
from vheatir.tasks import get_task

_MISSING = "-"
_METRICS = "PSNR/SSIM"


@dataclass(frozen=True)
class Cells:
    """Cells of a task's table.

    Attributes:
        title: title, including remarks.
        header: one text per column.
        sections: heading and rows of each test set.
        notes: metric conventions and sources of quoted rows.
    """

    title: str
    header: list[str]
    sections: list[tuple[str, list[list[str]]]]
    notes: list[str]


def lay_out(records: Sequence[Record], remarks: Iterable[str] = ()) -> Cells:
    """Arrange the records of one task: one row per method, one column per level.

    A task without a level has a single column of results.

    Args:
        records: records of one task, at least one.
        remarks: remarks for the title, such as that the bundled photographs are used.
    """
    task = get_task(records[0].task)
    levels = sorted({r.level for r in records if r.level is not None}) if task.has_level else [None]
    shown = f"{_METRICS}/PSNR-B" if task.kind == "jpeg" else _METRICS
    header = [
        "method",
        "parameters",
        *(shown if level is None else f"{task.level_name} {level:g}: {shown}" for level in levels),
        "s/image",
    ]
    sections = []
    for dataset, own in _grouped(records, attrgetter("dataset")).items():
        count = max(record.images for record in own if not record.published)
        rows = _grouped(own, attrgetter("method", "published")).values()
        heading = f"{dataset} ({count} image{'s' if count != 1 else ''})"
        sections.append((heading, [_row(row, levels) for row in rows]))
    quoted = [record for record in records if record.published]
    notes = [CONVENTIONS[task.name]]
    if quoted:
        named = sources([record.method for record in quoted])
        notes.append(f"Rows marked as published are quoted, not measured here. {named}.")
    if followed := protocols(list(dict.fromkeys(record.dataset for record in quoted))):
        notes.append(f"Published results on {followed}.")
    return Cells(" - ".join([task.heading, *remarks]), header, sections, notes)


def print_task(console: Console, records: Sequence[Record], remarks: Iterable[str] = ()) -> None:
    """Print title, table and notes of one task.

    Args:
        console: console to print to.
        records: records of one task, at least one.
        remarks: see :func:`lay_out`.
    """
    cells = lay_out(records, remarks)
    table = _terminal_table(cells, " / ")
    unbounded = console.options.update(max_width=10_000)
    if console.measure(table, options=unbounded).maximum > console.width:
        table = _terminal_table(cells, "\n")
    console.print(Text(cells.title, "bold"))
    console.print(table)
    for note in cells.notes:
        console.print(Text(note, "dim"))
    console.print()


def _terminal_table(cells: Cells, separator: str) -> Table:
    """Build the table; ``separator`` separates the values in a cell."""
    stacked = separator == "\n"
    padding = (0, 1, 0, 0) if stacked else (0, 1)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding)
    longest = max(len(row[0]) for _, rows in cells.sections for row in rows)
    # Text, because names may contain brackets, which rich would parse as markup.
    table.add_column(Text(cells.header[0]), overflow="fold", min_width=min(24, longest))
    for name in cells.header[1:]:
        text = name.replace(": ", "\n").replace("/", separator) if _METRICS in name else name
        text = text.replace(" ", "\n").replace("parameters", "params") if stacked else text
        table.add_column(Text(text, justify="right"), justify="right", overflow="fold")
    for heading, rows in cells.sections:
        table.add_row(Text(heading, "bold"))
        for row in rows:
            table.add_row(Text(row[0]), *(Text(cell.replace("/", separator)) for cell in row[1:]))
        table.add_section()
    return table


def to_markdown(records: Sequence[Record], remarks: Iterable[str] = ()) -> str:
    """Return the Markdown section of one task.

    Args:
        records: records of one task, at least one.
        remarks: see :func:`lay_out`.
    """
    cells = lay_out(records, remarks)
    lines = [f"## {cells.title}"]
    for heading, rows in cells.sections:
        lines += ["", f"**{heading}**", "", _line(cells.header)]
        lines.append("|---|" + "---:|" * (len(cells.header) - 1))
        lines += [_line(row) for row in rows]
    for note in cells.notes:
        lines += ["", note]
    return "\n".join(lines) + "\n"


def to_csv(records: Iterable[Record]) -> str:
    """Return the records as CSV with a header; unknown values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [field.name for field in fields(Record)], lineterminator="\n")
    writer.writeheader()
    writer.writerows(record.as_dict() for record in records)
    return text.getvalue()


def to_json(records: Iterable[Record]) -> str:
    """Return the records as a JSON list; unknown or infinite values are null."""
    return json.dumps([each.as_dict() for each in records], indent=1, allow_nan=False) + "\n"


def check_writable(folder: StrPath) -> None:
    """Raise VHeatIRError unless files can be written to ``folder``, which is created."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise _not_written(folder, error) from None


def save_results(
    folder: StrPath,
    records: Sequence[Record],
    remarks: dict[str, list[str]] | None = None,
    footer: str = "",
) -> list[Path]:
    """Write ``benchmark.md``, ``.csv`` and ``.json`` atomically.

    Args:
        folder: output folder, created if missing.
        records: records of any tasks.
        remarks: remarks by task; see :func:`lay_out`.
        footer: last line of the Markdown, such as hardware and versions.

    Returns:
        Paths of the three files.

    Raises:
        VHeatIRError: the folder cannot be written to.
    """
    parts = ["# Benchmark\n"]
    for task, own in _grouped(records, attrgetter("task")).items():
        parts.append(to_markdown(own, (remarks or {}).get(task, ())))
    if footer:
        parts.append(f"{footer}\n")
    contents = {
        Path(folder, "benchmark.md"): "\n".join(parts),
        Path(folder, "benchmark.csv"): to_csv(records),
        Path(folder, "benchmark.json"): to_json(records),
    }
    try:
        for file, text in contents.items():
            write_bytes_atomically(file, text.encode())
    except OSError as error:
        raise _not_written(folder, error) from None
    return list(contents)


def _grouped(
    records: Iterable[Record], key: Callable[[Record], Hashable]
) -> dict[Any, list[Record]]:
    """Group records by a key, in the order in which the keys appear."""
    groups: dict[Any, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return groups


def _row(records: list[Record], levels: Sequence[float | None]) -> list[str]:
    first = records[0]
    by_level = {record.level: record for record in records}
    seconds = [r.seconds_per_image for r in records if r.seconds_per_image is not None]
    return [
        _label(first),
        _MISSING if first.params is None else _count(first.params),
        *(_format_metrics(by_level[level]) if level in by_level else _MISSING for level in levels),
        f"{sum(seconds) / len(seconds):.3g}" if seconds else _MISSING,
    ]


def _label(record: Record) -> str:
    marked = "published" in record.method  # "vHeatIR, as published"
    return f"{record.method} (published)" if record.published and not marked else record.method


def _format_metrics(record: Record) -> str:
    ssim = "" if record.ssim is None else f"/{record.ssim:.4f}"
    psnrb = "" if record.psnrb is None else f"/{record.psnrb:.2f}"
    return f"{record.psnr:.2f}{ssim}{psnrb}"


def _count(params: int) -> str:
    return f"{params / 1e6:.2f} M" if params >= 100_000 else f"{params:,}"


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _not_written(folder: StrPath, error: OSError) -> VHeatIRError:
    return VHeatIRError(
        f"results cannot be written to {str(folder)!r} ({error.strerror}): give another --out"
    )
