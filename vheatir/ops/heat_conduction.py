r"""The Heat Conduction Operator (HCO) of vHeat (CVPR 2025, arXiv 2405.16555).

Heat in a plate with insulated edges, :math:`u_t = k (u_{xx} + u_{yy})`, is diagonal in the cosine
basis, so one step of any length is

.. math:: u_t = \mathrm{IDCT2}\bigl(\mathrm{DCT2}(u_0)\, e^{-k(\omega_n^2 + \omega_m^2)}\bigr),
          \quad \omega_n = n\pi/H,\; \omega_m = m\pi/W

with the time folded into the thermal diffusivity k, in pixels squared.
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

from vheatir.ops import fused, strips
from vheatir.ops.dct import Backend, dct2, idct2, transform2_

#: Bytes that all modules together may keep of their decay maps between calls at inference.
DECAY_CACHE_BYTES = 32 * 2**20

# Rows of a decay at a time: they stay in a processor's caches while they are worked on.
_STRIP_BYTES = 2**20


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


_caching: weakref.WeakSet[HeatConduction2d] = weakref.WeakSet()
_caching_lock = threading.Lock()


def _may_cache(module: HeatConduction2d, decay_bytes: int, height: int, width: int) -> bool:
    """Reserve room for a decay map; maps of other image sizes make room if they must."""
    with _caching_lock:
        held = {m: m._cache.decay for m in _caching if m is not module and m._cache is not None}
        total = decay_bytes + sum(decay.nbytes for decay in held.values())
        for other, decay in held.items():
            if total > DECAY_CACHE_BYTES >= decay_bytes and decay.shape[:2] != (height, width):
                other._cache = None
                total -= decay.nbytes
        if total <= DECAY_CACHE_BYTES:
            _caching.add(module)
        return total <= DECAY_CACHE_BYTES


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
        #: Whether the decay is kept between calls at inference, within :data:`DECAY_CACHE_BYTES`.
        self.cache_decay = True
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
        return self.out_proj(fused.normalise(self.norm, u, gate=z))

    def stream(
        self,
        x: Tensor,
        frequency_embedding: Tensor,
        before: Callable[[Tensor], Tensor],
        after: Callable[[Tensor, Tensor], None],
    ) -> None:
        """Mix ``before(x)`` strip by strip: all but the transform is local to neighbouring rows.

        A strip stays in the processor's caches from one operation to the next, and only u exists
        as a whole map: what leads to the gate is computed twice, once for u and once for the gate.
        For inference on a CPU, see :func:`vheatir.ops.strips.can_stream`.

        Args:
            x: (B, H, W, C), contiguous.
            frequency_embedding: (h, w, C).
            before: applied pixel by pixel to strips (1, rows, W, C) of x, its input not changed.
            after: called with each strip of x and the mixer's output for it. It may write to the
                strip: no other strip is computed from it.
        """
        k = self.diffusivity(frequency_embedding)
        for image in x.split(1):
            u = self._stream_u(image, before, k)
            with torch.autocast("cpu", enabled=False):
                u = self._conduct_in_place(u, k)
            self._stream_out(image, u, before, after)

    def _stream_u(self, x: Tensor, before: Callable[[Tensor], Tensor], k: Tensor) -> Tensor:
        """Return u of one image, in the dtype of k."""
        height, width = x.shape[1:3]
        weight, bias = self.in_proj.weight.chunk(2)[0], self.in_proj.bias.chunk(2)[0]
        u = torch.empty(1, height, width, len(bias), dtype=k.dtype)

        def work(band: strips.Band) -> None:
            for top, bottom in strips.strips(band, width):
                first, last = max(0, top - 1), min(height, bottom + 1)  # the convolution's reach
                y = self._convolve(before(x[:, first:last]), top - first, bottom - first)
                u[:, top:bottom] = F.linear(y, weight, bias)

        strips.for_each(strips.bands(height), work)
        return u

    def _stream_out(
        self,
        x: Tensor,
        u: Tensor,
        before: Callable[[Tensor], Tensor],
        after: Callable[[Tensor, Tensor], None],
    ) -> None:
        """Gate u, project it, and hand the strips of one image on."""
        height, width = x.shape[1:3]
        weight, bias = self.in_proj.weight.chunk(2)[1], self.in_proj.bias.chunk(2)[1]
        bands = strips.bands(height)
        # What `after` writes in one strip must not reach the convolution in the next: the rows on
        # both sides of a border between bands are kept, and inside a band the last row of a strip.
        borders = {top: x[:, top - 1 : top + 1].clone() for top, _ in bands[1:]}
        nothing = x[:, :0]

        def work(band: strips.Band) -> None:
            above = borders[band[0]][:, :1] if band[0] in borders else nothing
            for top, bottom in strips.strips(band, width):
                strip, below = x[:, top:bottom], x[:, bottom : bottom + 1]
                if bottom in borders and bottom == band[1]:
                    below = borders[bottom][:, 1:]
                first = above.shape[1]
                y = before(torch.cat([above, strip, below], dim=1))
                y = self._convolve(y, first, first + bottom - top)
                above = strip[:, -1:].clone()
                gate = F.silu(F.linear(y, weight, bias), inplace=True)
                y = self.norm(u[:, top:bottom].to(self.norm.weight.dtype)) * gate
                after(strip, self.out_proj(y))

        strips.for_each(bands, work)

    def _convolve(self, x: Tensor, first: int, last: int) -> Tensor:
        """Return rows ``first`` to ``last`` of the depthwise convolution of x (1, rows, W, C)."""
        return self.dwconv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)[:, first:last]

    def conduct(self, u: Tensor, k: Tensor) -> Tensor:
        """Conduct heat in u (B, H, W, C) with k on a grid (h, w, C).

        Returns:
            Temperature, shape of u and dtype of k.
        """
        height, width = u.shape[1:3]
        with torch.autocast(u.device.type, enabled=False):
            spectrum = dct2(u.to(k.dtype), (1, 2), self.backend)
            if torch.is_grad_enabled() or self.training or torch.compiler.is_compiling():
                spectrum = spectrum * self._decay(k, height, width)
                return idct2(spectrum, (1, 2), self.backend)
            self._decay_in_place(spectrum, k)
            return transform2_(spectrum, (1, 2), self.backend, inverse=True)

    def _conduct_in_place(self, u: Tensor, k: Tensor) -> Tensor:
        spectrum = transform2_(u, (1, 2), self.backend, inverse=False)
        self._decay_in_place(spectrum, k)
        return transform2_(spectrum, (1, 2), self.backend, inverse=True)

    def _decay(self, k: Tensor, height: int, width: int) -> Tensor:
        """Return exp(-k w^2), k interpolated to (H, W, C)."""
        to_rows = interpolation_matrix(height, k.shape[0], k)
        to_columns = interpolation_matrix(width, k.shape[1], k)
        across = torch.einsum("wb,abc->awc", to_columns, k)
        full = (to_rows @ across.flatten(1)).view(height, width, -1)
        omega = squared_frequency(height, width, k.dtype, k.device)
        return torch.exp(-full * omega[..., None])

    def _decay_in_place(self, spectrum: Tensor, k: Tensor) -> None:
        """Multiply by the decay: the cached one if it is still true, strips if it is too large.

        Where there is a kernel that makes the decay as it goes, neither is needed.
        """
        if fused.decay_(spectrum, k):
            return
        height, width = spectrum.shape[1:3]
        size = height * width * spectrum.shape[3] * spectrum.element_size()
        if self.cache_decay and _may_cache(self, size, height, width):
            spectrum.mul_(self._cached_decay(k, height, width))
            return
        self._cache = None
        self._for_decay_strips(k, height, width, lambda rows, decay: spectrum[:, rows].mul_(decay))

    @staticmethod
    def _for_decay_strips(
        k: Tensor, height: int, width: int, use: Callable[[slice, Tensor], object]
    ) -> None:
        """Call ``use`` with :meth:`_decay` by rows of frequencies, without a gradient."""
        channels = k.shape[2]
        to_rows = interpolation_matrix(height, k.shape[0], k)
        to_columns = interpolation_matrix(width, k.shape[1], k)
        across = torch.einsum("wb,abc->awc", to_columns, k).flatten(1)
        minus_omega = squared_frequency(height, width, k.dtype, k.device).neg_()[..., None]
        row_bytes = width * channels * k.element_size()
        step = max(1, min(_STRIP_BYTES, DECAY_CACHE_BYTES // 4) // row_bytes)
        on_cpu = k.device.type == "cpu"
        if not on_cpu:
            step *= 8  # enough work for each kernel

        def work(band: strips.Band) -> None:
            for top in range(*band, step):
                rows = slice(top, min(top + step, band[1]))
                decay = (to_rows[rows] @ across).view(-1, width, channels)
                use(rows, decay.mul_(minus_omega[rows]).exp_())

        strips.for_each(strips.bands(height) if on_cpu else [(0, height)], work)

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
            self._cache = None  # the old map goes before the new one comes
            whole = k.new_empty(height, width, k.shape[2])
            self._for_decay_strips(k, height, width, whole.__setitem__)
            cache = self._cache = _CachedDecay(k.clone(), whole)
        return cache.decay

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "_cache": None}
