"""Compare noise estimates with the truth, for synthetic noise of known strength and real pairs.

``python tools/noise_estimate_table.py --photos FOLDER --pairs FOLDER`` prints the true and the
estimated standard deviation in smooth areas for each degradation. By default the photographs are
scikit-image's, and the pairs (``noisy/`` and ``clean/``) those of $VHEATIR_DATA/test/Nam25;
``--pairs none`` skips them.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import argparse
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from benchmarks import report
from tools.noise_statistics import real_pairs, smooth_areas
from vheatir.bundled import heldout_photographs, training_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import CameraNoise, add_camera_noise, add_noise, jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.image_io import list_images, read_image
from vheatir.inference import estimate_noise, estimate_sigma
from vheatir.inference.estimate import estimate_blockiness
from vheatir.metrics import to_uint8

_Image = NDArray[np.uint8]
_Degradation = Callable[[_Image, np.random.Generator], _Image]

#: Relative error up to which an estimate counts as correct.
TOLERANCE = 0.3
NOTE = (
    "Medians over n images, on 0..255: Y and C, the standard deviation of luma and chroma noise in "
    "smooth areas, true and estimated; +-30 %, number of Y estimates within 30 % of the truth; "
    "corr., number of images classified as correlated; fine, share of the details of stride 1 in "
    "Y; sigma and blocks, the estimates of white noise and of JPEG block borders."
)
_COLUMNS = "degradation|n|Y true|Y|+-30 %|C true|C|corr.|fine|sigma|blocks"
_HEADER = _COLUMNS.split("|")


def _white(sigma: float) -> _Degradation:
    return lambda image, rng: to_uint8(add_noise(_unit(image), sigma, rng))


def _blurred(sigma: float, blur: float) -> _Degradation:
    def degrade(image: _Image, rng: np.random.Generator) -> _Image:
        from scipy.ndimage import gaussian_filter

        noise = gaussian_filter(rng.standard_normal(image.shape), (blur, blur, 0))
        return to_uint8(_unit(image) + (sigma / 255 / noise.std()) * noise)

    return degrade


def _camera(luma: float) -> _Degradation:
    def degrade(image: _Image, rng: np.random.Generator) -> _Image:
        return to_uint8(add_camera_noise(_unit(image), CameraNoise.draw(rng, luma), rng))

    return degrade


def _then_jpeg(first: _Degradation | None, *qualities: int) -> _Degradation:
    def both(image: _Image, rng: np.random.Generator) -> _Image:
        image = image if first is None else first(image, rng)
        for index, quality in enumerate(qualities):
            # The second compression's grid is offset from the first one's, as after a crop.
            image = jpeg_compress(np.roll(image, (3 * index, 5 * index), (0, 1)), quality)
        return np.roll(image, (-3, -5), (0, 1)) if len(qualities) > 1 else image

    return both


DAMAGES: dict[str, _Degradation] = {
    "clean": lambda image, rng: image,
    **{f"white {sigma}": _white(sigma) for sigma in (2, 5, 15, 25, 50)},
    **{f"blurred {sigma}": _blurred(sigma, 0.7) for sigma in (5, 15)},
    **{f"camera {luma}": _camera(luma) for luma in (1, 2, 4, 8)},
    "camera 2, JPEG 95": _then_jpeg(_camera(2), 95),
    "camera 4, JPEG 95": _then_jpeg(_camera(4), 95),
    "camera 4, JPEG 85": _then_jpeg(_camera(4), 85),
    **{f"white {s}, JPEG {q}": _then_jpeg(_white(s), q) for s in (5, 15) for q in (95, 75)},
    **{f"JPEG {quality}": _then_jpeg(None, quality) for quality in (90, 60, 30, 10)},
    "JPEG 60, then 80": _then_jpeg(None, 60, 80),
}


def measure(name: str, noisy: _Image, clean: _Image) -> dict[str, Any]:
    """Return the true and the estimated values of one image."""
    residual = np.asarray(noisy, np.float32) - clean
    y, cr, cb = cv2.cvtColor(residual, cv2.COLOR_RGB2YCrCb)[smooth_areas(clean)].std(axis=0)
    found = estimate_noise(noisy)
    unit = _unit(noisy)
    return {
        "damage": name,
        "true_luma": float(y),
        "true_chroma": float(np.hypot(cb, cr) / np.sqrt(2)),
        "luma": found.luma,
        "chroma": found.chroma,
        "correlated": found.correlated,
        **dict(zip(("luma_1", "luma_2", "luma_4"), found.luma_scales, strict=True)),
        **dict(zip(("chroma_4", "chroma_8", "chroma_16"), found.chroma_scales, strict=True)),
        "sigma": estimate_sigma(unit),
        "blockiness": estimate_blockiness(unit),
    }


def rows(records: Sequence[dict[str, Any]]) -> Iterator[list[str]]:
    """Yield the table row of each degradation: medians over its images."""
    for name in dict.fromkeys(record["damage"] for record in records):
        own = [record for record in records if record["damage"] == name]

        def median(key: str, own: list[dict[str, Any]] = own) -> float:
            return float(np.median([record[key] for record in own]))

        correct = [abs(r["luma"] - r["true_luma"]) <= TOLERANCE * r["true_luma"] for r in own]
        shares = [record["luma_1"] / max(record["luma"], 0.01) for record in own]
        yield [
            name,
            str(len(own)),
            f"{median('true_luma'):.2f}",
            f"{median('luma'):.2f}",
            f"{sum(correct)}" if median("true_luma") > 0 else "-",
            f"{median('true_chroma'):.2f}",
            f"{median('chroma'):.2f}",
            f"{sum(record['correlated'] for record in own)}",
            f"{np.median(shares):.2f}",
            f"{median('sigma'):.1f}",
            f"{median('blockiness'):.2f}",
        ]


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    data = os.environ.get("VHEATIR_DATA")
    nam = str(Path(data) / "test" / "Nam25") if data else "none"
    add("--photos", nargs="+", type=Path, default=[], help="folders of clean photographs (bundled)")
    add("--pairs", default=nam, help="folder with noisy/ and clean/, or none")
    add("--images", type=int, default=12, help="maximum number of photographs, evenly spaced (12)")
    add("--size", type=int, default=512, help="maximum side of the center crop (512)")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("results/noise_estimate"), help="output folder")
    arguments = parser.parse_args()
    return report.exit_status(lambda: _run(arguments))


def _run(arguments: argparse.Namespace) -> None:
    if min(arguments.images, arguments.size) < 1:
        raise VHeatIRError("--images and --size must be at least 1")
    records = []
    for index, clean in enumerate(_photographs(arguments)):
        for name, degrade in DAMAGES.items():
            rng = np.random.default_rng([arguments.seed, index])
            records.append(measure(name, degrade(clean, rng), clean))
    if arguments.pairs != "none":
        pairs = Path(arguments.pairs)
        for noisy, clean in real_pairs(pairs):
            records.append(measure(f"{pairs.name} (real)", np.asarray(noisy, np.uint8), clean))
    table = list(rows(records))
    Console().print(NOTE)
    Console().print(report.text_table("Noise in smooth areas, on 0..255: medians", _HEADER, table))
    texts = {
        ".md": f"{NOTE}\n\n{report.markdown(_HEADER, table)}",
        ".csv": report.csv_text(records),
    }
    report.write(arguments.out, "noise_estimate", records, texts)
    sys.stdout.write(f"wrote {arguments.out / 'noise_estimate'}.md, .csv and .json\n")


def _photographs(arguments: argparse.Namespace) -> Iterator[_Image]:
    if arguments.photos:
        paths = [path for folder in arguments.photos for path in list_images(folder)]
        chosen = np.unique(np.linspace(0, len(paths) - 1, arguments.images, dtype=int))
        images: Iterator[Any] = (read_image(paths[index]) for index in chosen)
    else:
        every = {**heldout_photographs(), **training_photographs()}
        images = iter(list(every.values())[: arguments.images])
    for image in images:
        rgb = to_color_mode(image, "rgb")
        height, width = (min(length, arguments.size) for length in rgb.shape[:2])
        top, left = (rgb.shape[0] - height) // 2, (rgb.shape[1] - width) // 2
        yield np.ascontiguousarray(rgb[top : top + height, left : left + width])


def _unit(image: _Image) -> NDArray[np.float32]:
    return image.astype(np.float32) / np.float32(255)


if __name__ == "__main__":
    sys.exit(main())
