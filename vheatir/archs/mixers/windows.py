"""Windows on channels-last tokens: cut, shifted by half in odd blocks, put together again."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Windows:
    """A grid of square windows.

    Attributes:
        side: of a window, tokens.
        index: position of the block in its stage; odd ones shift the grid by half a window.
    """

    side: int
    index: int

    @property
    def shift(self) -> int:
        """Rows and columns of padding before the first token."""
        return self.side // 2 if self.index % 2 else 0

    def cut(self, u: Tensor, mode: str = "replicate") -> Tensor:
        """Return windows (B, n, side, m, side, C) of u (B, H, W, C), padded by ``mode``."""
        height, width = u.shape[1:3]
        before = self.shift
        below, right = -(height + before) % self.side, -(width + before) % self.side
        u = F.pad(u.permute(0, 3, 1, 2), (before, right, before, below), mode=mode)
        batch, channels, rows, columns = u.shape
        n, m = rows // self.side, columns // self.side
        return u.permute(0, 2, 3, 1).reshape(batch, n, self.side, m, self.side, channels)

    def join(self, windows: Tensor, height: int, width: int) -> Tensor:
        """Return tokens (B, H, W, C) from windows as :meth:`cut` made them."""
        batch, n, side, m, _, channels = windows.shape
        u = windows.reshape(batch, n * side, m * side, channels)
        return u[:, self.shift : self.shift + height, self.shift : self.shift + width]

    def inside(self, height: int, width: int, device: torch.device) -> Tensor:
        """Tell of each token of each window whether it lies in the image: (n, side, m, side)."""
        ones = torch.ones(1, height, width, 1, device=device)
        return self.cut(ones, "constant")[0, ..., 0] > 0
