"""Window partitioning of channels-last tokens, shifted by half a window in odd blocks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Windows:
    """A grid of square windows.

    Attributes:
        side: side of a window in tokens.
        index: position of the block in its stage; odd blocks shift the grid by half a window.
    """

    side: int
    index: int

    @property
    def shift(self) -> int:
        """Rows and columns of padding before the first token."""
        return self.side // 2 if self.index % 2 else 0

    def cut(self, u: Tensor, mode: str = "replicate") -> Tensor:
        """Partition u (B, H, W, C), padded by ``mode``, into windows (B, n, side, m, side, C)."""
        height, width = u.shape[1:3]
        before = self.shift
        below, right = -(height + before) % self.side, -(width + before) % self.side
        u = F.pad(u.permute(0, 3, 1, 2), (before, right, before, below), mode=mode)
        batch, channels, rows, columns = u.shape
        n, m = rows // self.side, columns // self.side
        return u.permute(0, 2, 3, 1).reshape(batch, n, self.side, m, self.side, channels)

    def join(self, windows: Tensor, height: int, width: int) -> Tensor:
        """Merge windows from :meth:`cut` into tokens (B, H, W, C), without the padding."""
        batch, n, side, m, _, channels = windows.shape
        u = windows.reshape(batch, n * side, m * side, channels)
        return u[:, self.shift : self.shift + height, self.shift : self.shift + width]

    def inside(self, height: int, width: int, device: torch.device) -> Tensor:
        """Return a mask (n, side, m, side): whether a token of a window lies inside the image."""
        return self.cut(torch.ones(1, height, width, 1, device=device), "constant")[0, ..., 0] > 0
