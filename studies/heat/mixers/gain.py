"""Global linear filters in the DCT domain: learned spectral gain, and heavy-tailed diffusion."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from vheatir.archs.mixers.gated import GatedMixer
from vheatir.ops import dct2, idct2
from vheatir.ops.heat_conduction import interpolation_matrix, squared_frequency


class SpectralGain2d(GatedMixer):
    """``mixer: gain``: a learned gain per frequency and channel, interpolated from a grid.

    A control for ablations: an upper bound for operators that are one fixed linear filter per
    channel, such as the HCO.

    Args:
        dim: number of channels of the tokens.
        inner_dim: number of channels that are filtered; ``dim`` when None.
        index: position of the block in its stage.
        grid: side of the grid of gains over [0, pi)^2.
    """

    def __init__(
        self, dim: int, inner_dim: int | None = None, index: int = 0, grid: int = 16
    ) -> None:
        super().__init__(dim, inner_dim, index)
        self.gain = nn.Parameter(torch.ones(grid, grid, self.inner_dim))

    def mix(self, u: Tensor) -> Tensor:
        """Filter u (B, H, W, C) over the whole image; float32 under autocast."""
        with torch.autocast(u.device.type, enabled=False):
            spectrum = dct2(u.to(self.gain.dtype), (1, 2))
            return idct2(spectrum * self.response(u.shape[1], u.shape[2]), (1, 2))

    def response(self, height: int, width: int) -> Tensor:
        """Return the gain at each frequency of an image, (H, W, C)."""
        rows = interpolation_matrix(height, self.gain.shape[0], self.gain)
        columns = interpolation_matrix(width, self.gain.shape[1], self.gain)
        return torch.einsum("ha,wb,abc->hwc", rows, columns, self.gain)


class HeavyTailedHeat2d(GatedMixer):
    r"""``mixer: heat_tails``: decay :math:`e^{-k |\omega|}` for half of the channels.

    The first half of the channels conducts heat, with the Gaussian decay :math:`e^{-k \omega^2}`.
    The second half diffuses with a heavy-tailed kernel (power law, a Cauchy process). One learned k
    per channel, initially log-spaced.
    """

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__(dim, inner_dim, index)
        half = self.inner_dim // 2
        heat = torch.linspace(math.log(0.02), math.log(100.0), self.inner_dim - half)
        tails = torch.linspace(math.log(0.1), math.log(10.0), half)
        self.log_k = nn.Parameter(torch.cat([heat, tails]))

    def mix(self, u: Tensor) -> Tensor:
        """Diffuse u (B, H, W, C) over the whole image; float32 under autocast."""
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.log_k.dtype)
            height, width = u.shape[1:3]
            omega = squared_frequency(height, width, u.dtype, u.device)[..., None]
            heat, tails = self.log_k.exp().tensor_split([self.inner_dim - self.inner_dim // 2])
            decay = torch.exp(-torch.cat([heat * omega, tails * omega.sqrt()], -1))
            return idct2(dct2(u, (1, 2)) * decay, (1, 2))
