"""Deterministic degraded inputs of the published tables and of validation."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from vheatir.degradations.basic import benchmark_noise, jpeg_compress
from vheatir.degradations.camera import CameraNoise, add_camera_noise
from vheatir.errors import VHeatIRError
from vheatir.metrics import to_uint8
from vheatir.tasks import Task

# Synthetic photographs: moderate to high ISO, JPEG quality of cameras and phones.
_LUMA_STDS = (2.0, 8.0)
_QUALITIES = (75, 97)


def degrade_for_benchmark(
    clean: NDArray[np.uint8], task: Task, level: float | None
) -> NDArray[np.float32]:
    """Degrade an image as in the published tables to obtain the network input.

    The tables of the task ``photo`` use real photographs; here they are simulated: camera noise
    with a luma standard deviation of 2 to 8, then JPEG of quality 75 to 97, both drawn from a
    generator seeded by the pixels of the image.

    Args:
        clean: ``uint8`` in the task's colours, (H, W) or (H, W, 3).
        task: the task, which determines the degradation.
        level: sigma on 0..255, or an integer JPEG quality; None for a task without a level.

    Returns:
        ``float32`` in [0, 1] of the same shape; noise is neither clipped nor rounded, except in
        the task ``photo``.

    Raises:
        VHeatIRError: an invalid or missing level, or one for a task without a level.
    """
    if (level is None) == task.has_level:
        needed = f"{task.level_name} is needed" if task.has_level else "it has none"
        raise VHeatIRError(f"level {level!r} for task {task.name}: {needed}")
    if task.kind == "photo":
        return _synthetic_photo(clean).astype(np.float32) / np.float32(255)
    assert level is not None
    if task.kind == "denoise":
        return benchmark_noise(clean.astype(np.float32) / np.float32(255), level)
    return jpeg_compress(clean, level).astype(np.float32) / np.float32(255)


def _synthetic_photo(clean: NDArray[np.uint8]) -> NDArray[np.uint8]:
    rng = np.random.default_rng(zlib.crc32(np.ascontiguousarray(clean).tobytes()))
    low, high = np.log(_LUMA_STDS)
    camera = CameraNoise.draw(rng, luma_std=float(np.exp(rng.uniform(low, high))))
    noisy = add_camera_noise(clean.astype(np.float32) / np.float32(255), camera, rng)
    quality = int(rng.integers(_QUALITIES[0], _QUALITIES[1] + 1))
    return jpeg_compress(to_uint8(noisy), quality, "4:2:0" if rng.random() < 0.5 else "4:4:4")
