"""The DCT on the CPU by SciPy, without PyTorch's dispatcher where possible, and in place.

Plugs into the backends of :mod:`vheatir.ops.dct`, in training and in compiled networks as well:

- :func:`scipy_dct`: the "fft" backend on the CPU.
- :func:`cpu_matmul_dct`: the "matmul" backend with a gradient on the CPU.
- :func:`transform_`: a transform at inference that may overwrite its input.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, library

from vheatir.ops.dct import (
    Backend,
    Orthonormal,
    choose_backend,
    cosine_matrix,
    fft_dct,
    matmul_along,
    matmul_dct,
    transform,
)
from vheatir.ops.dispatch import speeds_up

try:
    import scipy.fft as scipy_fft
except ModuleNotFoundError:  # vheatir.spandrel needs PyTorch, NumPy and spandrel alone
    scipy_fft = None

#: Always call SciPy through PyTorch custom operators, so that dispatch modes see the transform.
AS_OPERATORS = False


def _can_bypass_dispatcher(x: Tensor) -> bool:
    """Whether x needs no autograd graph or tracing, so that SciPy can be called directly.

    The first call of a custom operator makes PyTorch import its compiler: seconds, and 70 MB.
    """
    traced = torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing()
    return not (traced or AS_OPERATORS) and type(x) is Tensor


@speeds_up(fft_dct)
def scipy_dct(x: Tensor, dims: list[int], inverse: bool) -> Tensor | None:
    """The "fft" backend by SciPy, on the CPU."""
    if x.device.type != "cpu" or scipy_fft is None:
        return None
    return (_run_scipy if _can_bypass_dispatcher(x) else _scipy_dctn)(x, dims, inverse)


@speeds_up(matmul_dct)
def cpu_matmul_dct(x: Tensor, dims: list[int], inverse: bool) -> Tensor | None:
    """The "matmul" backend with a gradient, in eager execution on the CPU."""
    traced = torch.compiler.is_compiling() or torch.jit.is_tracing()
    if x.device.type != "cpu" or not x.requires_grad or traced:
        return None
    return Orthonormal.apply(_matmul_to_numpy_memory, x, dims, inverse)


def transform_(
    x: Tensor,
    dim: int,
    backend: Backend = "auto",
    *,
    inverse: bool = False,
    into: Tensor | None = None,
) -> Tensor:
    """Transform along one dimension, without a gradient and free to overwrite x.

    Args:
        x: float32 or float64; any strides.
        dim: the dimension to transform.
        backend: see :func:`vheatir.ops.dct.dct2`.
        inverse: whether to apply the inverse, the DCT-III.
        into: output tensor of the shape of x; may be x itself.

    Returns:
        The result: ``into`` if given, else x or a new tensor, whichever is faster.
    """
    dims = [dim % x.ndim]
    chosen = choose_backend(x, dims, backend)
    on_cpu = x.device.type == "cpu" and x.dtype in (torch.float32, torch.float64)
    if chosen == "fft" and on_cpu and scipy_fft is not None:
        # Contiguous samples are transformed twice as fast as strided ones.
        if into is not None and into.is_contiguous():
            x = into.copy_(x)
        elif not x.is_contiguous():
            x = x.contiguous()
        (_run_scipy_ if _can_bypass_dispatcher(x) else _scipy_dctn_)(x, dims, inverse)
        return x if into is None or into is x else into.copy_(x)
    if into is None:
        return transform(x, dims, backend, inverse=inverse)
    if chosen == "matmul" and into is not x and len(x) == 1 and x.ndim == 4:
        return _matmul_into(into, x, dims[0], inverse)
    return into.copy_(transform(x, dims, backend, inverse=inverse))


def _matmul_into(out: Tensor, x: Tensor, dim: int, inverse: bool) -> Tensor:
    """Write the "matmul" transform along dimension 1 or 2 of a single image's tokens to ``out``.

    Neither x nor ``out`` has to be contiguous: the products support row strides.
    """
    matrix = cosine_matrix(x.shape[dim], x.dtype, x.device, inverse=inverse)
    with torch.autocast(x.device.type, enabled=False):
        if dim == 1:
            torch.mm(matrix, x[0].flatten(1), out=out[0].view(len(matrix), -1))
        else:
            torch.bmm(matrix.expand(x.shape[1], -1, -1), x[0], out=out[0])
    return out


def _run_scipy(x: Tensor, dims: list[int], inverse: bool, overwrite: bool = False) -> Tensor:
    function = scipy_fft.idctn if inverse else scipy_fft.dctn
    array, workers = x.detach().numpy(), torch.get_num_threads()
    kind = {"type": 2, "axes": dims, "norm": "ortho"}
    return torch.from_numpy(function(array, **kind, overwrite_x=overwrite, workers=workers))


def _run_scipy_(x: Tensor, dims: list[int], inverse: bool) -> None:
    out = _run_scipy(x, dims, inverse, overwrite=True)
    if out.data_ptr() != x.data_ptr():  # SciPy may overwrite its input, but need not
        x.copy_(out)


_scipy_dctn_ = library.custom_op("vheatir::scipy_dctn_", _run_scipy_, mutates_args={"x"})


@library.custom_op("vheatir::scipy_dctn", mutates_args=())
def _scipy_dctn(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    """DCT by SciPy's pocketfft; a custom operator, so that torch.compile has no graph break."""
    return _run_scipy(x, dims, inverse)


@_scipy_dctn.register_fake
def _(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _scipy_setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.dims, ctx.inverse = inputs


def _scipy_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    return _scipy_dctn(grad, ctx.dims, not ctx.inverse), None, None


_scipy_dctn.register_autograd(_scipy_backward, setup_context=_scipy_setup_context)


def _matmul_to_numpy_memory(x: Tensor, dims: list[int], inverse: bool) -> Tensor:
    """The "matmul" backend, writing to memory allocated by NumPy.

    PyTorch aligns its allocations to 64 bytes. glibc 2.36 does not reuse such a block, once freed,
    for the next feature map of the same size: a training step of the flat ``light`` network took a
    fifth more memory.
    """
    for dim in dims:
        out = torch.from_numpy(np.empty(x.shape, x.detach().numpy().dtype))
        x = matmul_along(x, dim, inverse, out)
    return x
