"""The degraded input of the published tables and of validation: the same for every call."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from vheatir.degradations.basic import benchmark_noise, jpeg_compress
from vheatir.degradations.camera import CameraNoise, add_camera_noise
from vheatir.errors import VHeatIRError
from vheatir.metrics import to_uint8
from vheatir.tasks import Task

# Of the photographs that stand for real ones: moderate to high ISO, saved by a camera or a phone.
_LUMA_STDS = (2.0, 8.0)
_QUALITIES = (75, 97)


def degrade_for_benchmark(
    clean: NDArray[np.uint8], task: Task, level: float | None
) -> NDArray[np.float32]:
    """Degrade an image as the published tables do: the network's input.

    For the task ``photo``, whose tables are of real photographs, this is a stand-in: camera noise
    with a luma standard deviation of 2 to 8, then JPEG of quality 75 to 97, both drawn from a
    generator that the image's pixels seed.

    Args:
        clean: ``uint8`` in the task's colours, (H, W) or (H, W, 3).
        task: what to do to it.
        level: sigma on 0..255, or a whole JPEG quality; None for a task without a level.

    Returns:
        ``float32`` on [0, 1] of the same shape; noise is neither clipped nor rounded, but for the
        task ``photo``.

    Raises:
        VHeatIRError: an invalid level, or one where the task has none.
    """
    if (level is None) == task.has_level:
        needed = f"{task.level_name} is needed" if task.has_level else "it has none"
        raise VHeatIRError(f"level {level!r} for task {task.name}: {needed}")
    if task.degradation == "photo":
        return _made_photo(clean).astype(np.float32) / np.float32(255)
    assert level is not None
    if task.degradation == "noise":
        return benchmark_noise(clean.astype(np.float32) / np.float32(255), level)
    if level != int(level):
        raise VHeatIRError(f"JPEG quality {level} is invalid: give a whole number from 1 to 100")
    return jpeg_compress(clean, int(level)).astype(np.float32) / np.float32(255)


def _made_photo(clean: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(clean).tobytes()))
    low, high = np.log(_LUMA_STDS)
    camera = CameraNoise.draw(rng, luma_std=float(np.exp(rng.uniform(low, high))))
    noisy = add_camera_noise(clean.astype(np.float32) / np.float32(255), camera, rng)
    quality = int(rng.integers(_QUALITIES[0], _QUALITIES[1] + 1))
    return jpeg_compress(to_uint8(noisy), quality, "4:2:0" if rng.random() < 0.5 else "4:4:4")
