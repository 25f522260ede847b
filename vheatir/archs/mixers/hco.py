"""The Heat Conduction Operator over the whole image: as the paper starts it, and spread out."""

from __future__ import annotations

import math

import torch

from vheatir.ops import HeatConduction2d


class HeatConductionMixer(HeatConduction2d):
    """``mixer: hco``: :class:`vheatir.ops.HeatConduction2d` under the mixers' signature."""

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__(dim, inner_dim)


class SpreadHeatConductionMixer(HeatConductionMixer):
    """``mixer: hco_spread``: the HCO with diffusivities that start log-spaced over the channels.

    The paper's start (k near zero) spreads heat by less than a pixel, and training changes that
    little. Starting from 0.02 to 100 tokens squared, one channel sees its neighbour and another
    the whole image.
    """

    smallest_k, largest_k = 0.02, 100.0

    def reset_diffusivity(self) -> None:
        """Spread the initial diffusivities; called after every other initialisation."""
        bias = self.to_k.bias
        low, high = math.log(self.smallest_k), math.log(self.largest_k)
        with torch.no_grad():
            bias.copy_(torch.linspace(low, high, len(bias)).exp())
