"""Mixers with the Heat Conduction Operator (HCO): initialised as in vHeat, or log-spaced."""

from __future__ import annotations

import math

import torch

from vheatir.ops import HeatConduction2d


class HeatConductionMixer(HeatConduction2d):
    """``mixer: hco``: :class:`vheatir.ops.HeatConduction2d` with the signature of a mixer."""

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__(dim, inner_dim)


class SpreadHeatConductionMixer(HeatConductionMixer):
    """``mixer: hco_spread``: the HCO with diffusivities initially log-spaced over the channels.

    vHeat's initialisation (k near zero) spreads heat by less than a pixel, and training changes
    that little. With k from 0.02 to 100 tokens squared, the channels start with receptive fields
    from the neighbouring token to the whole image.
    """

    smallest_k, largest_k = 0.02, 100.0

    def reset_diffusivity(self) -> None:
        """Set log-spaced initial diffusivities; call this after all other initialisation."""
        bias = self.to_k.bias
        low, high = math.log(self.smallest_k), math.log(self.largest_k)
        with torch.no_grad():
            bias.copy_(torch.linspace(low, high, len(bias)).exp())
