"""Mix the results of two networks."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MixedNetwork(nn.Module):
    """The weighted mean of the results of two blind networks.

    Args:
        first: a network without a level, called as ``first(x)``.
        second: another one with the same number of channels.
        share: weight of the first result, 0 to 1.
    """

    def __init__(self, first: nn.Module, second: nn.Module, share: float) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (B, C, H, W) in [0, 1]; the result has the same shape."""
        return torch.lerp(self.second(x).float(), self.first(x).float(), self.share)
