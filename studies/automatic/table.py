"""How well Automatic chooses: every degradation by every released model, and the regret.

``python studies/automatic/table.py --photos FOLDER`` degrades clean photographs in every way that
Automatic has to distinguish, restores them with every released model at several levels, and prints
for each degradation the average PSNR of the input, of Automatic, of the best model with one level
for all images, and the difference of the last two (regret). Photographs are center-cropped. By
default they are scikit-image's held-out ones; for results to report, give folders that contain the
photographs in ``options/lists/heldout_clean_licence.txt``, which no model was trained on.

The last columns are the colour shift of Automatic, the largest over R, G and B, on 0..255: for flat
gray cards of 32 to 224, and for the pixels of photographs whose clean value is 32 to 224. The mean
of a result is compared with that of its input, since correlated noise has a nonzero mean.

Everything is saved as JSON (with the estimates for each image), Markdown and CSV.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
if not __package__:  # run as a script
    sys.path[0] = str(ROOT)

import argparse
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks import report
from studies.automatic.graphics import clean_graphics
from vheatir.cli import run_entry_point
from vheatir.colors import to_color_mode
from vheatir.data.sources import BUNDLED, ImageSource
from vheatir.degradations import CameraNoise, add_camera_noise, add_noise, jpeg_compress
from vheatir.degradations._filters import blur
from vheatir.errors import unknown_name
from vheatir.image_io import list_images, read_image
from vheatir.inference import AutoRestorer, Choice, Restorer
from vheatir.inference.estimate import estimate_blockiness, estimate_sigma
from vheatir.inference.noise_estimate import estimate_noise
from vheatir.metrics import psnr, to_uint8
from vheatir.training.paths import resolve_list
from vheatir.zoo import list_models

HELD_OUT = "options/lists/heldout_clean_licence.txt"
CARDS = (32, 80, 128, 176, 224)
LEVELS = (5.0, 10.0, 15.0, 20.0, 25.0, 50.0)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """One test image: degraded, clean, the quality of its JPEG file, or another codec."""

    damaged: Pixels
    clean: Pixels
    quality: int | None = None
    codec: str | None = None


def _unit(image: Pixels) -> NDArray[np.float32]:
    return image.astype(np.float32) / np.float32(255)


def white(sigma: float) -> Callable[[Pixels, np.random.Generator], Case]:
    """Return white Gaussian noise."""
    return lambda clean, rng: Case(to_uint8(add_noise(_unit(clean), sigma, rng)), clean)


def blurred(sigma: float, filter_sigma: float) -> Callable[[Pixels, np.random.Generator], Case]:
    """Return Gaussian noise of standard deviation ``sigma`` after a Gaussian filter."""

    def degrade(clean: Pixels, rng: np.random.Generator) -> Case:
        noise = blur(rng.standard_normal(clean.shape, dtype=np.float32), filter_sigma)
        return Case(to_uint8(_unit(clean) + noise * np.float32(sigma / 255 / noise.std())), clean)

    return degrade


def camera(luma_std: float) -> Callable[[Pixels, np.random.Generator], Case]:
    """Return camera noise of a given strength, with a camera drawn per image."""

    def degrade(clean: Pixels, rng: np.random.Generator) -> Case:
        noise = CameraNoise.draw(rng, luma_std=luma_std)
        return Case(to_uint8(add_camera_noise(_unit(clean), noise, rng)), clean)

    return degrade


def jpeg(
    quality: int, before: Callable[[Pixels, np.random.Generator], Case] | None = None
) -> Callable[[Pixels, np.random.Generator], Case]:
    """Return JPEG compression, optionally after another degradation."""

    def degrade(clean: Pixels, rng: np.random.Generator) -> Case:
        degraded = clean if before is None else before(clean, rng).damaged
        return Case(jpeg_compress(degraded, quality), clean, quality)

    return degrade


def recompressed(first: int, second: int) -> Callable[[Pixels, np.random.Generator], Case]:
    """Return two JPEG compressions whose grids are offset by three and five pixels."""

    def degrade(clean: Pixels, rng: np.random.Generator) -> Case:
        degraded = jpeg_compress(clean, first)[3:, 5:]
        return Case(jpeg_compress(np.ascontiguousarray(degraded), second), clean[3:, 5:], second)

    return degrade


def codec(name: str, quality: int) -> Callable[[Pixels, np.random.Generator], Case]:
    """Return compression by another codec, ``"WebP"`` or ``"AVIF"``."""

    def degrade(clean: Pixels, rng: np.random.Generator) -> Case:
        file = io.BytesIO()
        Image.fromarray(clean).save(file, name, quality=quality)
        return Case(np.asarray(Image.open(file).convert("RGB")), clean, codec=name)

    return degrade


def resized(scale: float, quality: int | None) -> Callable[[Pixels, np.random.Generator], Case]:
    """Return JPEG compression, if ``quality`` is given, and then a change of size.

    The image is stored without further loss, so that nothing tells that it was compressed.
    """

    def degrade(clean: Pixels, rng: np.random.Generator) -> Case:
        compressed = clean if quality is None else jpeg_compress(clean, quality)
        return Case(_resize(compressed, scale), _resize(clean, scale))

    return degrade


def _resize(image: Pixels, scale: float) -> Pixels:
    interpolation = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    changed = cv2.resize(image, None, fx=scale, fy=scale, interpolation=interpolation)
    return np.asarray(changed, np.uint8)


def _gray(degrade: Callable[[Pixels, np.random.Generator], Case], mode: str) -> Callable[..., Case]:
    """Return the degradation of the photograph's gray version, stored as ``mode``."""

    def degrade_gray(clean: Pixels, rng: np.random.Generator) -> Case:
        case = degrade(np.asarray(cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY), np.uint8), rng)
        if mode == "L":
            return case
        both = [np.repeat(each[..., None], 3, axis=2) for each in (case.damaged, case.clean)]
        return Case(both[0], both[1], case.quality)

    return degrade_gray


def _enlarged(degrade: Callable[[Pixels, np.random.Generator], Case]) -> Callable[..., Case]:
    """Return the degradation of the photograph's centre, enlarged by 2.

    Photographs as a camera stores them are less sharp, pixel by pixel, than those of training and
    benchmarks, which were made smaller.
    """

    def degrade_enlarged(clean: Pixels, rng: np.random.Generator) -> Case:
        large = _resize(centre(clean, min(clean.shape[:2]) // 2 + 16), 2)
        return degrade(centre(large, min(clean.shape[:2])), rng)

    return degrade_enlarged


ROWS: dict[str, Callable[[Pixels, np.random.Generator], Case]] = {
    "clean": lambda clean, rng: Case(clean, clean),
    "white noise 5": white(5),
    "white noise 15": white(15),
    "white noise 25": white(25),
    "white noise 50": white(50),
    "blurred noise 8": blurred(8, 0.8),
    "JPEG 10": jpeg(10),
    "JPEG 30": jpeg(30),
    "JPEG 60": jpeg(60),
    "JPEG 90": jpeg(90),
    "JPEG 40, then 90": recompressed(40, 90),
    "white noise 15, JPEG 75": jpeg(75, white(15)),
    "blurred noise 8, JPEG 75": jpeg(75, blurred(8, 0.8)),
    "camera noise 2": camera(2),
    "camera noise 4": camera(4),
    "camera noise 8": camera(8),
    "camera noise 4, JPEG 90": jpeg(90, camera(4)),
    "gray: white noise 15": _gray(white(15), "L"),
    "gray: camera noise 4": _gray(camera(4), "L"),
    "gray as RGB: camera noise 4": _gray(camera(4), "RGB"),
    "gray: JPEG 30": _gray(jpeg(30), "L"),
    "enlarged: clean": _enlarged(lambda clean, rng: Case(clean, clean)),
    "enlarged: JPEG 60": _enlarged(jpeg(60)),
    "enlarged: JPEG 90": _enlarged(jpeg(90)),
    "enlarged: camera noise 2": _enlarged(camera(2)),
    "enlarged: camera noise 2, JPEG 80": _enlarged(jpeg(80, camera(2))),
    "enlarged: camera noise 2, JPEG 90": _enlarged(jpeg(90, camera(2))),
    "enlarged: camera noise 4, JPEG 90": _enlarged(jpeg(90, camera(4))),
    "WebP 40": codec("WebP", 40),
    "WebP 75": codec("WebP", 75),
    "AVIF 50": codec("AVIF", 50),
    "clean, then reduced": resized(0.75, None),
    "clean, then enlarged": resized(1.5, None),
    "JPEG 30, then reduced": resized(0.75, 30),
    "JPEG 60, then reduced": resized(0.75, 60),
    "JPEG 30, then enlarged": resized(1.5, 30),
    "JPEG 60, then enlarged": resized(1.5, 60),
}
#: Drawings, screenshots and text.
GRAPHICS: dict[str, Callable[[Pixels], Case]] = {
    "clean graphics": lambda clean: Case(clean, clean),
    "graphics: JPEG 90": lambda clean: Case(jpeg_compress(clean, 90), clean, 90),
    "graphics: JPEG 60": lambda clean: Case(jpeg_compress(clean, 60), clean, 60),
}


def cases(row: str, photos: list[Pixels]) -> Iterator[Case]:
    """Yield the images of a row; deterministic."""
    if row in GRAPHICS:
        graphics = clean_graphics()
        if row != "clean graphics":
            # Stored after JPEG: its DCT coefficients are multiples of quantisation steps (those of
            # a quality of about 64), so it is no reference for what compression changed.
            del graphics["scikit-image page"]
        yield from (GRAPHICS[row](image) for image in graphics.values())
        return
    for index, clean in enumerate(photos):
        yield ROWS[row](clean, np.random.default_rng([list(ROWS).index(row), index]))


def pairs(folder: Path) -> Iterator[Case]:
    """Yield real pairs of images with equal file names."""
    for path in list_images(folder / "noisy"):
        noisy, clean = (
            to_color_mode(read_image(folder / kind / path.name), "rgb")
            for kind in ("noisy", "clean")
        )
        yield Case(noisy, clean)


class Study:
    """Restores images and measures PSNR; each network is loaded once."""

    def __init__(
        self, device: str, photo: str | None = None, levels: Sequence[float] = LEVELS
    ) -> None:
        self._levels = levels
        self._device = device
        self._photo = photo
        self._restorers: dict[str, Restorer] = {}
        self._auto = AutoRestorer(device=device, load=self.restorer)

    def restorer(self, name: str) -> Restorer:
        """Return a model, loaded."""
        if name not in self._restorers:
            file = self._photo if name == "photo" and self._photo else name
            self._restorers[name] = Restorer(file, self._device)
        return self._restorers[name]

    def restore(self, name: str | None, level: float | None, case: Case) -> Pixels:
        """Restore an image with a model at a level; without a model, return the input."""
        if name is None:
            return case.damaged
        model = self.restorer(name)
        restored: Pixels = model.restore(case.damaged, level if model.takes_level else None)
        return restored

    def automatic(self, case: Case) -> tuple[Choice, Pixels]:
        """Return Automatic's choice for an image, and its result."""
        choice, model, level = self._auto.choose(case.damaged, case.quality, case.codec)
        return choice, case.damaged if model is None else model.restore(case.damaged, level)

    def measure(self, name: str | None, level: float | None, case: Case) -> float:
        """Return the PSNR of :meth:`restore` in dB, capped at 99."""
        return min(psnr(self.restore(name, level, case), case.clean), 99.0)

    def candidates(self, sample: Case, models: list[str]) -> list[tuple[str, float | None]]:
        """Return the (model, level) pairs that fit the colour mode of a row."""
        gray = sample.damaged.ndim == 2
        found: list[tuple[str, float | None]] = []
        for name in models:
            model = self.restorer(name)
            if gray != (model.task is not None and model.task.color != "rgb") and not (
                gray and model.task is not None and model.task.kind == "photo"
            ):
                continue
            found += [(name, level) for level in (self._levels if model.takes_level else (None,))]
        return found


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--photos", nargs="+", default=[BUNDLED], help="folders of photographs (bundled)")
    add("--pairs", type=Path, metavar="DIR", help="also real pairs, in DIR/noisy and DIR/clean")
    add("--models", nargs="+", help="models to compare (default: all released ones)")
    add("--photo-model", metavar="FILE", help="weights for the task photo (the released ones)")
    add("--levels", nargs="+", type=float, default=LEVELS, metavar="N", help="sigmas to try")
    add("--rows", nargs="+", help=f"degradations: {', '.join([*ROWS, *GRAPHICS])} (all)")
    add("--images", type=int, default=30, help="maximum number of photographs (30)")
    add("--size", type=int, default=256, help="side of the central square crop (256)")
    add("--device", default="auto")
    add("--out", type=Path, default=Path("results/automatic"), help="folder for the tables")
    arguments = parser.parse_args(argv)
    return run_entry_point(lambda: _run(arguments), "finished rows are saved")


def open_photographs(roots: Sequence[str]) -> ImageSource:
    """Return the photographs of :data:`HELD_OUT` below folders, or the bundled held-out ones."""
    include = [] if list(roots) == [BUNDLED] else [str(resolve_list(HELD_OUT))]
    return ImageSource(roots, "rgb", include=include, heldout=True)


def _run(arguments: argparse.Namespace) -> int:
    source = open_photographs(arguments.photos)
    every = max(1, len(source) // arguments.images)
    chosen = range(0, len(source), every)[: arguments.images]
    photos = [centre(source[i], arguments.size) for i in chosen]
    models = arguments.models or [e.name for e in list_models() if e.level is None]
    study, results = Study(arguments.device, arguments.photo_model, arguments.levels), []
    console = Console()
    rows = arguments.rows or [*ROWS, *GRAPHICS]
    for row in rows:
        if row not in {**ROWS, **GRAPHICS}:
            raise unknown_name("row", row, [*ROWS, *GRAPHICS])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("", total=len(rows))
        for row in rows:
            progress.update(bar, description=row)
            results.append(measure_row(study, row, list(cases(row, photos)), models))
            progress.advance(bar)
            _save(results, arguments.out)
        if arguments.pairs is not None:
            progress.update(bar, description=arguments.pairs.name)
            row = f"{arguments.pairs.name} (real)"
            results.append(measure_row(study, row, list(pairs(arguments.pairs)), ["photo"]))
            _save(results, arguments.out)
    console.print(_table(results))
    return 0


def measure_row(study: Study, row: str, images: list[Case], models: list[str]) -> dict[str, Any]:
    """Measure every candidate and Automatic on one degradation."""
    every = {}
    for name, level in study.candidates(images[0], models):
        label = name if level is None else f"{name} {level:g}"
        every[label] = [study.measure(name, level, case) for case in images]
    every["unchanged"] = [study.measure(None, None, case) for case in images]
    choices, restored = zip(*(study.automatic(case) for case in images), strict=True)
    automatic = [
        min(psnr(image, case.clean), 99.0) for image, case in zip(restored, images, strict=True)
    ]
    best = max(every, key=lambda label: float(np.mean(every[label])))
    return {
        "row": row,
        "images": len(images),
        "input": float(np.mean(every["unchanged"])),
        "automatic": float(np.mean(automatic)),
        "best": float(np.mean(every[best])),
        "best_model": best,
        "regret": float(np.mean(every[best]) - np.mean(automatic)),
        "worst_gain": float(np.min(np.subtract(automatic, every["unchanged"]))),
        "card_shift": card_shift(study, row),
        "photo_shift": photo_shift(restored, images),
        "features": [features(case) for case in images],
        "choices": [asdict(choice) for choice in choices],
        "psnr": every,
        "psnr_automatic": automatic,
    }


def card_shift(study: Study, row: str) -> float | None:
    """Return the mean colour shift of Automatic on degraded flat cards, on 0..255."""
    if row not in ROWS:
        return None
    shifts = []
    for index, gray in enumerate(CARDS):
        card = np.full((128, 128, 3), gray, np.uint8)
        case = ROWS[row](card, np.random.default_rng([99, index]))
        _, restored = study.automatic(case)
        shifts.append(restored.mean((0, 1)) - case.damaged.mean((0, 1)))
    return float(np.abs(np.mean(shifts, axis=0)).max())


def photo_shift(restored: Sequence[Pixels], images: Sequence[Case]) -> float:
    """Return the same for pixels of photographs that are neither dark nor bright."""
    shifts = []
    for image, case in zip(restored, images, strict=True):
        inside = ((case.clean >= 32) & (case.clean <= 224)).reshape(-1, *case.clean.shape[2:])
        difference = (image.astype(float) - case.damaged).reshape(inside.shape)
        shifts.append((difference * inside).sum(0) / np.maximum(inside.sum(0), 1))
    return float(np.abs(np.mean(shifts, axis=0)).max())


def features(case: Case) -> dict[str, Any]:
    """Return every feature that may distinguish the degradations."""
    unit = _unit(case.damaged)
    return {
        "sigma": estimate_sigma(unit),
        "blockiness": estimate_blockiness(unit),
        "quality": case.quality,
        **asdict(estimate_noise(case.damaged)),
    }


def centre(image: Pixels, size: int) -> Pixels:
    """Return the central square of an image, or as much of it as the image has."""
    top, left = (max(n - size, 0) // 2 for n in image.shape[:2])
    return np.ascontiguousarray(image[top : top + size, left : left + size])


_HEAD = (
    "degradation", "images", "input", "Automatic", "best", "regret", "best model", "card shift",
    "photo shift",
)  # fmt: skip


def _cells(result: dict[str, Any]) -> list[str]:
    values = [f"{result[key]:.2f}" for key in ("input", "automatic", "best", "regret")]
    shifts = [result["card_shift"], result["photo_shift"]]
    text = ["-" if shift is None else f"{shift:.2f}" for shift in shifts]
    return [result["row"], str(result["images"]), *values, result["best_model"], *text]


def _table(results: list[dict[str, Any]]) -> Table:
    table = Table(title="Automatic: average PSNR in dB over RGB or gray")
    for name in _HEAD:
        table.add_column(name, justify="left" if name in ("degradation", "best model") else "right")
    for result in results:
        table.add_row(*_cells(result))
    return table


def _save(results: list[dict[str, Any]], folder: Path) -> None:
    rows = [_cells(result) for result in results]
    records = [dict(zip(_HEAD, row, strict=True)) for row in rows]
    texts = {".md": report.markdown(_HEAD, rows), ".csv": report.csv_text(records)}
    report.write(folder, "automatic", results, texts)


if __name__ == "__main__":
    sys.exit(main())
