r"""Two-dimensional DCT-II and its inverse, orthonormal, differentiable, with a choice of backends.

.. math:: X_n = s_n \sum_{i=0}^{N-1} x_i \cos\frac{\pi n (2 i + 1)}{2 N},
          \quad s_0 = \sqrt{1/N},\; s_{n>0} = \sqrt{2/N}

along both dimensions. The transform is orthonormal, so its adjoint, which is what a backward pass
needs, is its inverse: nothing is saved for it.

Backends:

- ``"matmul"``: products with the N x N cosine matrix, O(N) per element. Tensor cores, small sizes.
- ``"fft"``: O(log N) per element; :func:`scipy.fft.dctn` on the CPU, :mod:`torch.fft` elsewhere
  (Makhoul, "A fast cosine transform in one and two dimensions", 1980).
- ``"auto"``: whichever is faster for the device and size at hand.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import scipy.fft
import torch
from torch import Tensor, library

from vheatir.errors import unknown_name

Backend = Literal["auto", "matmul", "fft"]
BACKENDS = ("auto", "matmul", "fft")

# Sizes up to which the dense product is faster, measured on two CPU cores and on an H100, there in
# float32 and with TF32 (torch.set_float32_matmul_precision); see docs/benchmarks.md.
_MATMUL_UP_TO = {"cpu": 64, "cuda": 1024, "cuda, TF32": 4096}
# With several threads, SciPy's have to share the cores with PyTorch's, which wait by spinning.
_MATMUL_UP_TO_THREADS = 128
# SciPy's time grows with the largest prime factor of a size, up to sevenfold; so does the limit.
_MATMUL_FOR_A_PRIME = 4
_MATMUL_FOR_PRIMES_UP_TO = 512


def dct2(x: Tensor, dim: tuple[int, int] = (-2, -1), backend: Backend = "auto") -> Tensor:
    """Orthonormal DCT-II over two dimensions.

    Args:
        x: any shape, floating point. ``float16`` and ``bfloat16`` are transformed in ``float32``:
            the mean of an image ends in one large coefficient, which half precision would round.
        dim: the two dimensions to transform.
        backend: see the module's docstring.

    Returns:
        Coefficients, shape and dtype of ``x``.

    Raises:
        VHeatIRError: unknown backend.
    """
    return transform(x, dim, backend)


def idct2(x: Tensor, dim: tuple[int, int] = (-2, -1), backend: Backend = "auto") -> Tensor:
    """Inverse of :func:`dct2` (the orthonormal DCT-III); arguments as there."""
    return transform(x, dim, backend, inverse=True)


def cosine_matrix(
    size: int, dtype: torch.dtype, device: torch.device | str, *, inverse: bool = False
) -> Tensor:
    """Return the orthonormal DCT-II matrix, shape (size, size): row n holds the n-th cosine.

    The inverse is its transpose, turned in memory: products with a matrix that is read the other
    way take a third longer on a GPU.
    """
    make = _cosine_matrix if torch.compiler.is_compiling() else _cached_cosine_matrix
    return make(size, dtype, str(device), inverse)


def _cosine_matrix(size: int, dtype: torch.dtype, device: str, inverse: bool) -> Tensor:
    n = torch.arange(size, dtype=torch.int64, device=device)
    # The phase is reduced to one period in integers, so that large sizes lose no digits.
    phase = (n[:, None] * (2 * n[None, :] + 1)) % (4 * size)
    matrix = torch.cos(phase.to(torch.float64) * (math.pi / (2 * size)))
    scale = torch.full((size, 1), math.sqrt(2.0 / size), dtype=torch.float64, device=device)
    scale[0] = math.sqrt(1.0 / size)
    matrix = (matrix * scale).to(dtype)
    return matrix.T.contiguous() if inverse else matrix


@lru_cache(maxsize=64)
def _cached_cosine_matrix(size: int, dtype: torch.dtype, device: str, inverse: bool) -> Tensor:
    # A matrix made in inference mode would later be refused by autograd.
    with torch.inference_mode(False):
        return _cosine_matrix(size, dtype, device, inverse)


def transform(
    x: Tensor, dims: Sequence[int], backend: Backend = "auto", *, inverse: bool = False
) -> Tensor:
    """Transform over any dimensions, one or more; otherwise as :func:`dct2` and :func:`idct2`."""
    if backend not in BACKENDS:
        raise unknown_name("DCT backend", backend, BACKENDS)
    dims = [dim % x.ndim for dim in dims]
    if x.dtype in (torch.float16, torch.bfloat16):
        with torch.autocast(x.device.type, enabled=False):
            return transform(x.float(), dims, backend, inverse=inverse).to(x.dtype)
    chosen = _choose(x, dims, backend)
    if chosen == "auto":
        for dim in dims:
            x = transform(x, (dim,), inverse=inverse)
        return x
    if chosen == "matmul":
        with torch.autocast(x.device.type, enabled=False):
            seen_by_autograd_alone = not (torch.compiler.is_compiling() or torch.jit.is_tracing())
            if x.requires_grad and x.device.type == "cpu" and seen_by_autograd_alone:
                return _CpuProducts.apply(x, dims, inverse)
            for dim in dims:
                x = _matmul_along(x, dim, inverse)
        return x
    if x.device.type == "cpu":
        plain = _unseen(x)
        return _by_scipy(x, dims, inverse) if plain else _scipy_dctn(x, dims, inverse)
    return _FourierDct.apply(x, dims, inverse)


def transform_(
    x: Tensor,
    dims: Sequence[int],
    backend: Backend = "auto",
    *,
    inverse: bool = False,
    into: Tensor | None = None,
) -> Tensor:
    """Transform as :func:`transform`, without a gradient, for a caller that needs x no more.

    Args:
        x: float32 or float64; any strides.
        dims: as there.
        backend: as there.
        inverse: as there.
        into: where the result is to be written, the shape of x, also x itself.

    Returns:
        The result: ``into``, or else x itself or a new tensor, whichever is done sooner.
    """
    dims = [dim % x.ndim for dim in dims]
    chosen = _choose(x, dims, backend)
    if chosen == "fft" and x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64):
        # Samples side by side are transformed in half the time of samples far apart.
        if into is not None and into.is_contiguous():
            x = into.copy_(x)
        elif not x.is_contiguous():
            x = x.contiguous()
        (_by_scipy_in_place if _unseen(x) else _scipy_dctn_)(x, dims, inverse)
        return x if into is None or into is x else into.copy_(x)
    if into is None:
        return transform(x, dims, backend, inverse=inverse)
    if chosen == "matmul" and into is not x and len(x) == len(dims) == 1 and x.ndim == 4:
        return _matmul_into(into, x, dims[0], inverse)
    return into.copy_(transform(x, dims, backend, inverse=inverse))


def _choose(x: Tensor, dims: list[int], backend: Backend) -> Backend:
    """Return the backend for all of these dimensions, or "auto" if each needs its own."""
    if backend != "auto":
        return backend
    chosen: set[Backend] = {
        "matmul" if x.shape[dim] <= _matmul_up_to(x.shape[dim], x.device.type) else "fft"
        for dim in dims
    }
    return chosen.pop() if len(chosen) == 1 else "auto"


def _matmul_up_to(size: int, kind: str) -> int:
    """Return the largest size for products on this kind of device, for sizes such as this one."""
    if kind == "cuda" and torch.get_float32_matmul_precision() != "highest":
        kind = "cuda, TF32"
    limit = _MATMUL_UP_TO.get(kind, 256)
    if kind != "cpu" or torch.compiler.is_compiling():  # a compiled size may be no number yet
        return limit
    if torch.get_num_threads() > 1:
        limit = _MATMUL_UP_TO_THREADS
    limit += _MATMUL_FOR_A_PRIME * _largest_prime_factor(int(size))
    return min(limit, _MATMUL_FOR_PRIMES_UP_TO)


@lru_cache(maxsize=1024)
def _largest_prime_factor(size: int) -> int:
    factor = 2
    while factor * factor <= size:
        if size % factor:
            factor += 1
        else:
            size //= factor
    return size


def _matmul_along(x: Tensor, dim: int, inverse: bool, out: Tensor | None = None) -> Tensor:
    matrix = cosine_matrix(x.shape[dim], x.dtype, x.device, inverse=inverse)
    if dim == x.ndim - 1:
        return torch.matmul(x, matrix.T, out=out)
    columns = _as_columns(x, dim)
    matrices = matrix.expand(len(columns), -1, -1)
    into = None if out is None else _as_columns(out, dim)
    return torch.bmm(matrices, columns, out=into).view(x.shape)


def _as_columns(x: Tensor, dim: int) -> Tensor:
    """Fold trailing dimensions into columns of products, leading ones into their number.

    No copy for channels-last tokens, forwards or backwards.
    """
    return x.reshape(math.prod(x.shape[:dim]), x.shape[dim], math.prod(x.shape[dim + 1 :]))


def _matmul_into(out: Tensor, x: Tensor, dim: int, inverse: bool) -> Tensor:
    """Write the product along dimension 1 or 2 of one image's tokens where it is to be.

    Neither x nor ``out`` has to be contiguous: products skip what lies between their rows.
    """
    matrix = cosine_matrix(x.shape[dim], x.dtype, x.device, inverse=inverse)
    with torch.autocast(x.device.type, enabled=False):
        if dim == 1:
            torch.mm(matrix, x[0].flatten(1), out=out[0].view(len(matrix), -1))
        else:
            torch.bmm(matrix.expand(x.shape[1], -1, -1), x[0], out=out[0])
    return out


#: Call SciPy through operators of PyTorch always, so that its dispatch modes see the transform.
AS_OPERATORS = False


def _unseen(x: Tensor) -> bool:
    """Tell whether neither autograd nor a tracer has to see the transform of x.

    The first call of an operator of ours makes PyTorch import its compiler: seconds, and 70 MB.
    """
    seen = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not (seen or AS_OPERATORS) and type(x) is Tensor


def _by_scipy(x: Tensor, dims: list[int], inverse: bool, overwrite: bool = False) -> Tensor:
    function = scipy.fft.idctn if inverse else scipy.fft.dctn
    array, workers = x.detach().numpy(), torch.get_num_threads()
    kind = {"type": 2, "axes": dims, "norm": "ortho"}
    return torch.from_numpy(function(array, **kind, overwrite_x=overwrite, workers=workers))


def _by_scipy_in_place(x: Tensor, dims: list[int], inverse: bool) -> None:
    out = _by_scipy(x, dims, inverse, overwrite=True)
    if out.data_ptr() != x.data_ptr():  # overwriting is SciPy's liberty, not its promise
        x.copy_(out)


_scipy_dctn_ = library.custom_op("vheatir::scipy_dctn_", _by_scipy_in_place, mutates_args={"x"})


@library.custom_op("vheatir::scipy_dctn", mutates_args=())
def _scipy_dctn(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    """DCT by SciPy's pocketfft; a custom operator, so that torch.compile keeps its graph whole."""
    return _by_scipy(x, dims, inverse)


@_scipy_dctn.register_fake
def _(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _keep_arguments(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dims, ctx.inverse = inputs


def _scipy_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return _scipy_dctn(grad, ctx.dims, not ctx.inverse), None, None


_scipy_dctn.register_autograd(_scipy_backward, setup_context=_keep_arguments)


class _CpuProducts(torch.autograd.Function):
    """Products beside a gradient, into memory of NumPy's.

    PyTorch's is aligned to 64 bytes, and once free is not found again by the C library (glibc 2.36)
    for the next map of its size: a training step of ``light`` took a fifth more memory.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: list[int], inverse: bool) -> Tensor:
        ctx.dims, ctx.inverse = dims, inverse
        for dim in dims:
            out = torch.from_numpy(np.empty(x.shape, x.detach().numpy().dtype))
            x = _matmul_along(x, dim, inverse, out)
        return x

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _CpuProducts.apply(grad, ctx.dims, not ctx.inverse), None, None


class _FourierDct(torch.autograd.Function):
    """DCT through torch.fft, for devices that SciPy does not reach."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, dims: list[int], inverse: bool) -> Tensor:
        ctx.dims, ctx.inverse = dims, inverse
        for dim in dims:
            step = _idct_by_fft if inverse else _dct_by_fft
            x = step(x.movedim(dim, -1)).movedim(-1, dim)
        return x.contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return _FourierDct.apply(grad, ctx.dims, not ctx.inverse), None, None


def _quarter_wave(size: int, x: Tensor) -> Tensor:
    """Return exp(-i pi n / 2 size) with the orthonormal scale, for n = 0 .. size - 1."""
    n = torch.arange(size, dtype=x.dtype, device=x.device)
    scale = torch.full_like(n, math.sqrt(2.0 / size))
    scale[:1] = math.sqrt(1.0 / size)
    return torch.polar(scale, n * (-math.pi / (2 * size)))


def _dct_by_fft(x: Tensor) -> Tensor:
    size = x.shape[-1]
    # Even samples forwards, then odd samples backwards: a DFT of the same length does the rest.
    ordered = torch.cat([x[..., ::2], x[..., 1::2].flip(-1)], dim=-1)
    return (torch.fft.fft(ordered) * _quarter_wave(size, x)).real


def _idct_by_fft(x: Tensor) -> Tensor:
    size = x.shape[-1]
    wave = _quarter_wave(size, x)
    unscaled = x / wave.abs()
    mirrored = torch.cat([torch.zeros_like(x[..., :1]), unscaled[..., 1:].flip(-1)], dim=-1)
    spectrum = torch.complex(unscaled, -mirrored) * (wave.abs() / wave)
    ordered = torch.fft.ifft(spectrum).real
    half = (size + 1) // 2
    out = torch.empty_like(ordered)
    out[..., ::2] = ordered[..., :half]
    out[..., 1::2] = ordered[..., half:].flip(-1)
    return out
