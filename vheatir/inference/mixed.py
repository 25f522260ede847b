"""Mix the results of two networks."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vheatir.archs import window_of


class MixedNetwork(nn.Module):
    """The weighted mean of the results of two blind networks.

    Args:
        first: a network without a level, called as ``first(x)``.
        second: another one with the same number of channels.
        share: weight of the first result, 0 to 1.

    Attributes:
        window_size: images need sides that are multiples of it, as the two networks do.
    """

    def __init__(self, first: nn.Module, second: nn.Module, share: float) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.share = share
        self.window_size = math.lcm(window_of(first), window_of(second))

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (B, C, H, W) in [0, 1]; the result has the same shape."""
        return torch.lerp(self.second(x).float(), self.first(x).float(), self.share)
