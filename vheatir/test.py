"""Print benchmark tables: ``python vheatir/test.py``; see ``--help`` for the options."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Replace the script's folder, which would shadow other modules, by the project root.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
from collections.abc import Sequence

from vheatir.cli import add_import_option, run_entry_point
from vheatir.errors import VHeatIRError
from vheatir.evaluation.records import Record


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir test",
        description="Measure models on test sets and print one table per task, with published "
        "results for comparison.",
    )
    add = parser.add_argument
    add(
        "--task",
        nargs="+",
        metavar="TASK",
        help="denoise_gray, denoise_color, jpeg_gray, jpeg_color, photo (default: all)",
    )
    add(
        "--level",
        nargs="+",
        type=float,
        metavar="N",
        help="sigmas (noise) or qualities (JPEG); photo has none; default: those of the published "
        "tables",
    )
    add("--weights", nargs="+", metavar="FILE", help=".safetensors files; default: released models")
    add("-opt", metavar="FILE", help="test the weights of an option file's experiment")
    add("--force_yml", nargs="+", default=[], metavar="A:B=V", help="options of FILE to override")
    add_import_option(parser, "the network of the weights; it runs its code")
    add(
        "--data",
        metavar="DIR",
        help="folder of test sets (Set12, McMaster, LIVE1, classic5, Nam25, CC15, PolyU) or of any "
        "images (photo: pairs in noisy/ and clean/); default: $VHEATIR_DATA/test, else datasets/, "
        "else the photographs shipped with scikit-image",
    )
    add(
        "--out",
        default="results",
        metavar="DIR",
        help="folder for benchmark.md, .csv, .json (default: results)",
    )
    add("--device", default="auto", help="auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, mps")
    add("--limit", type=int, metavar="N", help="use only the first N images of each set")
    add("--tile", type=int, metavar="N", help="restore in tiles of at most N pixels: less memory")
    add("--self-ensemble", action="store_true", help="average over 8 flips and rotations (slow)")
    add("--save-images", action="store_true", help="save the restored images in OUT/images")
    add("--bm3d", action="store_true", help="also measure BM3D/CBM3D (slow; pip install bm3d)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Print and save the tables; return the exit status."""

    def command() -> None:
        measure(parse_arguments(argv))

    return run_entry_point(command, "results measured so far are saved", extra="train")


def measure(arguments: argparse.Namespace) -> list[Record]:
    """Print and save the tables; return their rows.

    Args:
        arguments: see :func:`parse_arguments`.

    Raises:
        VHeatIRError: any problem that the user can solve.
    """
    from vheatir.evaluation.run import run

    if not arguments.opt:
        return run(arguments)
    if arguments.weights:
        raise VHeatIRError("-opt and --weights both name what to test: give one of them")
    from vheatir.training.tested import open_training_run

    return run(arguments, open_training_run(arguments.opt, arguments.force_yml, arguments.imports))


if __name__ == "__main__":
    sys.exit(main())
