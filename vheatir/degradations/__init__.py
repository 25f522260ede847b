"""Degradations, shared by training, testing and the demo.

``basic`` has white noise and JPEG compression, ``camera`` camera noise, ``photo`` the degradation
pipeline of photographs; ``training`` draws the degradation of a training sample, ``benchmark`` has
those of the published tables. Images are RGB or gray: ``uint8`` in 0..255, or ``float32`` in
[0, 1]. A noise level ``sigma`` is on the scale 0..255; a JPEG ``quality`` is that of libjpeg, 1
(worst) to 100.
"""

from __future__ import annotations

from vheatir.degradations.basic import Subsampling as Subsampling
from vheatir.degradations.basic import add_noise as add_noise
from vheatir.degradations.basic import benchmark_noise as benchmark_noise
from vheatir.degradations.basic import jpeg_bytes as jpeg_bytes
from vheatir.degradations.basic import jpeg_compress as jpeg_compress
from vheatir.degradations.benchmark import degrade_for_benchmark as degrade_for_benchmark
from vheatir.degradations.camera import CameraNoise as CameraNoise
from vheatir.degradations.camera import add_camera_noise as add_camera_noise
from vheatir.degradations.photo import PhotoDegradation as PhotoDegradation
from vheatir.degradations.photo import degrade_photo as degrade_photo
from vheatir.degradations.training import DegradationRange as DegradationRange
from vheatir.degradations.training import JpegGrid as JpegGrid
from vheatir.degradations.training import degrade_for_training as degrade_for_training
