"""Inference: the :class:`Restorer`, tiling, noise level estimation and automatic model choice."""

from __future__ import annotations

from vheatir.inference.choose import Choice as Choice
from vheatir.inference.choose import choose_model as choose_model
from vheatir.inference.estimate import estimate_sigma as estimate_sigma
from vheatir.inference.estimate import jpeg_quality as jpeg_quality
from vheatir.inference.noise_estimate import NoiseEstimate as NoiseEstimate
from vheatir.inference.noise_estimate import estimate_noise as estimate_noise
from vheatir.inference.restorer import AutoRestorer as AutoRestorer
from vheatir.inference.restorer import Restoration as Restoration
from vheatir.inference.restorer import Restorer as Restorer
from vheatir.inference.tiled import restore_tensor as restore_tensor
from vheatir.inference.tiled import self_ensemble as self_ensemble
