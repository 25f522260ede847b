"""Restore photographs: ``vheatir restore INPUT... -o OUT``; ``--help`` names the options."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from vheatir.errors import VHeatIRError, run_entry_point

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from vheatir.inference.jobs import Job

_FORMATS = {"png": ".png", "jpg": ".jpg", "webp": ".webp", "tiff": ".tiff"}
_SMALLEST_TILE = 16  # vheatir.inference.tiled.MIN_TILE, without importing torch


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir restore",
        description="Restore photographs: remove noise or JPEG artifacts. Orientation is applied, "
        "ICC profile, EXIF, bit depth and transparency are kept.",
        epilog="Exit status: 0 when all were restored, 1 when some were skipped, 2 for a mistake "
        "in the command.",
    )
    add = parser.add_argument
    add(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="files, folders, patterns such as 'photos/**/*.jpg', or - for the standard input",
    )
    add(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="folder (the inputs' folders are kept), a file for one picture, or - for the "
        "standard output",
    )
    add(
        "--task",
        choices=["auto", "denoise", "jpeg", "photo"],
        default="auto",
        help="what to remove: noise, JPEG artifacts, or photo: whatever cameras and files do to "
        "photographs; auto decides for each picture and says so (default)",
    )
    add(
        "--level",
        type=_level,
        default=None,
        metavar="auto|N",
        help="sigma of the noise on 0..255, or JPEG quality; auto estimates it (default); the task "
        "photo takes none",
    )
    add(
        "--strength",
        type=float,
        default=100.0,
        metavar="S",
        help="how much of the restoration, in percent: 0 is the input, 100 the model's result "
        "(default), up to 150; below 100 texture returns first, noise last",
    )
    add("--luma", type=float, metavar="S", help="strength of the luma alone (default: --strength)")
    add(
        "--chroma",
        type=float,
        metavar="S",
        help="strength of the colours alone (default: --strength); gray pictures ignore it",
    )
    add(
        "--model",
        metavar="NAME|FILE",
        help="one model for all pictures: a released one or a .safetensors file (default: the "
        "best for the task, gray or colour)",
    )
    add(
        "--format",
        choices=sorted(_FORMATS),
        help="format to write (default: that of each input; jpg for HEIC and AVIF of 8 bits; else "
        "png); jpg has quality 95, the others are lossless",
    )
    add("--overwrite", action="store_true", help="replace files that exist (default: skip them)")
    add(
        "--compare",
        action="store_true",
        help="also write NAME.compare.png: before and after, side by side",
    )
    add(
        "--tile",
        type=_tile,
        default="auto",
        metavar="auto|none|N",
        help="restore in tiles of at most N pixels; auto chooses by the memory at hand (default)",
    )
    add("--device", default="auto", help="auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, mps")
    add("--self-ensemble", action="store_true", help="mean of eight flips and rotations (slow)")
    add(
        "--jobs",
        type=_count,
        metavar="N",
        help="pictures at a time (default: 1; with --engine ray one a GPU or core)",
    )
    add(
        "--resume",
        action="store_true",
        help="go on with an interrupted run: skip what its manifest in OUT says is done",
    )
    add(
        "--shard",
        type=_shard,
        metavar="I/N",
        help="only every N-th picture, beginning with the I-th (1 to N): one machine of several",
    )
    add(
        "--engine",
        choices=["local", "ray"],
        default="local",
        help="ray: on the cluster that Ray finds (default: this process)",
    )
    add(
        "--max-pixels",
        type=_count,
        default=150_000_000,
        metavar="N",
        help="refuse larger pictures, by their header (default: 150e6)",
    )
    return parser.parse_args(argv)  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Restore what the command line names; returns the exit status."""
    arguments = parse_arguments(argv)
    return run_entry_point(lambda: _run(arguments), "the files written before are whole")


def _run(arguments: argparse.Namespace) -> int:
    # Behind the parsing, so that --help answers at once.
    from vheatir.inference import engines
    from vheatir.inference.jobs import Runner, Settings, plan
    from vheatir.inference.manifest import Manifest, pick_shard

    jobs = plan(
        arguments.inputs, arguments.output, _FORMATS.get(arguments.format), arguments.compare
    )
    settings = Settings(
        degradation={"denoise": "noise"}.get(arguments.task, arguments.task),
        level=arguments.level,
        strength=(
            arguments.strength if arguments.luma is None else arguments.luma,
            arguments.strength if arguments.chroma is None else arguments.chroma,
        ),
        tile=arguments.tile,
        device=arguments.device,
        self_ensemble=arguments.self_ensemble,
        model=arguments.model,
        overwrite=arguments.overwrite,
        max_pixels=arguments.max_pixels,
    )
    if arguments.shard:
        jobs = pick_shard(jobs, *arguments.shard)
    runner = Runner(settings)
    manifest, done = None, 0
    if arguments.resume:
        if any(job.source is None or job.target is None for job in jobs):
            raise VHeatIRError("--resume takes files, not the standard input or output")
        parents = [job.target.parent for job in jobs if job.target]
        out = Path(arguments.output)
        folder = parents[0] if len(jobs) == 1 and jobs[0].target == out else out
        manifest = Manifest(folder, settings, arguments.shard)
        left = [job for job in jobs if not manifest.is_done(job)]
        done, jobs = len(jobs) - len(left), left
    from rich.console import Console

    # Pictures may go to the standard output: all words go to the other stream.
    console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)
    progress = _progress_bar(console)
    began = time.perf_counter()
    counts = {"restored": 0, "existing": 0, "skipped": 0, "failed": 0}
    several = (arguments.jobs or 1) > 1
    with progress, _any_size():
        bar = progress.add_task("", total=len(jobs), tiles="")

        def report(job: Job, part: int, total: int) -> None:
            if several:
                return  # of several pictures at a time, each has tiles of its own
            tiles = f"tile {part}/{total}" if total > 1 else ""
            finished = sum(counts.values()) + part / total
            progress.update(bar, description=job.name[-40:], completed=finished, tiles=tiles)

        if arguments.engine == "ray":
            outcomes = engines.run_ray(settings, jobs, arguments.jobs, manifest)
        else:
            outcomes = engines.run_local(runner, jobs, arguments.jobs or 1, manifest, report)
        for outcome in outcomes:
            counts[outcome.state] += 1
            console.print(f"{outcome.job.name}: {outcome.words}")
            progress.update(bar, completed=sum(counts.values()))
    if manifest is not None:
        manifest.close()
    parts = [f"{counts['restored']} restored"]
    parts += [f"{done} done before"] if done else []
    existing = counts["existing"]
    parts += [f"{existing} skipped, since the target exists"] if existing else []
    skipped = counts["skipped"]
    parts += [f"{skipped} skipped, since their kind is not restored"] if skipped else []
    parts += [f"{counts['failed']} failed"] if counts["failed"] else []
    console.print(f"{', '.join(parts)} in {time.perf_counter() - began:.1f} s")
    return 1 if existing or skipped or counts["failed"] else 0


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
def _any_size() -> Iterator[None]:
    """Lift Pillow's own limit of pixels: --max-pixels is the one that counts here."""
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
    if not text.isdecimal() or int(text) < _SMALLEST_TILE:
        raise argparse.ArgumentTypeError(
            f"{text!r}: give auto, none or a number of pixels from {_SMALLEST_TILE} on"
        )
    return int(text)


def _shard(text: str) -> tuple[int, int]:
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r}: give I/N with I from 1 to N, such as 3/16")
    return int(index), int(count)


def _count(text: str) -> int:
    try:
        count = int(float(text))
    except (ValueError, OverflowError):
        count = 0
    if count < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number from 1 on, such as 50e6")
    return count


if __name__ == "__main__":
    sys.exit(main())
