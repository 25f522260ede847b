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
from vheatir.ops.dct import Backend, dct2, idct2, transform, transform_

#: Bytes that all modules together may keep of their decay maps between calls at inference.
DECAY_CACHE_BYTES = 32 * 2**20


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


def _decay_by_columns(k: Tensor, height: int, width: int) -> Callable[[int, int], Tensor]:
    """Return what makes exp(-k w^2) for columns from .. to, (H, columns, C).

    With k (h, w, C) interpolated to the image's frequencies.
    """
    to_rows = interpolation_matrix(height, k.shape[0], k)
    to_columns = interpolation_matrix(width, k.shape[1], k)
    across = torch.einsum("wb,abc->awc", to_columns, k)
    minus_omega = -squared_frequency(height, width, k.dtype, k.device)[..., None]

    def make(left: int, right: int) -> Tensor:
        full = (to_rows @ across[:, left:right].flatten(1)).view(height, -1, k.shape[2])
        return full.mul_(minus_omega[:, left:right]).exp_()

    return make


def _decay(k: Tensor, height: int, width: int) -> Tensor:
    """Return exp(-k w^2), (H, W, C), k (h, w, C) interpolated."""
    return _decay_by_columns(k, height, width)(0, width)


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
        before: Callable[[Tensor], Tensor] | None,
        after: Callable[[Tensor, Tensor], None],
    ) -> None:
        """Mix ``before(x)`` strip by strip: all but the transform is local to neighbouring rows.

        A strip stays in the caches of the processor or GPU from one operation to the next, and
        only u and the gate exist as whole maps. For inference, see
        :func:`vheatir.ops.strips.can_stream`.

        Args:
            x: (B, H, W, C), contiguous.
            frequency_embedding: (h, w, C).
            before: applied pixel by pixel to strips (B, rows, W, C) of x, its input not changed;
                or None.
            after: called with each strip of x and the mixer's output for it. It may write to the
                strip: nothing is computed from it any more.
        """
        k = self.diffusivity(frequency_embedding)
        for images in strips.batches(x):
            spectrum, gate = self._stream_in(images, before, k.dtype)
            with torch.autocast(x.device.type, enabled=False):
                self._decay_columns(spectrum, k)
            self._stream_out(images, spectrum, gate, after)

    def _stream_in(
        self, x: Tensor, before: Callable[[Tensor], Tensor] | None, dtype: torch.dtype
    ) -> tuple[Tensor, Tensor]:
        """Return u, transformed along its rows, and the gate."""
        # Maps made at once: strips that are kept one by one leave holes between them in memory.
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
        """Return u and z."""
        if not strips.on_cpu(x.device):
            return self.in_proj(x).chunk(2, dim=-1)
        # Two products leave both contiguous; copies of parts of one would take longer.
        weight, bias = self.in_proj.weight.chunk(2), self.in_proj.bias.chunk(2)
        return F.linear(x, weight[0], bias[0]), F.linear(x, weight[1], bias[1])

    def _stream_out(
        self,
        x: Tensor,
        spectrum: Tensor,
        gate: Tensor,
        after: Callable[[Tensor, Tensor], None],
    ) -> None:
        """Transform u back along its rows, gate it, project it, and hand the strips on."""

        def work(top: int, bottom: int) -> None:
            y = transform_(spectrum[:, top:bottom], (2,), self.backend, inverse=True)
            y = self.out_proj(fused.normalise(self.norm, y, gate=gate[:, top:bottom]))
            after(x[:, top:bottom], y)

        strips.for_each_strip(x.shape[1], x.shape[2], x.device, work)

    def conduct(self, u: Tensor, k: Tensor) -> Tensor:
        """Conduct heat in u (B, H, W, C) with k on a grid (h, w, C).

        Returns:
            Temperature, shape of u and dtype of k.
        """
        with torch.autocast(u.device.type, enabled=False):
            u = u.to(k.dtype)
            if torch.is_grad_enabled() or self.training or torch.compiler.is_compiling():
                spectrum = dct2(u, (1, 2), self.backend) * _decay(k, *u.shape[1:3])
                return idct2(spectrum, (1, 2), self.backend)
            spectrum = transform(u, (2,), self.backend)
            self._decay_columns(spectrum, k)
            return transform_(spectrum, (2,), self.backend, inverse=True)

    def _decay_columns(self, spectrum: Tensor, k: Tensor) -> None:
        """Transform (B, H, W, C) along its columns, multiply by the decay, transform back.

        In place, in strips of columns.
        """
        height, width = spectrum.shape[1:3]
        decay_ = self._decay_for(spectrum, k)

        def work(left: int, right: int) -> None:
            strip = spectrum[:, :, left:right]
            y = transform_(strip, (1,), self.backend)
            decay_(y, left)
            transform_(y, (1,), self.backend, inverse=True, into=strip)

        strips.for_each_strip(width, len(spectrum) * height, spectrum.device, work)

    def _decay_for(self, spectrum: Tensor, k: Tensor) -> Callable[[Tensor, int], object]:
        """Return what multiplies a strip of columns, from a first one on, by the decay in place.

        It takes the kernel that makes the decay as it goes, where there is one; else the map kept,
        if that is still true; else, if the map is too large to be kept, it makes each strip's.
        """
        height, width, channels = spectrum.shape[1:]
        if fused.can_decay(spectrum, k):
            return lambda y, left: fused.decay_(y, k, left, width)
        size = height * width * channels * spectrum.element_size()
        if self.cache_decay and _may_cache(self, size, height, width):
            whole = self._cached_decay(k, height, width)
            return lambda y, left: y.mul_(whole[:, left : left + y.shape[2]])
        self._cache = None
        make = _decay_by_columns(k, height, width)
        return lambda y, left: y.mul_(make(left, left + y.shape[2]))

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
            make = _decay_by_columns(k, height, width)

            def fill(left: int, right: int) -> None:
                whole[:, left:right] = make(left, right)

            strips.for_each_strip(width, height, k.device, fill)
            cache = self._cache = _CachedDecay(k.clone(), whole)
        return cache.decay

    def __getstate__(self) -> dict[str, object]:
        """Leave the cache out of copies and pickles."""
        return {**self.__dict__, "_cache": None}
