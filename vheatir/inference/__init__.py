"""Inference: the :class:`Restorer`, tiling, noise level estimation and automatic model choice."""

from __future__ import annotations

from vheatir.inference.choose import Choice, choose_model
from vheatir.inference.estimate import estimate_sigma, jpeg_quality
from vheatir.inference.noise_estimate import NoiseEstimate, estimate_noise
from vheatir.inference.restorer import AutoRestorer, Restoration, Restorer
from vheatir.inference.tiled import restore_tensor, self_ensemble

__all__ = [
    "AutoRestorer",
    "Choice",
    "NoiseEstimate",
    "Restoration",
    "Restorer",
    "choose_model",
    "estimate_noise",
    "estimate_sigma",
    "jpeg_quality",
    "restore_tensor",
    "self_ensemble",
]
