r"""``mixer: adaptive``: heat that spares what stands out of its surroundings.

Conduction inside windows with insulated edges, blocked where the local spectrum carries energy:

.. math:: \hat y = \hat u \,\bigl(d + (1 - d)\, g\bigr), \quad d = e^{-k \omega^2},
          \quad g = \hat u^2 / (\hat u^2 + \lambda^2)

g is the conductivity of Perona and Malik (1990) in the DCT domain, and a Wiener gain: coefficients
above the learned threshold lambda stay, those below diffuse away. The mean of a window, at
:math:`\omega = 0`, is conserved.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs.mixers.gated import GatedMixer
from vheatir.ops import dct2, idct2
from vheatir.ops.heat_conduction import squared_frequency


class AdaptiveHeat2d(GatedMixer):
    """Adaptive heat conduction in windows of 16x16; every second block's windows shift by half.

    Args:
        dim: channels of the tokens.
        inner_dim: channels that conduct heat; ``dim`` when None.
        index: position of the block in its stage; odd ones use shifted windows.
        window: side of a window in tokens.
    """

    omega: Tensor

    def __init__(
        self, dim: int, inner_dim: int | None = None, index: int = 0, window: int = 16
    ) -> None:
        super().__init__(dim, inner_dim, index)
        self.window = window
        self.shift = window // 2 if index % 2 else 0
        # Spreads from a fifth of a pixel to six pixels, one per channel, as a start.
        spread = torch.linspace(math.log(0.02), math.log(20.0), self.inner_dim)
        self.log_k = nn.Parameter(spread.expand(window, window, -1).clone())
        self.log_lambda = nn.Parameter(torch.full((window, window, self.inner_dim), -1.0))
        self.register_buffer("omega", squared_frequency(window, window)[..., None], False)

    def mix(self, u: Tensor) -> Tensor:
        """Conduct heat in u (B, H, W, C); the result is float32 under autocast."""
        height, width = u.shape[1:3]
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(self.log_k.dtype)
            before = self.shift
            below, right = -(height + before) % self.window, -(width + before) % self.window
            u = F.pad(u.permute(0, 3, 1, 2), (before, right, before, below), mode="replicate")
            batch, channels, rows, columns = u.shape
            n, m, s = rows // self.window, columns // self.window, self.window
            u = u.permute(0, 2, 3, 1).reshape(batch, n, s, m, s, channels)
            u = self.conduct(u)
            u = u.reshape(batch, rows, columns, channels)
            return u[:, before : before + height, before : before + width]

    def conduct(self, windows: Tensor) -> Tensor:
        """Conduct heat inside windows (B, n, s, m, s, C)."""
        spectrum = dct2(windows, (2, 4), "matmul")
        shape = (self.window, 1, self.window, -1)
        decay = torch.exp(-self.log_k.exp() * self.omega).view(shape)
        threshold = (2 * self.log_lambda).exp().view(shape)
        energy = spectrum.square()
        gain = energy / (energy + threshold)
        return idct2(spectrum * (decay + (1 - decay) * gain), (2, 4), "matmul")
