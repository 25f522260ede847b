r"""The Heat Conduction Operator (HCO) of vHeat (CVPR 2025, arXiv 2405.16555).

Heat in a plate with insulated edges, :math:`u_t = k (u_{xx} + u_{yy})`, is diagonal in the cosine
basis, so one step of any length is

.. math:: u_t = \mathrm{IDCT2}\bigl(\mathrm{DCT2}(u_0)\, e^{-k(\omega_n^2 + \omega_m^2)}\bigr),
          \quad \omega_n = n\pi/H,\; \omega_m = m\pi/W

with the time folded into the thermal diffusivity k, in pixels squared.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.ops.dct import Backend, dct2, idct2

#: Bytes one module may keep of its decay map between calls at inference.
DECAY_CACHE_BYTES = 64 * 2**20


def squared_frequency(
    height: int, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Return w_n^2 + w_m^2 in radians squared per pixel squared, shape (height, width)."""
    w_n = torch.arange(height, dtype=dtype, device=device) * (math.pi / height)
    w_m = torch.arange(width, dtype=dtype, device=device) * (math.pi / width)
    return w_n.square()[:, None] + w_m.square()[None, :]


def heat_conduction(
    u: Tensor, k: Tensor | float, dim: tuple[int, int] = (-2, -1), backend: Backend = "auto"
) -> Tensor:
    """Conduct heat for one step in a plate with insulated edges.

    Args:
        u: initial temperature, any shape, floating point.
        k: thermal diffusivity times time, >= 0, pixels squared; a number or a tensor that
            broadcasts to the shape of ``u``, read at the frequencies of ``dct2(u, dim)``.
        dim: the two spatial dimensions, rows before columns.
        backend: DCT backend, see :func:`vheatir.ops.dct.dct2`.

    Returns:
        Temperature after the step, shape and dtype of ``u``. The mean over ``dim`` is conserved.
    """
    rows, columns = dim[0] % u.ndim, dim[1] % u.ndim
    work = torch.float32 if u.dtype in (torch.float16, torch.bfloat16) else u.dtype
    shape = [1] * u.ndim
    shape[rows], shape[columns] = u.shape[rows], u.shape[columns]
    omega = squared_frequency(u.shape[rows], u.shape[columns], work, u.device)
    if rows > columns:
        omega = omega.T
    decay = torch.exp(-k * omega.reshape(shape))
    return idct2(dct2(u.to(work), dim, backend) * decay, dim, backend).to(u.dtype)


def interpolation_matrix(size: int, grid: int, like: Tensor) -> Tensor:
    """Linear interpolation from a grid on normalised frequency to an image's frequencies.

    Node j of the grid stands for the frequency ``j * pi / grid``; frequency n of an image of
    ``size`` pixels is ``n * pi / size``. So one physical frequency has one value at every size.
    Above the last node the value is held.

    Returns:
        Matrix of shape (size, grid), dtype and device of ``like``.
    """
    position = torch.arange(size, dtype=like.dtype, device=like.device) * (grid / size)
    position = position.clamp(max=grid - 1)
    nodes = torch.arange(grid, dtype=like.dtype, device=like.device)
    return (1 - (position[:, None] - nodes[None, :]).abs()).clamp(min=0)


@dataclass
class _CachedDecay:
    diffusivity: Tensor
    decay: Tensor


class HeatConduction2d(nn.Module):
    """HCO module: depthwise 3x3, Linear C->2C to (u, z), heat on u, gate by z, Linear back.

    ``out = Linear(LayerNorm(heat(u)) * silu(z))``

    Layout: channels-last tokens of shape (B, H, W, C), contiguous. The transform then runs over
    dimensions 1 and 2 without a copy, and the depthwise convolution sees a channels-last image.

    Args:
        dim: number of channels C.
        inner_dim: channels that conduct heat; ``dim`` when None.
        backend: DCT backend, see :func:`vheatir.ops.dct.dct2`.
    """

    needs_frequency_embedding = True

    def __init__(
        self, dim: int, inner_dim: int | None = None, *, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        inner = inner_dim or dim
        self.backend: Backend = backend
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.in_proj = nn.Linear(dim, 2 * inner)
        self.to_k = nn.Linear(dim, inner)
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim)
        self._cache: _CachedDecay | None = None

    def diffusivity(self, frequency_embedding: Tensor) -> Tensor:
        """Thermal diffusivity k = relu(Linear(FVE)) on the embedding's grid.

        Args:
            frequency_embedding: FVE of shape (h, w, C), shared by the blocks of a group.

        Returns:
            k >= 0 in pixels squared, shape (h, w, C_inner), float32 or float64.
        """
        with torch.autocast(frequency_embedding.device.type, enabled=False):
            weight, bias = self.to_k.weight, self.to_k.bias
            k = F.relu(F.linear(frequency_embedding, weight, bias))
            return k.float() if k.dtype in (torch.float16, torch.bfloat16) else k

    def forward(self, x: Tensor, frequency_embedding: Tensor) -> Tensor:
        """Mix tokens over the whole image.

        Args:
            x: (B, H, W, C), any H, W >= 1.
            frequency_embedding: (h, w, C), see :meth:`diffusivity`.

        Returns:
            (B, H, W, C).
        """
        x = self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        u, z = self.in_proj(x).chunk(2, dim=-1)
        u = self.conduct(u, self.diffusivity(frequency_embedding))
        return self.out_proj(self.norm(u.to(self.norm.weight.dtype)) * F.silu(z))

    def conduct(self, u: Tensor, k: Tensor) -> Tensor:
        """Conduct heat in u (B, H, W, C) with k on a grid (h, w, C).

        Returns:
            Temperature, shape of u and dtype of k.
        """
        height, width = u.shape[1:3]
        with torch.autocast(u.device.type, enabled=False):
            spectrum = dct2(u.to(k.dtype), (1, 2), self.backend)
            if torch.is_grad_enabled() or self.training:
                spectrum = spectrum * self._decay(k, height, width)
            else:
                self._decay_in_place(spectrum, k)
            return idct2(spectrum, (1, 2), self.backend)

    def _decay(self, k: Tensor, height: int, width: int, rows: slice = slice(None)) -> Tensor:
        """Return exp(-k w^2) for some rows of frequencies, k interpolated to (H, W, C)."""
        to_rows = interpolation_matrix(height, k.shape[0], k)[rows]
        to_columns = interpolation_matrix(width, k.shape[1], k)
        across = torch.einsum("wb,abc->awc", to_columns, k)
        full = (to_rows @ across.flatten(1)).view(len(to_rows), width, -1)
        omega = squared_frequency(height, width, k.dtype, k.device)[rows]
        return torch.exp(-full * omega[..., None])

    def _decay_in_place(self, spectrum: Tensor, k: Tensor) -> None:
        """Multiply by the decay: the cached one if it is still true, strips if it is too large."""
        height, width = spectrum.shape[1:3]
        size = height * width * spectrum.shape[3] * spectrum.element_size()
        if torch.compiler.is_compiling():
            spectrum.mul_(self._decay(k, height, width))
        elif size <= DECAY_CACHE_BYTES:
            spectrum.mul_(self._cached_decay(k, height, width))
        else:
            self._cache = None
            strip = max(1, DECAY_CACHE_BYTES // 4 // (size // height))
            for start in range(0, height, strip):
                rows = slice(start, start + strip)
                spectrum[:, rows].mul_(self._decay(k, height, width, rows))

    def _cached_decay(self, k: Tensor, height: int, width: int) -> Tensor:
        # Comparing k itself, small as it is, sees every change of weights, dtype or device,
        # also those made through `.data`, which leave no trace in a version counter.
        cache = self._cache
        if (
            cache is None
            or cache.decay.shape[:2] != (height, width)
            or cache.diffusivity.dtype != k.dtype
            or cache.diffusivity.device != k.device
            or not torch.equal(cache.diffusivity, k)
        ):
            cache = self._cache = _CachedDecay(k.clone(), self._decay(k, height, width))
        return cache.decay

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "_cache": None}
