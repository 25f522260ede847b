"""``vheatir models [TASK]``: list the released models, with their licences."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from vheatir.tasks import get_task
from vheatir.zoo import NON_COMMERCIAL, list_models


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir models",
        description="List the released models, the default of each task first, and who may use "
        "their weights.",
        epilog="The name of a task stands for its default model; with "
        f"{NON_COMMERCIAL!r} appended, for its best model that is not for commercial use.",
    )
    parser.add_argument("task", nargs="?", metavar="TASK", help="list the models of this task only")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the list; return the exit status.

    Raises:
        VHeatIRError: unknown task; ``vheatir models`` reports it.
    """
    header, *rows = models(parse_arguments(argv).task)
    # Imported after parsing, so that --help is fast.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(*header, box=box.SIMPLE_HEAD, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    out = Console()
    if not out.is_terminal:
        out = Console(width=10_000)
    out.print(table, markup=False)
    return 0


def models(task: str | None = None) -> list[list[str]]:
    """Return header and rows of the list of models.

    Args:
        task: list only the models of this task.

    Raises:
        VHeatIRError: unknown task.
    """
    rows = [["model", "task", "level", "parameters", "commercial use", "licence"]]
    for entry in list_models(task):
        every = "all" if get_task(entry.task).has_level else "-"
        level = every if entry.level is None else f"{entry.level:g}"
        use = "yes" if entry.commercial_use else "no"
        size = f"{entry.params / 1e6:.2f} M"
        rows.append([entry.name, entry.task, level, size, use, entry.licence])
    return rows


def markdown(task: str | None = None) -> str:
    """Return the list as a Markdown table; arguments as :func:`models`."""
    header, *rows = models(task)
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
