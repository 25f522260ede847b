"""Modules under test."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vheatir.ops import HeatConduction2d


def module_and_embedding(
    dim: int = 6, inner: int | None = None, grid: int = 4, spread: float = 3.0
) -> tuple[HeatConduction2d, Tensor]:
    """A module with weights of both signs, and k of up to a few pixels squared."""
    torch.manual_seed(0)
    module = HeatConduction2d(dim, inner).double()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module, spread * torch.randn(grid, grid, dim, dtype=torch.float64)
