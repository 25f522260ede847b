"""From an image file to a restored one: tiling, level estimation and the :class:`Restorer`."""

from __future__ import annotations

from vheatir.inference.estimate import estimate_sigma
from vheatir.inference.restorer import Restoration, Restorer
from vheatir.inference.tiled import restore_tensor, self_ensemble

__all__ = ["Restoration", "Restorer", "estimate_sigma", "restore_tensor", "self_ensemble"]
