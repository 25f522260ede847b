"""Samples for the Restore tab: bundled photographs with realistic degradations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.degradations import CameraNoise, add_camera_noise, benchmark_noise, jpeg_bytes
from vheatir.demo.shared import cached_file, cached_png, sample
from vheatir.metrics import to_uint8

_SEED = 1
_LUMA_STD = 5.0  # slightly above ISO 3200
_PHONE_QUALITY = 80
_SHARPENING = 0.6


def camera_noise(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Add the noise of one camera at high ISO, with a fixed seed.

    Args:
        image: ``uint8``, (H, W) or (H, W, 3) RGB.
    """
    rng = np.random.default_rng(_SEED)
    camera = CameraNoise.draw(rng, _LUMA_STD)
    return to_uint8(add_camera_noise(image.astype(np.float32) / np.float32(255), camera, rng))


def _camera() -> str:
    return cached_png(camera_noise(sample("Cat")), "cat_camera_noise.png")


def _phone() -> str:
    """Camera noise, sharpening and JPEG compression, as in phones."""
    noisy = camera_noise(sample("Coffee")).astype(np.float32)
    sharp = noisy + _SHARPENING * (noisy - cv2.GaussianBlur(noisy, (0, 0), 1.0))
    data = jpeg_bytes(np.rint(sharp).clip(0, 255).astype(np.uint8), _PHONE_QUALITY)
    return cached_file(data, "coffee_phone.jpg")


def _white() -> str:
    clean: NDArray[Any] = sample("Cat").astype(np.float32) / np.float32(255)
    return cached_png(to_uint8(benchmark_noise(clean, 25)), "cat_noise25.png")


#: Button label to the function that writes its file to gradio's cache.
DAMAGED: dict[str, Callable[[], str]] = {
    "Camera noise": _camera,
    "Phone JPEG": _phone,
    "White noise": _white,
}
