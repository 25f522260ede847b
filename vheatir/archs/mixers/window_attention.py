"""``mixer: attention``: SwinIR's window attention in the gated module, as a control."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs.mixers.gated import GatedMixer
from vheatir.archs.mixers.windows import Windows


class WindowAttention2d(GatedMixer):
    """Multi-head self-attention in 8x8 windows with a learned relative position bias.

    Odd blocks shift the windows by half a window. Padding is masked, which for shifted windows is
    equivalent to Swin's masked cyclic shift.

    Args:
        dim: number of channels of the tokens.
        inner_dim: number of channels of the attention; ``dim`` when None.
        index: position of the block in its stage; odd blocks use shifted windows.
        window: side of a window in tokens.
        head_dim: channels per head; more where the number of heads would not divide the channels.
    """

    relative: Tensor

    def __init__(
        self,
        dim: int,
        inner_dim: int | None = None,
        index: int = 0,
        window: int = 8,
        head_dim: int = 16,
    ) -> None:
        super().__init__(dim, inner_dim, index)
        self.windows = Windows(window, index)
        self.heads = max(1, self.inner_dim // head_dim)
        while self.inner_dim % self.heads:
            self.heads -= 1
        self.qkv = nn.Linear(self.inner_dim, 3 * self.inner_dim)
        self.position_bias = nn.Parameter(torch.zeros((2 * window - 1) ** 2, self.heads))
        place = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        offset = place[:, None] - place[None, :] + window - 1
        self.register_buffer("relative", offset[..., 0] * (2 * window - 1) + offset[..., 1], False)

    def mix(self, u: Tensor) -> Tensor:
        """Attend within windows of u (B, H, W, C)."""
        height, width = u.shape[1:3]
        windows = self.windows.cut(u, "constant")
        batch, n, side, m, _, channels = windows.shape
        tokens = windows.transpose(2, 3).reshape(batch * n * m, side * side, channels)
        q, k, v = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in self.qkv(tokens).chunk(3, -1)
        )
        bias = self.position_bias[self.relative].permute(2, 0, 1)
        outside = ~self.windows.inside(height, width, u.device).transpose(1, 2).reshape(n * m, -1)
        # -inf would give NaN in windows that contain only padding
        mask = torch.zeros_like(outside, dtype=q.dtype).masked_fill(outside, -1e4)
        mask = (bias.to(q.dtype)[None] + mask[:, None, None, :]).repeat(batch, 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        y = y.transpose(1, 2).reshape(batch, n, m, side, side, channels).transpose(2, 3)
        return self.windows.join(y, height, width)
