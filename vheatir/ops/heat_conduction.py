r"""The Heat Conduction Operator (HCO) of vHeat.

Wang et al., "Building Vision Models upon Heat Conduction", CVPR 2025 (arXiv 2405.16555).

Heat equation for a temperature u(x, y, t) with thermal diffusivity k, on a plate with insulated
edges (Neumann boundary condition):

.. math:: \frac{\partial u}{\partial t}
          = k \left(\frac{\partial^2 u}{\partial x^2} + \frac{\partial^2 u}{\partial y^2}\right),
          \quad \frac{\partial u}{\partial \mathbf{n}} = 0 \text{ at the edges}

The boundary condition makes the cosine basis the eigenbasis of the Laplacian. In it the solution
for an initial temperature :math:`U^0` is a product, which defines the HCO:

.. math:: U^t = \mathrm{IDCT_{2D}}\bigl(\mathrm{DCT_{2D}}(U^0)\,
          e^{-k(\omega_n^2 + \omega_m^2) t}\bigr),
          \quad \omega_n = \frac{n\pi}{H},\; \omega_m = \frac{m\pi}{W}

for an image of H x W pixels and frequency indices n = 0 .. H - 1, m = 0 .. W - 1. The time t is
fixed and absorbed into k, which is then in pixels squared. A learned k depends on the frequency: it
is predicted from frequency value embeddings (FVEs),
:math:`k = \mathrm{ReLU}(\mathrm{Linear}(\mathrm{FVE}))`.

Inference takes faster versions of :class:`HeatConduction2d`, from :mod:`vheatir.ops.fast`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.ops.dct import Backend, dct2, idct2
from vheatir.ops.dispatch import accelerated
from vheatir.ops.layer_norm import LayerNorm


def squared_frequency(
    height: int, width: int, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> Tensor:
    """Return w_n^2 + w_m^2, the negated Laplacian eigenvalues, shape (height, width).

    In radians squared per pixel squared, with w_n = n pi / height and w_m = m pi / width.
    """
    w_n = torch.arange(height, dtype=dtype, device=device) * (math.pi / height)
    w_m = torch.arange(width, dtype=dtype, device=device) * (math.pi / width)
    return w_n.square()[:, None] + w_m.square()[None, :]


def heat_conduction(
    u: Tensor, k: Tensor | float, dim: tuple[int, int] = (-2, -1), backend: Backend = "auto"
) -> Tensor:
    r"""Apply the HCO: :math:`U^t = IDCT_{2D}(DCT_{2D}(U^0) e^{-k(\omega_n^2 + \omega_m^2)})`.

    Args:
        u: initial temperature U^0, any shape, floating point.
        k: thermal diffusivity times time, >= 0, in pixels squared; a number, or a tensor that
            broadcasts to the shape of ``u`` and holds one value per coefficient of
            ``dct2(u, dim)``.
        dim: the two spatial dimensions, rows (n) before columns (m).
        backend: DCT backend, see :func:`vheatir.ops.dct.dct2`.

    Returns:
        Temperature U^t, shape and dtype of ``u``. The mean over ``dim`` is conserved.

    Example:
        A hot pixel spreads; no heat is lost.

        >>> plate = torch.zeros(32, 32)
        >>> plate[16, 16] = 1
        >>> warm = heat_conduction(plate, k=8.0)
        >>> print(f"sum {float(warm.sum()):.3f}, hottest {float(warm.max()):.4f}")
        sum 1.000, hottest 0.0099
    """
    rows, columns = dim[0] % u.ndim, dim[1] % u.ndim
    work = torch.float32 if u.dtype in (torch.float16, torch.bfloat16) else u.dtype
    omega = squared_frequency(u.shape[rows], u.shape[columns], work, u.device)
    omega = omega if rows < columns else omega.T
    shape = [size if d in (rows, columns) else 1 for d, size in enumerate(u.shape)]
    decay = torch.exp(-k * omega.reshape(shape))
    return idct2(dct2(u.to(work), dim, backend) * decay, dim, backend).to(u.dtype)


def interpolation_matrix(size: int, grid: int, like: Tensor) -> Tensor:
    """Linear interpolation from a grid over [0, pi) to the frequencies of an image dimension.

    Node j of the grid is at the frequency ``j * pi / grid``; frequency n of an image dimension of
    ``size`` pixels is ``n * pi / size``. A physical frequency thus has the same value at every
    image size. Above the last node the value is constant.

    Returns:
        Matrix of shape (size, grid), dtype and device of ``like``.
    """
    position = torch.arange(size, dtype=like.dtype, device=like.device) * (grid / size)
    position = position.clamp(max=grid - 1)
    nodes = torch.arange(grid, dtype=like.dtype, device=like.device)
    return (1 - (position[:, None] - nodes[None, :]).abs()).clamp(min=0)


def interpolate(k: Tensor, height: int, width: int) -> Tensor:
    """Interpolate k (h, w, C) from its grid to the frequencies of an image, (height, width, C)."""
    k = torch.einsum("mb,abc->amc", interpolation_matrix(width, k.shape[1], k), k)
    return torch.einsum("na,amc->nmc", interpolation_matrix(height, k.shape[0], k), k)


class HeatConduction2d(nn.Module):
    """The HCO module of a vHeat block: depthwise convolution, heat conduction, SiLU gate.

    ::

        u, z = Linear(DWConv3x3(x))
        k = ReLU(Linear(FVE))
        out = Linear(LayerNorm(HCO(u, k)) * SiLU(z))

    Layout: channels-last tokens of shape (B, H, W, C), contiguous. The DCT then runs over
    dimensions 1 and 2 without a copy, and the depthwise convolution reads a channels-last image.

    Args:
        dim: number of channels C.
        inner_dim: number of channels of u and z; ``dim`` when None.
        backend: DCT backend, see :func:`vheatir.ops.dct.dct2`.

    Example:
        >>> mixer = HeatConduction2d(16)
        >>> embedding = torch.randn(8, 8, 16)  # learned, shared by the blocks of a group
        >>> mixer(torch.randn(1, 24, 40, 16), embedding).shape
        torch.Size([1, 24, 40, 16])
    """

    needs_frequency_embedding = True

    def __init__(
        self, dim: int, inner_dim: int | None = None, *, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        inner = inner_dim or dim
        self.backend: Backend = backend
        #: Whether inference may keep the decay between calls, see :mod:`vheatir.ops.fast.decay`.
        self.cache_decay = True
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.in_proj = nn.Linear(dim, 2 * inner)
        self.to_k = nn.Linear(dim, inner)
        self.norm = LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim)

    def diffusivity(self, frequency_embedding: Tensor) -> Tensor:
        """Thermal diffusivity k = ReLU(Linear(FVE)) on the grid of the embedding.

        Args:
            frequency_embedding: FVE (h, w, C) on a grid over [0, pi)^2, shared by the blocks of a
                group.

        Returns:
            k >= 0 in pixels squared, shape (h, w, C_inner), float32 or float64.
        """
        with torch.autocast(frequency_embedding.device.type, enabled=False):
            k = F.relu(self.to_k(frequency_embedding))
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
        return self.out_proj(self.norm(u, gate=z))

    @accelerated
    def conduct(self, u: Tensor, k: Tensor) -> Tensor:
        """Apply the HCO to u with k interpolated from a grid to the frequencies of u.

        Args:
            u: initial temperature, (B, H, W, C).
            k: thermal diffusivity on a grid, (h, w, C), see :meth:`diffusivity`.

        Returns:
            Temperature after conduction, shape of u and dtype of k.
        """
        with torch.autocast(u.device.type, enabled=False):
            k = interpolate(k, u.shape[1], u.shape[2])
            return heat_conduction(u.to(k.dtype), k, (1, 2), self.backend)
