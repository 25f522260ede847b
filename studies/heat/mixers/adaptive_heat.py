r"""``mixer: adaptive`` and its variants: signal-adaptive heat conduction in windows.

Heat conduction inside windows with insulated edges (DCT), suppressed by a gate g where the local
spectrum has high energy:

.. math:: \hat y = \hat u \,\bigl(d + (1 - d)\, g\bigr), \quad d = e^{-k \omega^2},
          \quad g = e / (e + \lambda^2)

With the energy :math:`e = \hat u^2`, g is a Wiener gain, and the DCT-domain counterpart of the
conductivity of Perona and Malik (1990): coefficients above the learned threshold lambda are kept,
those below diffuse away. The mean of a window, at :math:`\omega = 0`, is conserved. The variants
differ in how k, lambda or the energy are computed.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs.mixers.gated import GatedMixer
from vheatir.archs.mixers.windows import Windows
from vheatir.ops import dct2, idct2
from vheatir.ops.heat_conduction import squared_frequency


class AdaptiveHeat2d(GatedMixer):
    """Adaptive heat conduction in 16x16 windows, shifted by half a window in odd blocks.

    Args:
        dim: number of channels of the tokens.
        inner_dim: number of channels that conduct heat; ``dim`` when None.
        index: position of the block in its stage; odd blocks use shifted windows.
        window: side of a window in tokens.
    """

    omega: Tensor

    def __init__(
        self, dim: int, inner_dim: int | None = None, index: int = 0, window: int = 16
    ) -> None:
        super().__init__(dim, inner_dim, index)
        self.windows = Windows(window, index)
        self.register_buffer("omega", squared_frequency(window, window)[..., None], False)
        self.add_spectral_parameters(window)

    def add_spectral_parameters(self, window: int) -> None:
        """Create ``log_k`` and ``log_lambda``, one per frequency and channel."""
        # Initial spreads sqrt(2 k) from a fifth of a pixel to six pixels, one per channel.
        spread = torch.linspace(math.log(0.02), math.log(20.0), self.inner_dim)
        self.log_k = nn.Parameter(spread.expand(window, window, -1).clone())
        self.log_lambda = nn.Parameter(torch.full((window, window, self.inner_dim), -1.0))

    def mix(self, u: Tensor, level: Tensor | None = None) -> Tensor:
        """Conduct heat in u (B, H, W, C); float32 under autocast."""
        with torch.autocast(u.device.type, enabled=False):
            windows = self.windows.cut(u.to(self.log_k.dtype))
            return self.windows.join(self.conduct(windows, level), *u.shape[1:3])

    def conduct(self, windows: Tensor, level: Tensor | None = None) -> Tensor:
        """Conduct heat inside windows (B, n, s, m, s, C)."""
        spectrum = dct2(windows, (2, 4), "matmul")
        shape = (self.windows.side, 1, self.windows.side, -1)
        heated = (self.log_k.exp() * self.omega).view(shape)
        threshold = (2 * self.log_lambda_map()).exp().view(shape)
        if level is not None:
            heated, threshold = self.at_level(level, heated, threshold)
        decay = torch.exp(-heated)
        energy = self.energy(windows, spectrum)
        gain = energy / (energy + threshold)
        return idct2(spectrum * (decay + (1 - decay) * gain), (2, 4), "matmul")

    def log_lambda_map(self) -> Tensor:
        """Return log lambda, (s, s, C)."""
        return self.log_lambda

    def at_level(self, level: Tensor, heated: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Return k omega^2 and lambda^2 for samples at levels (B,); independent of the level."""
        return heated, threshold

    def energy(self, windows: Tensor, spectrum: Tensor) -> Tensor:
        """Return the energy e >= 0 that opens the gate, in the shape of the spectrum."""
        return spectrum.square()


class LevelAdaptiveHeat2d(AdaptiveHeat2d):
    r"""``mixer: adaptive_level``: diffusivity and thresholds depend on the noise level.

    Scales k by :math:`e^{a s}` and lambda by :math:`e^{b s}`. a and b are learned per channel and
    start at 0; s is the level of the sample over a fifth of ``level_scale`` (51 for sigma). CDLNet
    (Janjušević et al., 2022) likewise adapts its thresholds to the noise level. In a network that
    takes no level, this is :class:`AdaptiveHeat2d`.
    """

    needs_level = True

    def add_spectral_parameters(self, window: int) -> None:
        """Also create ``level_k`` (a) and ``level_lambda`` (b), both (C,)."""
        super().add_spectral_parameters(window)
        self.level_k = nn.Parameter(torch.zeros(self.inner_dim))
        self.level_lambda = nn.Parameter(torch.zeros(self.inner_dim))

    def forward(
        self,
        x: Tensor,
        frequency_embedding: Tensor | None = None,
        level: Tensor | None = None,
    ) -> Tensor:
        """Mix tokens (B, H, W, C) of images at levels (B,); return the same shape."""
        u, z = self.split(x)
        return self.join(self.mix(u, level), z)

    def mix(self, u: Tensor, level: Tensor | None = None) -> Tensor:
        """Conduct heat in u; None means level 0, so that every weight has a gradient."""
        return super().mix(u, u.new_zeros(len(u)) if level is None else level)

    def at_level(self, level: Tensor, heated: Tensor, threshold: Tensor) -> tuple[Tensor, Tensor]:
        """Return k omega^2 and lambda^2, scaled per sample."""
        strength = 5 * level.to(heated.dtype).view(-1, 1, 1, 1, 1, 1)
        longer, higher = (strength * self.level_k).exp(), (2 * strength * self.level_lambda).exp()
        return heated * longer, threshold * higher


class SmoothAdaptiveHeat2d(AdaptiveHeat2d):
    r"""``mixer: adaptive_smooth``: fewer parameters; k per channel, lambda smooth in frequency.

    :math:`\log\lambda = a + b\,\omega + c\,\omega^2` per channel, omega in radians per pixel.
    """

    def add_spectral_parameters(self, window: int) -> None:
        """Create ``log_k`` (C,) and ``log_lambda`` (3, C)."""
        self.log_k = nn.Parameter(torch.linspace(math.log(0.02), math.log(20.0), self.inner_dim))
        start = torch.zeros(3, self.inner_dim)
        start[0] = -1.0
        self.log_lambda = nn.Parameter(start)

    def log_lambda_map(self) -> Tensor:
        """Return log lambda, (s, s, C)."""
        omega = self.omega.to(self.log_lambda.dtype)
        return (torch.cat([omega**0, omega.sqrt(), omega], -1) @ self.log_lambda).contiguous()


class MixedEnergyAdaptiveHeat2d(AdaptiveHeat2d):
    """``mixer: adaptive_mix``: the gate energy is a non-negative mix of all channels' energies.

    As in GroupCDL (Janjušević et al., "GroupCDL", 2024): structure shared by several channels is
    kept.
    """

    def __init__(
        self, dim: int, inner_dim: int | None = None, index: int = 0, window: int = 16
    ) -> None:
        super().__init__(dim, inner_dim, index, window)
        # After softplus the diagonal is near 1, and the rest of each row sums to about 1 / 20.
        inner = self.inner_dim
        off = math.log(math.expm1(0.05 / inner))
        self.energy_mix = nn.Parameter(
            torch.full((inner, inner), off) + (0.54 - off) * torch.eye(inner)
        )

    def energy(self, windows: Tensor, spectrum: Tensor) -> Tensor:
        """Return the mix of the channels' energies."""
        return F.linear(spectrum.square(), F.softplus(self.energy_mix))


class PilotAdaptiveHeat2d(AdaptiveHeat2d):
    """``mixer: adaptive_pilot``: the gate energy comes from a second projection, the pilot.

    Analogous to the second stage of BM3D, whose Wiener gain comes from a first estimate; here the
    pilot is learned.
    """

    def __init__(
        self, dim: int, inner_dim: int | None = None, index: int = 0, window: int = 16
    ) -> None:
        super().__init__(dim, inner_dim, index, window)
        self.pilot_proj = nn.Linear(self.inner_dim, self.inner_dim)

    def energy(self, windows: Tensor, spectrum: Tensor) -> Tensor:
        """Return the energy of the pilot."""
        return dct2(self.pilot_proj(windows), (2, 4), "matmul").square()
