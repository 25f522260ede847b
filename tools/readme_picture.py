"""Draw the README's picture: bundled photographs degraded and restored by the released models."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np
from numpy.typing import NDArray

from vheatir import Restorer
from vheatir.bundled import heldout_photographs
from vheatir.degradations import degrade_for_benchmark
from vheatir.image_io import write_image
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import get_task

# (photograph, rows, columns, task, level): none of them was trained on.
SHOWN = (
    ("chelsea", (30, 270), (90, 390), "denoise_color", 50),
    ("coffee", (60, 300), (180, 480), "jpeg_color", 10),
)


def main() -> None:
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


def _beside(*images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gap = np.full((images[0].shape[0], 8, 3), 255, np.uint8)
    parts = [part for image in images for part in (gap, image)][1:]
    return np.concatenate(parts, axis=1)


if __name__ == "__main__":
    main()
