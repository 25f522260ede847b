"""Draw bundled photographs degraded and restored by the released models, none trained on them.

``docs/before_after.png`` for the README, and ``docs/results/unknown_levels.png``: crops at full
size whose noise or JPEG quality the models are not told.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np
from numpy.typing import NDArray

from vheatir import Restorer
from vheatir.bundled import heldout_photographs, training_photographs
from vheatir.degradations import degrade_for_benchmark, to_color_mode
from vheatir.image_io import write_image
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import get_task

# (photograph, rows, columns, task, level): none of them was trained on.
SHOWN = (
    ("chelsea", (30, 270), (90, 390), "denoise_color", 50),
    ("coffee", (60, 300), (180, 480), "jpeg_color", 10),
)
# (photograph, top, left, task) of crops of CROP x CROP; the level is drawn.
CROP = 256
UNKNOWN = (
    ("astronaut", 20, 120, "denoise_color"),
    ("motorcycle_left", 200, 300, "denoise_gray"),
    ("coffee", 90, 230, "jpeg_color"),
    ("chelsea", 20, 110, "jpeg_gray"),
)


def main() -> None:
    """Write both pictures."""
    draw_readme_picture()
    draw_unknown_levels()


def draw_readme_picture() -> None:
    """Write docs/before_after.png."""
    rows = []
    for name, (top, bottom), (left, right), task, level in SHOWN:
        clean = np.ascontiguousarray(heldout_photographs()[name])
        degraded = degrade_for_benchmark(clean, get_task(task), level)
        restorer = Restorer(task)
        given = level if task.startswith("denoise") else None
        restored = to_uint8(restorer.restore(degraded, given))
        before, after = psnr(to_uint8(degraded), clean), psnr(restored, clean)
        sys.stdout.write(f"{name}, {task} {level}: {before:.2f} -> {after:.2f} dB\n")
        window = (slice(top, bottom), slice(left, right))
        rows.append(_beside(to_uint8(degraded)[window], restored[window], clean[window]))
    gap = np.full((8, rows[0].shape[1], 3), 255, np.uint8)
    write_image(ROOT / "docs" / "before_after.png", np.concatenate([rows[0], gap, rows[1]]))


def draw_unknown_levels() -> None:
    """Write docs/results/unknown_levels.png: degraded, ``fast``, ``light``, original."""
    photographs = {**training_photographs(), **heldout_photographs()}
    rng = np.random.default_rng(2026)
    rows = []
    for name, top, left, kind in UNKNOWN:
        task = get_task(kind)
        low, high = (5, 50) if task.degradation == "noise" else (10, 60)
        level = int(rng.integers(low, high))
        clean = to_color_mode(np.ascontiguousarray(photographs[name]), task.color)
        degraded = to_uint8(degrade_for_benchmark(clean, task, level))
        shown = [degraded]
        for size in ("fast", "light"):
            result = Restorer(f"{kind}_{size}").restore_detailed(degraded)
            shown.append(to_uint8(result.image))
            found = "" if result.level is None else f", estimated {result.level:.1f}"
            sys.stdout.write(
                f"{name}, {kind} {level}{found}: {psnr(degraded, clean):.2f} -> "
                f"{psnr(shown[-1], clean):.2f} dB ({size})\n"
            )
        window = (slice(top, top + CROP), slice(left, left + CROP))
        crops = [image[window] for image in (*shown, clean)]
        if task.color != "rgb":
            crops = [np.repeat(crop[..., None], 3, axis=-1) for crop in crops]
        rows.append(_beside(*crops))
    gap = np.full((8, rows[0].shape[1], 3), 255, np.uint8)
    lines = [part for row in rows for part in (gap, row)][1:]
    write_image(ROOT / "docs" / "results" / "unknown_levels.png", np.concatenate(lines))


def _beside(*images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gap = np.full((images[0].shape[0], 8, 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=1)


if __name__ == "__main__":
    main()
