"""Degradations, shared by training, testing and the demo.

``basic`` has white noise and JPEG compression, ``camera`` camera noise, ``photo`` the degradation
pipeline of photographs; ``training`` draws the degradation of a training sample, ``benchmark`` has
those of the published tables. Images are RGB or gray: ``uint8`` in 0..255, or ``float32`` in
[0, 1]. A noise level ``sigma`` is on the scale 0..255; a JPEG ``quality`` is that of libjpeg, 1
(worst) to 100.
"""

from __future__ import annotations

from vheatir.degradations.basic import (
    Subsampling,
    add_noise,
    benchmark_noise,
    jpeg_bytes,
    jpeg_compress,
)
from vheatir.degradations.benchmark import degrade_for_benchmark
from vheatir.degradations.camera import CameraNoise, add_camera_noise
from vheatir.degradations.photo import PhotoDegradation, degrade_photo
from vheatir.degradations.training import DegradationRange, JpegGrid, degrade_for_training

__all__ = [
    "CameraNoise",
    "DegradationRange",
    "JpegGrid",
    "PhotoDegradation",
    "Subsampling",
    "add_camera_noise",
    "add_noise",
    "benchmark_noise",
    "degrade_for_benchmark",
    "degrade_for_training",
    "degrade_photo",
    "jpeg_bytes",
    "jpeg_compress",
]
