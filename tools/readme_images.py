"""Draw degraded and restored photographs that no released model was trained on.

``docs/before_after.png``, for the README, is restored by Automatic.
``docs/results/unknown_levels.png`` shows full-size crops, restored without the noise level or JPEG
quality as input.
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
from vheatir.colors import to_color_mode
from vheatir.degradations import CameraNoise, add_camera_noise, degrade_for_benchmark, jpeg_compress
from vheatir.image_io import write_image
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import get_task

# (photograph, rows, columns, degradation, sigma or JPEG quality); held out from training.
SHOWN = (
    ("chelsea", (30, 270), (90, 390), "photo", 90),
    ("coffee", (60, 300), (180, 480), "jpeg", 10),
    ("chelsea", (10, 250), (0, 300), "noise", 50),
)
CAMERA_LUMA_STD = 6.0
# (photograph, top, left, task) of crops of CROP x CROP; the level is drawn at random.
CROP = 256
UNKNOWN = (
    ("astronaut", 20, 120, "denoise_color"),
    ("motorcycle_left", 200, 300, "denoise_gray"),
    ("coffee", 90, 230, "jpeg_color"),
    ("chelsea", 20, 110, "jpeg_gray"),
)


def main() -> None:
    """Write both images."""
    draw_before_after()
    draw_unknown_levels()


def draw_before_after() -> None:
    """Write docs/before_after.png."""
    auto = Restorer("auto")
    rows = []
    for name, (top, bottom), (left, right), kind, level in SHOWN:
        clean = np.ascontiguousarray(heldout_photographs()[name])
        degraded = damage(clean, kind, level)
        result = auto.restore_detailed(degraded)
        assert result.choice is not None
        before, after = psnr(degraded, clean), psnr(result.image, clean)
        sys.stdout.write(
            f"{name}, {kind} {level}: {before:.2f} -> {after:.2f} dB "
            f"({result.choice.message} -> {result.choice.model})\n"
        )
        window = (slice(top, bottom), slice(left, right))
        rows.append(_beside(degraded[window], result.image[window], clean[window]))
    gap = np.full((8, rows[0].shape[1], 3), 255, np.uint8)
    lines = [part for row in rows for part in (gap, row)][1:]
    write_image(ROOT / "docs" / "before_after.png", np.concatenate(lines))


def damage(clean: NDArray[np.uint8], kind: str, level: int) -> NDArray[np.uint8]:
    """Return a degraded image: white noise, JPEG, or camera noise with JPEG."""
    if kind == "photo":
        rng = np.random.default_rng(2026)
        camera = CameraNoise.draw(rng, luma_std=CAMERA_LUMA_STD)
        noisy = add_camera_noise(clean.astype(np.float32) / np.float32(255), camera, rng)
        return jpeg_compress(to_uint8(noisy), level)
    task = get_task("denoise_color" if kind == "noise" else "jpeg_color")
    return to_uint8(degrade_for_benchmark(clean, task, level))


def draw_unknown_levels() -> None:
    """Write docs/results/unknown_levels.png: degraded, ``small``, ``medium``, original."""
    photographs = {**training_photographs(), **heldout_photographs()}
    rng = np.random.default_rng(2026)
    rows = []
    for name, top, left, kind in UNKNOWN:
        task = get_task(kind)
        low, high = (5, 50) if task.kind == "denoise" else (10, 60)
        level = int(rng.integers(low, high))
        clean = to_color_mode(np.ascontiguousarray(photographs[name]), task.color)
        degraded = to_uint8(degrade_for_benchmark(clean, task, level))
        shown = [degraded]
        for size in ("small", "medium"):
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
