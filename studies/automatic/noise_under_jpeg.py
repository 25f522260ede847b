"""When does noise under JPEG call for the model `photo` rather than the JPEG model?

``python studies/automatic/noise_under_jpeg.py --photos FOLDER`` draws photographs, enlarges them by
a random factor of 1 to 4.5, adds camera noise to three fifths of them, as strong as that of real
photographs, compresses all of them, and restores each with `photo` and with the JPEG model. It
prints the mean regret of weights of `photo` in a mixture of both results, against the better of
both. Samples and their measurements are appended to a JSON lines file, so that a run can be
continued; the same arguments draw the same samples.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from benchmarks import report
from vheatir.cli import run_entry_point
from vheatir.data.sources import BUNDLED, ImageSource
from vheatir.degradations import CameraNoise, add_camera_noise, jpeg_compress
from vheatir.degradations._filters import log_uniform
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically
from vheatir.inference import Restorer
from vheatir.inference.mixed import ONE_MODEL, photo_weight, rounded
from vheatir.metrics import psnr, to_uint8

Pixels = NDArray[np.uint8]

_LARGEST_SCALE = 4.5
_SCALED, _NOISY, _CAMERA_JPEG, _WEAK_JPEG = 0.8, 0.6, 0.4, 0.8
# Real noise: mean luma std 2.1 to 3.7 in three sets, 0.5 to 0.8 of it in chroma; images vary.
_LUMA_STD, _CHROMA_RATIO, _LARGEST_TILT = (1.0, 8.0), (0.35, 1.2), 1.25
_INTERPOLATIONS = (cv2.INTER_CUBIC, cv2.INTER_LANCZOS4, cv2.INTER_LINEAR)
HEADER = ["weight of photo", "mean regret", "both models", "regret, no noise", "regret, noise"]
# Weights of `photo` in the mixtures that are measured, besides 0 and 1.
WEIGHTS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
RULES: Mapping[str, Callable[[float], float]] = {  # from the weight of the energies
    "0 (the JPEG model)": lambda weight: 0.0,
    "1": lambda weight: 1.0,
    "0.5": lambda weight: 0.5,
    "energies": lambda weight: weight,
    "energies: 0 or 1": lambda weight: float(round(weight)),
    f"energies, 0 or 1 within {ONE_MODEL}": rounded,
}


def draw_sample(
    source: ImageSource, side: int, rng: np.random.Generator
) -> tuple[Pixels, Pixels, dict[str, Any]]:
    """Return a degraded crop, its clean version, and what was drawn."""
    number = int(rng.integers(len(source)))
    scale = log_uniform(rng, 1.0, _LARGEST_SCALE) if rng.random() < _SCALED else 1.0
    clean = _enlarged_crop(source[number], side, scale, rng)
    strength = log_uniform(rng, *_LUMA_STD) if rng.random() < _NOISY else 0.0
    degraded = clean
    if strength:
        ratio, tilt = log_uniform(rng, *_CHROMA_RATIO), log_uniform(rng, 1.0, _LARGEST_TILT)
        noise = CameraNoise.draw(rng, luma_std=strength)
        noise = replace(noise, blue_ratio=ratio * tilt, red_ratio=ratio / tilt)
        degraded = to_uint8(add_camera_noise(clean.astype(np.float32) / 255, noise, rng))
    if rng.random() < _CAMERA_JPEG:
        top, left = (int(n) for n in rng.integers(8, size=2))
        degraded = jpeg_compress(degraded, int(rng.integers(85, 99)))[top:, left:]
        clean = clean[top:, left:]
    low, high = (60, 93) if rng.random() < _WEAK_JPEG else (15, 60)
    quality = int(rng.integers(low, high))
    drawn = {"scale": scale, "strength": strength, "quality": quality}
    return jpeg_compress(np.ascontiguousarray(degraded), quality), clean, drawn


def _enlarged_crop(image: Pixels, side: int, scale: float, rng: np.random.Generator) -> Pixels:
    needed = min(math.ceil(side / scale), *image.shape[:2])
    top, left = (int(rng.integers(n - needed + 1)) for n in image.shape[:2])
    crop = image[top : top + needed, left : left + needed]
    if scale > 1:
        how = _INTERPOLATIONS[int(rng.integers(len(_INTERPOLATIONS)))]
        crop = np.asarray(cv2.resize(crop, None, fx=scale, fy=scale, interpolation=how), np.uint8)
    return np.ascontiguousarray(crop[:side, :side])


def rows(samples: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the table's rows: the regret of each rule against the better model of each sample."""
    noisy = np.array([sample["strength"] > 0 for sample in samples])
    best = np.array([max(sample["photo"], sample["jpeg"]) for sample in samples])
    found = []
    for name, rule in RULES.items():
        weights = np.array([rule(sample["weight"]) for sample in samples])
        reached = [
            np.interp(weight, (0, *WEIGHTS, 1), (s["jpeg"], *s["mixed"], s["photo"]))
            for weight, s in zip(weights, samples, strict=True)
        ]
        regret, both = best - np.array(reached), (weights > 0) & (weights < 1)
        parts = [regret[m].sum() / max(m.sum(), 1) for m in (~noisy, noisy)]
        found.append([name, *(f"{v:.2f}" for v in (regret.mean(), both.mean(), *parts))])
    return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--photos", nargs="+", default=[BUNDLED], help="folders of photographs (bundled)")
    add("--gray", action="store_true", help="gray photographs")
    add("--samples", type=int, default=600)
    add("--side", type=int, default=256, help="side of a sample in pixels (256)")
    add("--out", type=Path, default=Path("results/noise_under_jpeg"), help="output folder")
    arguments = parser.parse_args(argv)
    return run_entry_point(lambda: _run(arguments), "finished samples are saved")


def _run(arguments: argparse.Namespace) -> int:
    gray = arguments.gray
    source = ImageSource(arguments.photos, "gray" if gray else "rgb", heldout=True)
    photo, jpeg = Restorer("photo"), Restorer(f"jpeg_{'gray' if gray else 'color'}_medium")
    arguments.out.mkdir(parents=True, exist_ok=True)
    file = arguments.out / f"samples{'_gray' if gray else ''}.jsonl"
    text = file.read_text() if file.exists() else ""
    text = text[: text.rfind("\n") + 1]  # a kill may have left half a line
    samples = [json.loads(line) for line in text.splitlines()]
    drawn_from = {"photos": [str(folder) for folder in arguments.photos], "side": arguments.side}
    if any(sample.get("from") != drawn_from for sample in samples):
        raise VHeatIRError(f"{file} holds samples of other photos or sizes: give another --out")
    write_bytes_atomically(file, text.encode())
    remaining = range(len(samples), arguments.samples)
    with file.open("a") as stream:
        for index in track(remaining, console=Console(stderr=True), transient=True):
            degraded, clean, sample = draw_sample(
                source, arguments.side, np.random.default_rng([7, index])
            )
            results = [model.restore(degraded) for model in (photo, jpeg)]
            sample["weight"] = photo_weight(
                *(np.atleast_3d(each)[None] for each in (degraded, *results))
            )
            sample |= {
                name: min(psnr(result, clean), 99.0)
                for name, result in zip(("photo", "jpeg"), results, strict=True)
            }
            sample["mixed"] = [min(psnr(_mix(*results, w), clean), 99.0) for w in WEIGHTS]
            sample["from"] = drawn_from
            samples.append(sample)
            stream.write(json.dumps(sample) + "\n")
            stream.flush()
    table = rows(samples)
    Console().print(report.text_table(f"{len(samples)} samples, dB", HEADER, table))
    text = report.markdown(HEADER, table)
    report.write(arguments.out, "noise_under_jpeg", samples, {".md": text})
    return 0


def _mix(photo: Pixels, jpeg: Pixels, weight: float) -> Pixels:
    return to_uint8((weight * photo.astype(np.float32) + (1 - weight) * jpeg) / np.float32(255))


if __name__ == "__main__":
    sys.exit(main())
