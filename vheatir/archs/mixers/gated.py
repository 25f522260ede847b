"""The gated module around a mixing operation, as in the HCO module."""

from __future__ import annotations

from torch import Tensor, nn

from vheatir.ops.layer_norm import LayerNorm


class GatedMixer(nn.Module):
    """Base class of gated mixers on channels-last tokens (B, H, W, C); define :meth:`mix`.

    ``u, z = Linear(DWConv3x3(x)); out = Linear(LN(mix(u)) * silu(z))``

    Args:
        dim: number of channels of the tokens.
        inner_dim: number of channels that are mixed; ``dim`` when None.
        index: position of the block in its stage.
    """

    needs_frequency_embedding = False

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__()
        self.inner_dim = inner_dim or dim
        self.index = index
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.in_proj = nn.Linear(dim, 2 * self.inner_dim)
        self.norm = LayerNorm(self.inner_dim)
        self.out_proj = nn.Linear(self.inner_dim, dim)

    def forward(self, x: Tensor, frequency_embedding: Tensor | None = None) -> Tensor:
        """Mix tokens (B, H, W, C); return the same shape."""
        u, z = self.split(x)
        return self.join(self.mix(u), z)

    def split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the values u to mix and their gate z."""
        x = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        u, z = self.in_proj(x).chunk(2, dim=-1)
        return u, z

    def join(self, mixed: Tensor, z: Tensor) -> Tensor:
        """Return the output of the mixer from the mixed values and their gate."""
        return self.out_proj(self.norm(mixed, gate=z))

    def mix(self, u: Tensor) -> Tensor:
        """Exchange information between pixels of u (B, H, W, C); return the same shape."""
        raise NotImplementedError


class NoMixer(GatedMixer):
    """``mixer: none``: the gated module without a mixing operation."""

    def mix(self, u: Tensor) -> Tensor:
        """Return u."""
        return u
