"""Compare synthetic camera noise with real noise: strength, autocorrelation, channels, gray levels.

``python tools/noise_statistics.py --photos FOLDER --pairs FOLDER`` prints the standard deviation
and the autocorrelation of luma and chroma noise in smooth areas, as percentiles over many crops for
synthetic noise and as means for real pairs (``noisy/`` and ``clean/``), and plots both. By default
the photographs are scikit-image's, and the pairs those of $VHEATIR_DATA/test/Nam25.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import argparse
import json
import math
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from vheatir.cli import run_entry_point
from vheatir.colors import BT601_YCC
from vheatir.data.sources import BUNDLED, ImageSource
from vheatir.degradations import CameraNoise, add_camera_noise
from vheatir.degradations._filters import blur, gradient_magnitude
from vheatir.image_io import list_images, read_image, write_bytes_atomically
from vheatir.metrics import to_uint8

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_MIN_PIXELS = 300  # of a range of gray levels or slopes
#: Share of pixels that count as smooth: those with the smallest gradients.
SMOOTH = 0.4
#: Means over public data sets of real noise, measured on their files.
REAL: dict[str, dict[str, float]] = {
    "CC15": {
        "Y std": 3.7, "Y lag 1": 0.56, "Y lag 2": 0.14, "Y lag 4": 0.01, "Cb std": 2.5,
        "Cr std": 2.6, "C lag 1": 0.86, "C lag 2": 0.68, "C lag 4": 0.36, "C lag 8": 0.10,
        "R std": 5.7, "G std": 3.9, "B std": 5.3, "R-G": 0.41,
    },
    "PolyU": {
        "Y std": 2.6, "Y lag 1": 0.62, "Y lag 2": 0.26, "Y lag 4": 0.12, "Cb std": 1.4,
        "Cr std": 1.2, "C lag 1": 0.87, "C lag 2": 0.79, "C lag 4": 0.61, "C lag 8": 0.36,
        "R std": 3.2, "G std": 2.8, "B std": 3.5, "R-G": 0.61,
    },
    "Nam25": {
        "Y std": 2.1, "Y lag 1": 0.55, "Y lag 2": 0.15, "Y lag 4": 0.0, "Cb std": 1.7,
        "Cr std": 1.8, "C lag 1": 0.86, "C lag 2": 0.71, "C lag 4": 0.39, "C lag 8": 0.08,
        "R std": 3.6, "G std": 2.4, "B std": 3.5, "R-G": 0.24,
    },
}  # fmt: skip
_COLUMNS = tuple(REAL["CC15"])
#: Ranges of the slope of the blurred luma, in gray levels per pixel.
SLOPES = ((0, 0.5), (0.5, 1), (1, 2), (2, 4), (4, 8), (8, 16), (16, 256))
_LEVELS = ((0, 32), (32, 64), (64, 96), (96, 128), (128, 160), (160, 192), (192, 224), (224, 256))


def smooth_areas(clean: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Return a mask (H, W) of the 40 % of pixels where the blurred luma changes least."""
    luma = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY).astype(np.float32)
    gradient = gradient_magnitude(blur(luma, 2))
    return gradient <= np.quantile(gradient, SMOOTH)


def statistics(noisy: NDArray[Any], clean: NDArray[np.uint8]) -> dict[str, float]:
    """Measure the noise in the smooth areas of an image, on 0..255."""
    residual = np.asarray(noisy, np.float32) - clean
    where = smooth_areas(clean)
    y, cb, cr = cv2.split(_to_ycc(residual))
    result = {"Y std": _std(y, where), "Cb std": _std(cb, where), "Cr std": _std(cr, where)}
    result |= {f"Y lag {lag}": _correlation(y, where, lag) for lag in (1, 2, 4)}
    for lag in (1, 2, 4, 8):
        both = [_correlation(plane, where, lag) for plane in (cb, cr)]
        result[f"C lag {lag}"] = float(np.mean(both))
    channels = [residual[..., c][where] for c in range(3)]
    result |= {f"{n} std": float(c.std()) for n, c in zip("RGB", channels, strict=True)}
    result["R-G"] = float(np.corrcoef(channels[0], channels[1])[0, 1])
    return {name: result[name] for name in _COLUMNS}


def by_gray_level(noisy: NDArray[Any], clean: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the luma noise of smooth areas by gray level, relative to that at 64 to 96: (8,).

    NaN for a range of levels with few pixels, and for all if that at 64 to 96 has few.
    """
    gray = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY)
    where = smooth_areas(clean)
    parts = [where & (gray >= low) & (gray < high) for low, high in _LEVELS]
    return _relative(noisy, clean, parts, _LEVELS.index((64, 96)))


def by_slope(noisy: NDArray[Any], clean: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the luma noise by range of slope, relative to that in the first range: (7,).

    NaN for a range with few pixels, and for all if the first has few or no noise.
    """
    gray = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY).astype(np.float32)
    slope = gradient_magnitude(blur(gray, 1.5))
    return _relative(noisy, clean, [(slope >= low) & (slope < high) for low, high in SLOPES], 0)


def _relative(
    noisy: NDArray[Any], clean: NDArray[np.uint8], parts: list[NDArray[np.bool_]], reference: int
) -> NDArray[np.float64]:
    """Return the standard deviation of the luma noise in each part, relative to one of them."""
    luma = _to_ycc(np.asarray(noisy, np.float32) - clean)[..., 0]
    stds = np.array([luma[p].std() if p.sum() >= _MIN_PIXELS else np.nan for p in parts])
    return stds / (stds[reference] or np.nan)


def _to_ycc(rgb: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray(cv2.transform(rgb, BT601_YCC))


def _std(plane: NDArray[np.float32], where: NDArray[np.bool_]) -> float:
    return float(plane[where].std())


def _correlation(plane: NDArray[np.float32], where: NDArray[np.bool_], lag: int) -> float:
    """Autocorrelation at a lag: mean over rows and columns, for pairs of smooth pixels."""
    values = []
    for a, mask in ((plane, where), (plane.T, where.T)):
        both = mask[:, lag:] & mask[:, :-lag]
        first, second = a[:, lag:][both], a[:, :-lag][both]
        # Undefined without noise, as on black: 0.
        has_noise = first.size > 2 and first.std() > 0 and second.std() > 0
        values.append(float(np.corrcoef(first, second)[0, 1]) if has_noise else 0.0)
    return float(np.mean(values))


def synthetic_crops(
    source: ImageSource, count: int, size: int, seed: int
) -> Iterator[tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Yield (noisy, clean) crops with synthetic camera noise, ``uint8`` as stored in a file."""
    rng = np.random.default_rng(seed)
    for _ in range(count):
        image = source[int(rng.integers(len(source)))]
        height, width = (min(n, size) for n in image.shape[:2])
        top = int(rng.integers(image.shape[0] - height + 1))
        left = int(rng.integers(image.shape[1] - width + 1))
        clean = np.ascontiguousarray(image[top : top + height, left : left + width])
        unit = clean.astype(np.float32) / np.float32(255)
        noisy = add_camera_noise(unit, CameraNoise.draw(rng), rng)
        yield to_uint8(noisy), clean


def real_pairs(folder: Path) -> Iterator[tuple[NDArray[Any], NDArray[np.uint8]]]:
    """Yield (noisy, clean) from a folder of pairs."""
    for path in list_images(folder / "noisy"):
        clean = read_image(folder / "clean" / path.name)
        yield read_image(path), np.asarray(clean, np.uint8)


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    data = os.environ.get("VHEATIR_DATA")
    nam = Path(data) / "test" / "Nam25" if data else None
    add("--photos", nargs="+", default=[BUNDLED], help="folders of clean photographs (bundled)")
    add("--pairs", type=Path, default=nam, help="folder with noisy/ and clean/")
    add("--crops", type=int, default=500, help="number of synthetic crops (500)")
    add("--size", type=int, default=256, help="maximum side of a synthetic crop (256)")
    add("--seed", type=int, default=0)
    add("--out", type=Path, default=Path("results/noise_statistics"), help="output folder")
    arguments = parser.parse_args()
    return run_entry_point(lambda: _run(arguments), "nothing was written", extra="train")


def _run(arguments: argparse.Namespace) -> int:
    from matplotlib.figure import Figure  # if it is missing, say so before the measurements

    source = ImageSource(arguments.photos, "rgb", cache=True)
    made = []
    levels: dict[str, list[NDArray[np.float64]]] = {"made": [], "real": []}
    slopes: dict[str, list[NDArray[np.float64]]] = {"made": [], "real": []}
    for pair in synthetic_crops(source, arguments.crops, arguments.size, arguments.seed):
        made.append(statistics(*pair))
        levels["made"].append(by_gray_level(*pair))
        slopes["made"].append(by_slope(*pair))
    real = dict(REAL)
    if arguments.pairs is not None:
        measured = []
        for pair in real_pairs(arguments.pairs):
            measured.append(statistics(*pair))
            levels["real"].append(by_gray_level(*pair))
            slopes["real"].append(by_slope(*pair))
        means = {name: float(np.mean([m[name] for m in measured])) for name in _COLUMNS}
        real[f"{arguments.pairs.name}*"] = means
    report = {"columns": _columns(made, real), "gray_levels": [list(level) for level in _LEVELS],
              "by_gray_level": _medians(levels), "slopes": [list(slope) for slope in SLOPES],
              "by_slope": _medians(slopes)}  # fmt: skip
    _print(report)
    figure = Figure(figsize=(16, 3.6), layout="constrained")
    _plot(figure, report)
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(report, indent=1) + "\n"
    write_bytes_atomically(arguments.out / "noise_statistics.json", text.encode())
    figure.savefig(arguments.out / "noise_statistics.png", dpi=110)
    sys.stdout.write(f"wrote {arguments.out / 'noise_statistics.json'} and .png\n")
    return 0


def _columns(
    made: list[dict[str, float]], real: dict[str, dict[str, float]]
) -> dict[str, dict[str, Any]]:
    columns = {}
    for name in _COLUMNS:
        low, middle, high = np.percentile([m[name] for m in made], (10, 50, 90))
        values = [means[name] for means in real.values()]
        inside = bool(low <= min(values) and max(values) <= high)
        near = None
        if "lag 1" in name:
            near = bool(max(abs(middle / value - 1) for value in values) <= 0.25)
        columns[name] = {
            "p10": float(low), "p50": float(middle), "p90": float(high),
            **{key: means[name] for key, means in real.items()}, "inside": inside, "near": near,
        }  # fmt: skip
    return columns


def _medians(rows: dict[str, list[NDArray[np.float64]]]) -> dict[str, list[float]]:
    return {n: [float(v) for v in np.nanmedian(r, axis=0)] for n, r in rows.items() if r}


def _print(report: dict[str, Any]) -> None:
    console = Console()
    table = Table(
        title="Noise in smooth areas: synthetic (percentiles over crops) and real (means)",
        caption="* measured here; inside: real means within p10 to p90; near: p50 within 25 % of "
        "the real means",
    )
    keys = list(next(iter(report["columns"].values())))
    for key in ("", *keys):
        table.add_column(key, justify="right" if key else "left", no_wrap=True)
    for name, row in report["columns"].items():
        cells = ["" if row[k] is None else "yes" if row[k] is True else "no" if row[k] is False
                 else f"{row[k]:.2f}" for k in keys]  # fmt: skip
        table.add_row(name, *cells)
    console.print(table)
    for title, ranges, rows in (
        ("gray level", report["gray_levels"], report["by_gray_level"]),
        ("slope of the content, gray levels per pixel", report["slopes"], report["by_slope"]),
    ):
        relative = Table(title=f"Relative luma noise, median image, by {title}")
        relative.add_column("")
        for low, high in ranges:
            relative.add_column(f"{low:g}-{high:g}", justify="right")
        for name, values in rows.items():
            relative.add_row(name, *(f"{v:.2f}" for v in values))
        console.print(relative)


def _plot(figure: Figure, report: dict[str, Any]) -> None:
    axes = figure.subplots(1, 4)
    columns = report["columns"]
    names = [[n for n in columns if "std" in n], [n for n in columns if "std" not in n]]
    for axis, group in zip(axes, names, strict=False):
        places = np.arange(len(group))
        low, middle, high = ([columns[n][p] for n in group] for p in ("p10", "p50", "p90"))
        axis.bar(
            places, np.subtract(high, low), bottom=low, color="#f4c38a", label="synthetic, 10-90 %"
        )
        axis.plot(places, middle, "_", color="#b35900", markersize=16, label="synthetic, median")
        for set_name, marker in zip(REAL, "os^", strict=False):
            axis.plot(places, [columns[n][set_name] for n in group], marker, label=set_name)
        axis.set_xticks(places, group, rotation=60)
    axes[0].set_title("standard deviation, on 0..255")
    axes[1].set_title("autocorrelation; R-G correlation")
    axes[1].legend(fontsize=7)
    centres = [sum(level) / 2 for level in report["gray_levels"]]
    for name, values in report["by_gray_level"].items():
        axes[2].plot(centres, values, label=name)
    axes[2].set_title("luma noise over gray level, relative")
    axes[2].legend()
    centres = [math.sqrt(max(low, 0.125) * high) for low, high in report["slopes"]]
    for name, values in report["by_slope"].items():
        axes[3].semilogx(centres, values, label=name)
    axes[3].set_title("luma noise over slope, relative")
    axes[3].legend()


if __name__ == "__main__":
    sys.exit(main())
