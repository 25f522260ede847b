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
"""

from __future__ import annotations

import math
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.ops.dct import Backend, dct2, idct2, transform, transform_
from vheatir.ops.fast import fused, strips

#: Total size in bytes of the decay maps that all modules may cache between calls at inference.
DECAY_CACHE_BYTES = 32 * 2**20


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


def _decay_strips(k: Tensor, height: int, width: int) -> Callable[[int, int], Tensor]:
    """Return a function that computes exp(-k w^2) for a range of columns, (H, columns, C).

    k (h, w, C) is interpolated to the frequencies of the image.
    """
    to_rows = interpolation_matrix(height, k.shape[0], k)
    to_columns = interpolation_matrix(width, k.shape[1], k)
    across = torch.einsum("wb,abc->awc", to_columns, k)
    minus_omega = -squared_frequency(height, width, k.dtype, k.device)[..., None]

    def decay_strip(left: int, right: int) -> Tensor:
        k_strip = (to_rows @ across[:, left:right].flatten(1)).view(height, -1, k.shape[2])
        return k_strip.mul_(minus_omega[:, left:right]).exp_()

    return decay_strip


def _decay(k: Tensor, height: int, width: int) -> Tensor:
    """Return the decay map exp(-k w^2), (H, W, C), with k (h, w, C) interpolated."""
    return _decay_strips(k, height, width)(0, width)


@dataclass
class _CachedDecay:
    diffusivity: Tensor
    decay: Tensor


_caching_modules: weakref.WeakSet[HeatConduction2d] = weakref.WeakSet()
_cache_lock = threading.Lock()


def _reserve_cache(module: HeatConduction2d, decay_bytes: int, height: int, width: int) -> bool:
    """Reserve cache space for a decay map; evict maps of other image sizes if necessary."""
    with _cache_lock:
        others = [m for m in _caching_modules if m is not module]
        cached = {m: m._cache.decay for m in others if m._cache is not None}
        total = decay_bytes + sum(decay.nbytes for decay in cached.values())
        for other, decay in cached.items():
            if total > DECAY_CACHE_BYTES >= decay_bytes and decay.shape[:2] != (height, width):
                other._cache = None
                total -= decay.nbytes
        if total <= DECAY_CACHE_BYTES:
            _caching_modules.add(module)
        return total <= DECAY_CACHE_BYTES


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
    """

    needs_frequency_embedding = True

    def __init__(
        self, dim: int, inner_dim: int | None = None, *, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        inner = inner_dim or dim
        self.backend: Backend = backend
        #: Whether to cache the decay between calls at inference, within :data:`DECAY_CACHE_BYTES`.
        self.cache_decay = True
        self.dwconv = nn.Conv2d(dim, dim, 3, padding=1, groups=dim)
        self.in_proj = nn.Linear(dim, 2 * inner)
        self.to_k = nn.Linear(dim, inner)
        self.norm = nn.LayerNorm(inner)
        self.out_proj = nn.Linear(inner, dim)
        self._cache: _CachedDecay | None = None

    def diffusivity(self, frequency_embedding: Tensor) -> Tensor:
        """Thermal diffusivity k = ReLU(Linear(FVE)) on the grid of the embedding.

        Args:
            frequency_embedding: FVE (h, w, C) on a grid over [0, pi)^2, shared by the blocks of a
                group.

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
        return self.out_proj(fused.normalise(self.norm, u, gate=z))

    def stream(
        self,
        x: Tensor,
        frequency_embedding: Tensor,
        before: Callable[[Tensor], Tensor] | None,
        after: Callable[[Tensor, Tensor], None],
    ) -> None:
        """Compute ``forward(before(x))`` strip by strip, for inference.

        Every operation but the DCT is local to neighbouring rows. A strip stays in the cache of the
        CPU or GPU between operations, and only the spectrum of u and the gate z exist as full-size
        feature maps. See :func:`vheatir.ops.strips.can_stream` for when this applies.

        Args:
            x: (B, H, W, C), contiguous.
            frequency_embedding: (h, w, C), see :meth:`diffusivity`.
            before: pixel-wise function of a strip (B, rows, W, C) of x that leaves its input
                unchanged, or None.
            after: called with each strip of x and the corresponding output. It may overwrite the
                strip, which is not read again.
        """
        k = self.diffusivity(frequency_embedding)
        for images in strips.batches(x):
            spectrum, gate = self._stream_in(images, before, k.dtype)
            with torch.autocast(x.device.type, enabled=False):
                self._conduct_columns(spectrum, k)
            self._stream_out(images, spectrum, gate, after)

    def _stream_in(
        self, x: Tensor, before: Callable[[Tensor], Tensor] | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return the DCT of u along its rows, and the gate z."""
        # Allocate full-size tensors up front: keeping strips one by one fragments memory.
        shape = (*x.shape[:3], self.out_proj.in_features)
        spectrum = x.new_empty(shape, dtype=dtype)
        gate = x.new_empty(shape, dtype=fused.product_dtype(x))

        def work(top: int, bottom: int) -> None:
            u, z = self._project(strips.convolve_rows(self.dwconv, before, x, top, bottom))
            gate[:, top:bottom] = z
            transform_(u.to(dtype), (2,), self.backend, into=spectrum[:, top:bottom])

        strips.for_each_strip(x.shape[1], x.shape[2], x.device, work)
        return spectrum, gate

    def _project(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and z, the two halves of the input projection."""
        if not strips.on_cpu(x.device):
            return self.in_proj(x).chunk(2, dim=-1)
        # Two matrix products give contiguous results; copying the halves of one takes longer.
        weight, bias = self.in_proj.weight.chunk(2), self.in_proj.bias.chunk(2)
        return F.linear(x, weight[0], bias[0]), F.linear(x, weight[1], bias[1])

    def _stream_out(
        self,
        x: Tensor,
        spectrum: Tensor,
        gate: Tensor,
        after: Callable[[Tensor, Tensor], None],
    ) -> None:
        """Inverse DCT along rows, LayerNorm, gate, output projection; pass strips to ``after``."""

        def work(top: int, bottom: int) -> None:
            y = transform_(spectrum[:, top:bottom], (2,), self.backend, inverse=True)
            y = self.out_proj(fused.normalise(self.norm, y, gate=gate[:, top:bottom]))
            after(x[:, top:bottom], y)

        strips.for_each_strip(x.shape[1], x.shape[2], x.device, work)

    def conduct(self, u: Tensor, k: Tensor) -> Tensor:
        """Apply the HCO to u with k interpolated from a grid to the frequencies of u.

        Args:
            u: initial temperature, (B, H, W, C).
            k: thermal diffusivity on a grid, (h, w, C), see :meth:`diffusivity`.

        Returns:
            Temperature after conduction, shape of u and dtype of k.
        """
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(k.dtype)
            if torch.is_grad_enabled() or self.training or torch.compiler.is_compiling():
                spectrum = dct2(u, (1, 2), self.backend) * _decay(k, *u.shape[1:3])
                return idct2(spectrum, (1, 2), self.backend)
            spectrum = transform(u, (2,), self.backend)
            self._conduct_columns(spectrum, k)
            return transform_(spectrum, (2,), self.backend, inverse=True)

    def _conduct_columns(self, spectrum: Tensor, k: Tensor) -> None:
        """DCT along columns, multiply by the decay, inverse DCT; in place, in strips of columns.

        Args:
            spectrum: DCT along rows of u, (B, H, W, C).
            k: (h, w, C).
        """
        height, width = spectrum.shape[1:3]
        decay_ = self._decay_function(spectrum, k)

        def work(left: int, right: int) -> None:
            strip = spectrum[:, :, left:right]
            y = transform_(strip, (1,), self.backend)
            decay_(y, left)
            transform_(y, (1,), self.backend, inverse=True, into=strip)

        strips.for_each_strip(width, len(spectrum) * height, spectrum.device, work)

    def _decay_function(self, spectrum: Tensor, k: Tensor) -> Callable[[Tensor, int], object]:
        """Return an in-place ``decay_(strip, left)``, where ``left`` is the strip's first column.

        In order of preference: the fused kernel, which computes the decay on the fly; the cached
        decay map; or the decay of each strip in turn, if the map does not fit into the cache.
        """
        height, width, channels = spectrum.shape[1:]
        if fused.can_decay(spectrum, k):
            return lambda y, left: fused.decay_(y, k, left, width)
        size = height * width * channels * spectrum.element_size()
        if self.cache_decay and _reserve_cache(self, size, height, width):
            decay = self._cached_decay(k, height, width)
            return lambda y, left: y.mul_(decay[:, left : left + y.shape[2]])
        self._cache = None
        decay_strip = _decay_strips(k, height, width)
        return lambda y, left: y.mul_(decay_strip(left, left + y.shape[2]))

    def _cached_decay(self, k: Tensor, height: int, width: int) -> Tensor:
        # k is small, so compare it directly: this detects every change of weights, dtype or device,
        # including changes through `.data`, which do not increment the version counter.
        cache = self._cache
        if (
            cache is None
            or cache.decay.shape[:2] != (height, width)
            or cache.diffusivity.dtype != k.dtype
            or cache.diffusivity.device != k.device
            or not torch.equal(cache.diffusivity, k)
        ):
            self._cache = None  # free the old map before allocating the new one
            decay = k.new_empty(height, width, k.shape[2])
            decay_strip = _decay_strips(k, height, width)

            def fill(left: int, right: int) -> None:
                decay[:, left:right] = decay_strip(left, right)

            strips.for_each_strip(width, height, k.device, fill)
            cache = self._cache = _CachedDecay(k.clone(), decay)
        return cache.decay

    def __getstate__(self) -> dict[str, object]:
        """Exclude the cache from copies and pickles."""
        return {**self.__dict__, "_cache": None}
