"""``mixer: hco`` and ``mixer: hco_spread``: the Heat Conduction Operator (HCO)."""

from __future__ import annotations

import math

import torch

from vheatir.ops import HeatConduction2d


class HeatConductionMixer(HeatConduction2d):
    """:class:`vheatir.ops.HeatConduction2d` with the signature and initialisation of a mixer.

    vHeat's initialisation (k near zero) spreads heat by less than a pixel, and training changes
    that little. With ``spread``, k is log-spaced over the channels, from 0.02 to 100 tokens
    squared: they start with receptive fields from the neighbouring token to the whole image.

    Args:
        dim: number of channels of the tokens.
        inner_dim: number of channels that conduct heat; ``dim`` when None.
        index: position of the block in its stage; not used.
        spread: whether to initialise the diffusivities log-spaced instead of as in vHeat.
    """

    smallest_k, largest_k = 0.02, 100.0

    def __init__(
        self, dim: int, inner_dim: int | None = None, index: int = 0, *, spread: bool = False
    ) -> None:
        super().__init__(dim, inner_dim)
        self.spread = spread

    def reset_diffusivity(self) -> None:
        """Spread the initial diffusivities if asked to; call this after other initialisation."""
        bias = self.to_k.bias
        # The meta device has no values to set, and linspace would import PyTorch's compiler there.
        if not self.spread or bias.is_meta:
            return
        low, high = math.log(self.smallest_k), math.log(self.largest_k)
        with torch.no_grad():
            bias.copy_(torch.linspace(low, high, len(bias)).exp())
