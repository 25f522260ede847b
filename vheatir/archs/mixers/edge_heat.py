"""``mixer: edge_heat``: heat with a conductivity of its own at every pixel and channel."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vheatir.archs.mixers.gated import GatedMixer
from vheatir.ops.edge_conduction import edge_stopping_heat


class EdgeHeat2d(GatedMixer):
    """One implicit step of div(g grad u) over the whole image, g learned from the tokens.

    Neighbours exchange heat through exp of the mean of their two projected features: where the
    network sees an edge, heat stops. See :mod:`vheatir.ops.edge_conduction`.

    Args:
        dim: channels of the tokens.
        inner_dim: channels that conduct heat; ``dim`` when None.
        index: position of the block in its stage.
    """

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__(dim, inner_dim, index)
        self.to_conductance = nn.Linear(self.inner_dim, self.inner_dim)
        #: log of the conductance, to which the projection adds; spread over channels at the start.
        self.log_k = nn.Parameter(torch.linspace(math.log(0.02), math.log(20.0), self.inner_dim))

    def mix(self, u: Tensor) -> Tensor:
        """Conduct heat in u (B, H, W, C); the result is float32 under autocast."""
        log_g = self.to_conductance(u)
        with torch.autocast(u.device.type, enabled=False):
            dtype = self.log_k.dtype
            # exp(8) per pixel squared is a uniform row already; beyond it lies overflow
            log_g = (log_g.to(dtype) + self.log_k).clamp(max=8)
            rows = ((log_g[:, 1:] + log_g[:, :-1]) / 2).exp()
            columns = ((log_g[:, :, 1:] + log_g[:, :, :-1]) / 2).exp()
            return edge_stopping_heat(u.to(dtype), rows, columns)
