r"""Orthonormal, differentiable 2-D DCT-II (DCT2D) and its inverse (IDCT2D), with several backends.

Forward transform (DCT-II) of N samples along one dimension:

.. math:: X_n = s_n \sum_{i=0}^{N-1} x_i \cos\frac{\pi n (2 i + 1)}{2 N},
          \quad s_0 = \sqrt{1/N},\; s_{n>0} = \sqrt{2/N}

Inverse transform (DCT-III):

.. math:: x_i = \sum_{n=0}^{N-1} s_n X_n \cos\frac{\pi n (2 i + 1)}{2 N}

Both are separable: the 2-D transform applies them along two dimensions in turn. The transform is
orthonormal, so its adjoint, which the backward pass applies to the gradient, is its inverse. The
backward pass saves no tensors.

Backends:

- ``"matmul"``: matrix products with the N x N DCT matrix, O(N) per element. Uses tensor cores;
  fastest for small sizes.
- ``"fft"``: O(log N) per element, from an FFT of the same length (Makhoul, "A fast cosine transform
  in one and two dimensions", 1980). On the CPU, :mod:`vheatir.ops.fast.dct` calls SciPy instead.
- ``"auto"``: the faster of the two for the device and size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor

from vheatir.errors import unknown_name
from vheatir.ops.dispatch import accelerated

Backend = Literal["auto", "matmul", "fft"]
BACKENDS = ("auto", "matmul", "fft")
_Transform = Callable[[Tensor, list[int], bool], Tensor]

# Largest sizes at which the matrix product is faster, measured on two CPU cores and on an H100, the
# latter in float32 and with TF32 (torch.set_float32_matmul_precision); see docs/benchmarks.md.
_MATMUL_MAX_SIZE = {"cpu": 64, "cuda": 1024, "cuda, TF32": 4096}
# With several threads, SciPy's workers compete for the cores with PyTorch's, which busy-wait.
_MATMUL_MAX_SIZE_MULTITHREADED = 128
# SciPy's run time grows with the largest prime factor of the size, up to sevenfold: raise the limit
# by this much per unit of that factor, up to a maximum.
_MATMUL_SIZE_PER_PRIME_FACTOR = 4
_MATMUL_MAX_SIZE_PRIME = 512


def dct2(x: Tensor, dim: tuple[int, int] = (-2, -1), backend: Backend = "auto") -> Tensor:
    """Orthonormal 2-D DCT-II.

    Args:
        x: any shape, floating point. ``float16`` and ``bfloat16`` are transformed in ``float32``:
            half precision would round the large DC coefficient, which carries the image mean.
        dim: the two dimensions to transform.
        backend: see the module docstring.

    Returns:
        DCT coefficients, shape and dtype of ``x``.

    Raises:
        VHeatIRError: unknown backend.

    Example:
        >>> x = torch.ones(4, 4)
        >>> dct2(x)[0, 0]  # the mean, times the square root of the number of pixels
        tensor(4.)
        >>> torch.allclose(idct2(dct2(x)), x)
        True
    """
    return transform(x, dim, backend)


def idct2(x: Tensor, dim: tuple[int, int] = (-2, -1), backend: Backend = "auto") -> Tensor:
    """Inverse of :func:`dct2`, the orthonormal 2-D DCT-III; takes the same arguments."""
    return transform(x, dim, backend, inverse=True)


def cosine_matrix(
    size: int, dtype: torch.dtype, device: torch.device | str, *, inverse: bool = False
) -> Tensor:
    """Return the orthonormal DCT-II matrix, shape (size, size): row n is the n-th basis cosine.

    The inverse is its transpose, stored contiguously: on a GPU, products with a transposed view
    take a third longer.
    """
    make = _cosine_matrix if torch.compiler.is_compiling() else _cached_cosine_matrix
    return make(size, dtype, str(device), inverse)


def _cosine_matrix(size: int, dtype: torch.dtype, device: str, inverse: bool) -> Tensor:
    n = torch.arange(size, dtype=torch.int64, device=device)
    # Reduce the phase to one period in integers to keep full precision at large sizes.
    phase = (n[:, None] * (2 * n[None, :] + 1)) % (4 * size)
    matrix = torch.cos(phase.to(torch.float64) * (math.pi / (2 * size)))
    scale = torch.full((size, 1), math.sqrt(2.0 / size), dtype=torch.float64, device=device)
    scale[0] = math.sqrt(1.0 / size)
    matrix = (matrix * scale).to(dtype)
    return matrix.T.contiguous() if inverse else matrix


# Autograd rejects tensors created in inference mode, and the cache outlives the mode.
_cached_cosine_matrix = lru_cache(maxsize=64)(torch.inference_mode(False)(_cosine_matrix))


@accelerated
def transform(
    x: Tensor, dims: Sequence[int], backend: Backend = "auto", *, inverse: bool = False
) -> Tensor:
    """Transform over one or more dimensions; otherwise like :func:`dct2` and :func:`idct2`."""
    if backend not in BACKENDS:
        raise unknown_name("DCT backend", backend, BACKENDS)
    dims = [dim % x.ndim for dim in dims]
    if x.dtype in (torch.float16, torch.bfloat16):
        with torch.autocast(x.device.type, enabled=False):
            return transform(x.float(), dims, backend, inverse=inverse).to(x.dtype)
    chosen = choose_backend(x, dims, backend)
    if chosen == "auto":
        for dim in dims:
            x = transform(x, (dim,), inverse=inverse)
        return x
    with torch.autocast(x.device.type, enabled=False):
        return (matmul_dct if chosen == "matmul" else fft_dct)(x, dims, inverse)


def choose_backend(x: Tensor, dims: list[int], backend: Backend) -> Backend:
    """Return the backend for all of these dimensions, or "auto" if they need different ones."""
    if backend != "auto":
        return backend
    chosen: set[Backend] = {
        "matmul" if x.shape[dim] <= _matmul_max_size(x.shape[dim], x.device.type) else "fft"
        for dim in dims
    }
    return chosen.pop() if len(chosen) == 1 else "auto"


def _matmul_max_size(size: int, kind: str) -> int:
    """Return the largest size for "matmul", given the device type and the factors of ``size``."""
    if kind == "cuda" and torch.get_float32_matmul_precision() != "highest":
        kind = "cuda, TF32"
    limit = _MATMUL_MAX_SIZE.get(kind, 256)
    if kind != "cpu" or torch.compiler.is_compiling():  # a compiled size may be symbolic
        return limit
    if torch.get_num_threads() > 1:
        limit = _MATMUL_MAX_SIZE_MULTITHREADED
    limit += _MATMUL_SIZE_PER_PRIME_FACTOR * _largest_prime_factor(int(size))
    return min(limit, _MATMUL_MAX_SIZE_PRIME)


@lru_cache(maxsize=1024)
def _largest_prime_factor(size: int) -> int:
    factor = 2
    while factor * factor <= size:
        if size % factor:
            factor += 1
        else:
            size //= factor
    return size


@accelerated
def matmul_dct(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    """The "matmul" backend; dimensions >= 0."""
    for dim in dims:
        x = matmul_along(x, dim, inverse)
    return x


def matmul_along(x: Tensor, dim: int, inverse: bool, out: Tensor | None = None) -> Tensor:
    """Transform along one dimension by a matrix product, into ``out`` if given."""
    matrix = cosine_matrix(x.shape[dim], x.dtype, x.device, inverse=inverse)
    if dim == x.ndim - 1:
        return torch.matmul(x, matrix.T, out=out)
    columns = _as_columns(x, dim)
    matrices = matrix.expand(len(columns), -1, -1)
    into = None if out is None else _as_columns(out, dim)
    return torch.bmm(matrices, columns, out=into).view(x.shape)


def _as_columns(x: Tensor, dim: int) -> Tensor:
    """Reshape to (batch, N, columns) for a batched product along ``dim``.

    Leading dimensions fold into the batch, trailing ones into the columns. Channels-last tokens
    need no copy, in the forward or the backward pass.
    """
    return x.reshape(math.prod(x.shape[:dim]), x.shape[dim], math.prod(x.shape[dim + 1 :]))


class Orthonormal(torch.autograd.Function):
    """A transform ``run(x, dims, inverse)`` with its inverse as the backward pass."""

    @staticmethod
    def forward(ctx: Any, run: _Transform, x: Tensor, dims: list[int], inverse: bool) -> Tensor:
        """Return the transform."""
        ctx.run, ctx.dims, ctx.inverse = run, dims, inverse
        return run(x, dims, inverse)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        """Return the gradient with respect to x; the other arguments have none."""
        return None, Orthonormal.apply(ctx.run, grad, ctx.dims, not ctx.inverse), None, None


@accelerated
def fft_dct(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    """The "fft" backend; dimensions >= 0."""
    return Orthonormal.apply(_fft_dct, x, dims, inverse)


def _fft_dct(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    function = _idct_via_fft if inverse else _dct_via_fft
    for dim in dims:
        x = function(x.movedim(dim, -1)).movedim(-1, dim)
    return x.contiguous()


def _twiddle_factors(size: int, x: Tensor) -> Tensor:
    """Return s_n exp(-i pi n / (2 size)), s_n the orthonormal scale, for n = 0 .. size - 1."""
    n = torch.arange(size, dtype=x.dtype, device=x.device)
    scale = torch.full_like(n, math.sqrt(2.0 / size))
    scale[:1] = math.sqrt(1.0 / size)
    return torch.polar(scale, n * (-math.pi / (2 * size)))


def _dct_via_fft(x: Tensor) -> Tensor:
    """DCT-II along the last dimension from one FFT of the same length (Makhoul 1980)."""
    size = x.shape[-1]
    # Reorder: even samples ascending, then odd samples descending.
    ordered = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    return (torch.fft.fft(ordered) * _twiddle_factors(size, x)).real


def _idct_via_fft(x: Tensor) -> Tensor:
    """Inverse of :func:`_dct_via_fft`: rebuild the complex spectrum, invert, undo the order."""
    size = x.shape[-1]
    twiddle = _twiddle_factors(size, x)
    unscaled = x / twiddle.abs()
    mirrored = torch.cat([torch.zeros_like(x[..., :1]), unscaled[..., 1:].flip(-1)], dim=-1)
    spectrum = torch.complex(unscaled, -mirrored) * (twiddle.abs() / twiddle)
    ordered = torch.fft.ifft(spectrum).real
    half = (size + 1) // 2
    out = torch.empty_like(ordered)
    out[..., ::2] = ordered[..., :half]
    out[..., 1::2] = ordered[..., half:].flip(-1)
    return out
