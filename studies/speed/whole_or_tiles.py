"""Whole-image against tiled inference: PSNR and time of released models by image size.

``python studies/speed/whole_or_tiles.py --data datasets --out results/whole_or_tiles`` measures
PSNR on the test sets, grouped by image size (``--no-psnr`` skips this), then seconds and peak
memory on random images (``--no-speed``), and writes ``whole_or_tiles.json`` and ``.md``.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from rich.console import Console

from benchmarks import report
from benchmarks.contenders import RELEASED, Case
from benchmarks.measure import Result, interleaved
from vheatir import load_model
from vheatir.evaluation.benchmark_sets import (
    BenchmarkSet,
    bundled_test_set,
    default_data_folder,
    find_test_sets,
    folder_test_set,
)
from vheatir.evaluation.methods import model_method
from vheatir.evaluation.protocol import Measured, measure
from vheatir.hardware import pick_device
from vheatir.tasks import TASKS, get_task
from vheatir.tiles import OVERLAP

MODELS = ("denoise_gray_small", "denoise_color_medium", "jpeg_gray_small")
LEVELS = {"denoise": 50.0, "jpeg": 10.0}


@dataclass
class Quality:
    """PSNR of one model on images of similar size, whole (``tile`` None) or in tiles.

    Attributes:
        pixels: side of a square of the images' mean area.
        psnr: mean over the images, dB.
        worst: the largest loss of one image against whole-image inference, in dB.
    """

    model: str
    dataset: str
    level: float | None
    pixels: int
    images: int
    tile: int | None
    psnr: float
    worst: float


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--models", default=",".join(MODELS), help="released models, comma-separated")
    add("--tiles", default="128,256,512", help="tile sides, comma-separated")
    add("--data", type=Path, help="folder of the test sets (default: $VHEATIR_DATA/test, datasets)")
    add("--images", type=Path, help="folder of clean images instead of the test sets")
    add("--limit", type=int, help="maximum number of images per set")
    add("--no-psnr", action="store_true")
    add("--sides", default="256,512,1024,2048", help="sides of the random images to time")
    add("--repetitions", type=int, default=5, help="timed rounds after one warm-up round")
    add("--budget", type=float, default=600, help="time limit per tiling and size, in seconds")
    add("--no-speed", action="store_true")
    add("--device", default="auto")
    add("--threads", type=int, help="CPU threads (default: PyTorch's)")
    add("--out", type=Path, default=Path("results/whole_or_tiles"))
    return parser.parse_args(arguments)


def qualities(
    name: str, tiles: Sequence[int], sets: Sequence[BenchmarkSet], device: str
) -> list[Quality]:
    """Measure a model's PSNR whole and in tiles, on images grouped by size."""
    model = load_model(name)
    task = get_task(str(model.info["task"]))
    level = LEVELS.get(task.kind)  # None: photo has no level
    found: list[Quality] = []
    for test_set in sets:
        by_tile: dict[int | None, list[Measured]] = {}
        for tile in (None, *tiles):
            method = model_method(model, device, tile=tile)
            measure(task, test_set, level, method, by_tile.setdefault(tile, []).append)
        whole = by_tile[None]
        groups = sorted({_side(image) for image in whole})
        for pixels in groups:
            chosen = [i for i, image in enumerate(whole) if _side(image) == pixels]
            before = [whole[i].scores["psnr"] for i in chosen]
            for tile, images in by_tile.items():
                psnr = [images[i].scores["psnr"] for i in chosen]
                found.append(
                    Quality(
                        name,
                        test_set.name,
                        level,
                        pixels,
                        len(chosen),
                        tile,
                        sum(psnr) / len(psnr),
                        max(a - b for a, b in zip(before, psnr, strict=True)),
                    )
                )
    return found


def _side(image: Measured) -> int:
    """Return the side of a square of the image's area, rounded to a multiple of 64."""
    height, width = image.clean.shape[:2]
    return max(64, round((height * width) ** 0.5 / 64) * 64)


def times(
    name: str, tiles: Sequence[int], sides: Sequence[int], options: argparse.Namespace
) -> list[Result]:
    """Measure time and peak memory, whole and in tiles smaller than the image."""
    results: list[Result] = []
    for side in sides:
        tilings = [None, *(tile for tile in tiles if tile < side)]
        cases = [
            Case(RELEASED + name, "-", side, side, device=options.device, tile=tile)
            for tile in tilings
        ]
        results += interleaved(cases, options.repetitions, options.budget)
    return results


def quality_rows(found: Sequence[Quality]) -> tuple[list[str], list[list[str]]]:
    """Return the PSNR table: one row per image size, one column per tiling."""
    tiles = list(dict.fromkeys(quality.tile for quality in found))
    groups: dict[tuple[Any, ...], dict[int | None, Quality]] = {}
    for q in found:
        where = q.dataset if q.level is None else f"{q.dataset}, {q.level:g}"
        key = (q.model, where, f"~{q.pixels}", str(q.images))
        groups.setdefault(key, {})[q.tile] = q
    header = ["model", "set, level", "side", "images", *(_tiling(tile) for tile in tiles)]
    rows = []
    for key, by_tile in groups.items():
        base = by_tile[None].psnr
        cells = [
            f"{by_tile[t].psnr:.2f}" if t is None else f"{by_tile[t].psnr - base:+.3f}"
            for t in tiles
        ]
        rows.append([*key, *cells])
    return header, rows


def speed_rows(results: Sequence[Result]) -> tuple[list[str], list[list[str]]]:
    """Return the table of time and memory: one row per image size, one column per tiling."""
    tiles = list(dict.fromkeys(result.tile for result in results))
    groups: dict[tuple[str, int], dict[int | None, Result]] = {}
    for r in results:
        groups.setdefault((r.method.removeprefix(RELEASED), r.height), {})[r.tile] = r
    rows = [
        [model, f"{side}x{side}", *(_speed(by_tile.get(tile)) for tile in tiles)]
        for (model, side), by_tile in groups.items()
    ]
    return ["model", "image", *(_tiling(tile) for tile in tiles)], rows


def _tiling(tile: int | None) -> str:
    return "whole" if tile is None else f"tiles of {tile}"


def _speed(result: Result | None) -> str:
    if result is None:
        return "-"
    seconds = result.status if result.seconds is None else f"{result.seconds:.2f} s"
    return seconds if result.peak_bytes is None else f"{seconds}, {result.peak_bytes / 1e6:.0f} MB"


def test_sets(options: argparse.Namespace, task_name: str) -> list[BenchmarkSet]:
    """Return the sets to measure on: the first of the task's, a folder, or the bundled images."""
    if options.images is not None:
        sets = [folder_test_set(options.images)]
    else:
        folder = options.data or default_data_folder()
        sets = [bundled_test_set()]
        if folder is not None:
            sets = find_test_sets(folder, TASKS[task_name])[:1] or sets
    return [each.first(options.limit) for each in sets]


def run(options: argparse.Namespace) -> None:
    """Measure, print, and write the files."""
    if options.threads:
        torch.set_num_threads(options.threads)
    options.device = str(pick_device(options.device))
    tiles = report.numbers("--tiles", options.tiles)
    sides = report.numbers("--sides", options.sides)
    console, progress = Console(), Console(stderr=True)
    found: list[Quality] = []
    timed: list[Result] = []
    for name in options.models.split(","):
        task = str(load_model(name).info["task"])
        with progress.status(name):
            if not options.no_psnr:
                found += qualities(name, tiles, test_sets(options, task), options.device)
            if not options.no_speed:
                timed += times(name, tiles, sides, options)
    parts = []
    if found:
        title = f"PSNR in dB of whole images, and difference with tiles (overlap {OVERLAP})"
        parts.append((title, *quality_rows(found)))
    if timed:
        parts.append(("seconds and peak memory, random images", *speed_rows(timed)))
    for title, header, rows in parts:
        console.print(report.text_table(title, header, rows))
    content = {
        "environment": report.environment(options.device),
        "overlap": OVERLAP,
        "psnr": [asdict(quality) for quality in found],
        "speed": [asdict(result) for result in timed],
    }
    text = "\n".join(f"{title}:\n\n{report.markdown(h, rows)}" for title, h, rows in parts)
    report.write(options.out, "whole_or_tiles", content, {".md": text})
    console.print(f"written: {options.out}/whole_or_tiles.json, .md")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    return report.exit_status(lambda: run(parse(arguments)))


if __name__ == "__main__":
    raise SystemExit(main())
