"""``mixer: edge_heat``: heat conduction with a conductivity per pixel and channel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from studies.heat.mixers.edge_conduction import edge_stopping_heat
from vheatir.archs.mixers.gated import GatedMixer


class EdgeHeat2d(GatedMixer):
    """One implicit step of u_t = div(g grad u) over the whole image, g predicted from the tokens.

    The conductance between two neighbours is exp of the mean of their projected features, so that
    the network can stop heat at edges. See :mod:`studies.heat.mixers.edge_conduction`.

    Args:
        dim: number of channels of the tokens.
        inner_dim: number of channels that conduct heat; ``dim`` when None.
        index: position of the block in its stage.
    """

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__(dim, inner_dim, index)
        self.to_conductance = nn.Linear(self.inner_dim, self.inner_dim)
        #: Offset of the log conductance, added to the projection; log-spaced at initialisation.
        self.log_k = nn.Parameter(torch.linspace(math.log(0.02), math.log(20.0), self.inner_dim))

    def mix(self, u: Tensor) -> Tensor:
        """Conduct heat in u (B, H, W, C); float32 under autocast."""
        log_g = self.to_conductance(u)
        with torch.autocast(u.device.type, enabled=False):
            dtype = self.log_k.dtype
            # exp(8) pixels squared already makes a row uniform; clamp to avoid overflow
            log_g = (log_g.to(dtype) + self.log_k).clamp(max=8)
            rows = ((log_g[:, 1:] + log_g[:, :-1]) / 2).exp()
            columns = ((log_g[:, :, 1:] + log_g[:, :, :-1]) / 2).exp()
            return edge_stopping_heat(u.to(dtype), rows, columns)
