"""Restore photographs: ``vheatir restore INPUT... -o OUT``; see ``--help`` for the options."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # Replace the script's folder, which would shadow other modules, by the project root.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from vheatir.cli import add_import_option, positive_number, run_entry_point
from vheatir.errors import VHeatIRError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from vheatir.inference.jobs import Job


_HELP = {
    "inputs": "files, folders, patterns such as 'photos/**/*.jpg', or - for standard input",
    "--output": "output folder (the folder structure of the input is kept), output file for a "
    "single image, or - for standard output",
    "--task": "what to remove: denoise: white noise; jpeg: JPEG artifacts; photo: camera noise and "
    "the other degradations of photographs; auto: detect it for each image (default)",
    "--level": "sigma of the noise on 0..255, by default (auto) estimated; or JPEG quality, which "
    "the released models do not use; not available for the task photo",
    "--strength": "strength of the restoration in percent, 0 to 150: 0 is the input, 100 the "
    "model's result (default); below 100, texture returns before noise",
    "--luma": "strength for luma only (default: --strength)",
    "--chroma": "strength for colour only (default: --strength); no effect on gray images",
    "--model": "one model for all images: name of a released model (vheatir models lists them), a "
    ".safetensors file, a .pth file from BasicSR, a folder in the Hub's form, or hf://org/name on "
    "the Hugging Face Hub (default: auto, the default for the task, gray or colour)",
    "--format": "output format (default: that of the input if it can be written; jpg for 8-bit "
    "HEIC and AVIF; else png, as for standard input into a folder); jpg has quality 95, the others "
    "are lossless",
    "--overwrite": "replace existing files (default: skip them)",
    "--compare": "also write NAME.compare.png with before and after side by side",
    "--tile": "process in tiles of at most N x N pixels; auto chooses by image size and available "
    "memory (default)",
    "--device": "auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, mps",
    "--backend": "openvino: faster on a CPU; exports each model on first use; needs pip install "
    "'vheatir[openvino]' (default: torch)",
    "--self-ensemble": "average over the eight flips and rotations (8 times slower)",
    "--jobs": "number of images processed in parallel (default: 1; with --engine ray: one per GPU, "
    "or per CPU core without GPUs)",
    "--resume": "continue an interrupted run: skip images that its manifest in OUT lists as done",
    "--shard": "process every N-th image, starting with the I-th (1 to N), to distribute a run "
    "over machines",
    "--engine": "ray: run on a Ray cluster, started locally if there is none (default: local, in "
    "this process)",
    "--max-pixels": "reject images with more than N pixels (default: 150e6)",
}


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir restore",
        description="Restore photographs: remove noise and JPEG artifacts. EXIF orientation is "
        "applied; ICC profile, EXIF, bit depth and transparency are kept.",
        epilog="Exit status: 0 if all images were restored, 1 if some were skipped or failed, 2 "
        "for an error in the command.",
    )

    def add(*names: str, **settings: Any) -> None:
        parser.add_argument(*names, help=_HELP[names[-1]], **settings)

    add("inputs", nargs="+", metavar="INPUT")
    add("-o", "--output", required=True, metavar="OUT")
    add("--task", choices=["auto", "denoise", "jpeg", "photo"], default="auto")
    add("--level", type=_level, metavar="auto|N")
    add("--strength", type=float, default=100.0, metavar="S")
    add("--luma", type=float, metavar="S")
    add("--chroma", type=float, metavar="S")
    add("--model", metavar="NAME|FILE")
    add_import_option(parser, "the network of --model; it runs that module's code")
    add("--format", choices=["jpg", "png", "tiff", "webp"])
    add("--overwrite", action="store_true")
    add("--compare", action="store_true")
    add("--tile", type=_tile, default="auto", metavar="auto|none|N")
    add("--device", default="auto")
    add("--backend", choices=["torch", "openvino"], default="torch")
    add("--self-ensemble", action="store_true")
    add("--jobs", type=positive_number, metavar="N")
    add("--resume", action="store_true")
    add("--shard", type=_shard, metavar="I/N")
    add("--engine", choices=["local", "ray"], default="local")
    add("--max-pixels", type=positive_number, default=150_000_000, metavar="N")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = parse_arguments(argv)
    return run_entry_point(lambda: _run(arguments), "the files written before are complete")


def _run(arguments: argparse.Namespace) -> int:
    # Imported after parsing, so that --help is fast.
    from vheatir.inference.jobs import Runner, Settings, plan, run_local
    from vheatir.inference.manifest import Manifest, pick_shard

    jobs = plan(arguments.inputs, arguments.output, arguments.format, arguments.compare)
    to_file = [job.target for job in jobs] == [Path(arguments.output)]
    whole, given = arguments.strength, (arguments.luma, arguments.chroma)
    arguments.strength = tuple(whole if each is None else each for each in given)
    settings = Settings(**{each.name: getattr(arguments, each.name) for each in fields(Settings)})
    if arguments.shard:
        jobs = pick_shard(jobs, *arguments.shard)
    runner = Runner(settings)
    manifest, done = None, 0
    if arguments.resume:
        if any(job.source is None or job.target is None for job in jobs):
            raise VHeatIRError("--resume requires files, not the standard input or output")
        out = Path(arguments.output)
        folder = out.parent if to_file else out
        manifest = Manifest(folder, settings, arguments.shard)
        left = [job for job in jobs if not manifest.is_done(job)]
        done, jobs = len(jobs) - len(left), left
    from rich.console import Console

    # The standard output may carry an image: all messages go to the standard error.
    console = Console(stderr=True, markup=False, emoji=False, highlight=False, soft_wrap=True)
    progress = _progress_bar(console)
    began = time.perf_counter()
    counts: Counter[str] = Counter()
    workers = arguments.jobs or 1
    with progress, _without_pillow_limit():
        bar = progress.add_task("", total=len(jobs), tiles="")

        def report(job: Job, part: int, total: int) -> None:
            tiles = f"tile {part}/{total}" if total > 1 else ""
            finished = counts.total() + part / total
            progress.update(bar, description=job.name[-40:], completed=finished, tiles=tiles)

        if arguments.engine == "ray":
            from vheatir.inference.ray_engine import run_ray

            outcomes = run_ray(settings, jobs, arguments.jobs, manifest)
        else:
            # No progress of tiles for several images at a time.
            outcomes = run_local(runner, jobs, workers, manifest, report if workers == 1 else None)
        for outcome in outcomes:
            counts[outcome.state] += 1
            console.print(f"{outcome.job.name}: {outcome.message}")
            progress.update(bar, completed=counts.total())
    if manifest is not None:
        manifest.close()
    summary = {
        "already done": done,
        "skipped (target exists)": counts["existing"],
        "skipped (unsupported format)": counts["skipped"],
        "failed": counts["failed"],
    }
    parts = [f"{counts['restored']} restored"]
    parts += [f"{count} {what}" for what, count in summary.items() if count]
    console.print(f"{', '.join(parts)} in {time.perf_counter() - began:.1f} s")
    return 0 if counts["restored"] == counts.total() else 1


def _progress_bar(console: Console) -> Progress:
    from rich import progress

    return progress.Progress(
        progress.TextColumn("{task.description}", markup=False),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[tiles]}"),
        progress.TimeElapsedColumn(),
        progress.TextColumn("left:"),
        progress.TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


@contextmanager
def _without_pillow_limit() -> Iterator[None]:
    """Disable Pillow's limit on image size; --max-pixels applies instead."""
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = before


def _level(text: str) -> float | None:
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: give auto or a number") from None


def _tile(text: str) -> str | int | None:
    if text in ("auto", "none"):
        return "auto" if text == "auto" else None
    from vheatir.tiles import MIN_TILE  # imports NumPy, which --help does without

    if not text.isdecimal() or int(text) < MIN_TILE:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give auto, none or a number of pixels, at least {MIN_TILE}"
        )
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}: give I/N with I from 1 to N, such as 3/16")
    return int(index), int(count)


if __name__ == "__main__":
    sys.exit(main())
