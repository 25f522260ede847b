"""Forms of two operations that ``torch.export`` can trace once for every image size.

The definitions choose by size: a backend for the DCT, a mode of padding. A traced graph holds no
such choice. Both forms use the operators of ONNX alone, in 64-bit integers and float32: WebGPU has
no float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

from vheatir.archs.base import pad_to_multiple
from vheatir.ops.dct import Backend, transform
from vheatir.ops.dispatch import traced_as

# Cosine matrices of the graph that is being traced, by size (the text of a symbolic one).
_SHARED: ContextVar[dict[str, Tensor] | None] = ContextVar("_SHARED", default=None)


@contextmanager
def shared_matrices() -> Iterator[None]:
    """Within it, transforms of equal sizes share one cosine matrix: one for all blocks of a graph.

    For one call of a network, since matrices of another trace do not belong to its graph.
    """
    token = _SHARED.set({})
    try:
        yield
    finally:
        _SHARED.reset(token)


@traced_as(transform)
def matmul_transform(
    x: Tensor, dims: Sequence[int], backend: Backend = "auto", *, inverse: bool = False
) -> Tensor:
    """:func:`vheatir.ops.dct.transform` as products with cosine matrices, whatever the backend.

    Args:
        x: float32; in the networks (B, H, W, C).
        dims: the dimensions to transform; in the networks some of 1 and 2.
        backend: not used.
        inverse: whether to apply the inverse transform.

    Returns:
        Tensor of the shape of x.
    """
    if x.ndim != 4 or not {dim % 4 for dim in dims} <= {1, 2}:
        for dim in dims:
            matrix = _matrix(x.shape[dim], inverse)
            x = torch.matmul(x.movedim(dim, -1), matrix.T).movedim(-1, dim)
        return x
    planes = x.permute(0, 3, 1, 2)
    for dim in dims:
        matrix = _matrix(x.shape[dim], inverse)
        rows = dim % 4 == 1
        planes = torch.matmul(matrix, planes) if rows else torch.matmul(planes, matrix.T)
    return planes.permute(0, 2, 3, 1)


def _matrix(size: int, inverse: bool) -> Tensor:
    """Return :func:`float32_cosine_matrix`, or the one made before, see :func:`shared_matrices`."""
    shared = _SHARED.get()
    if shared is None:
        return float32_cosine_matrix(size, inverse)
    key = str(size)  # a symbolic size cannot be hashed
    if key not in shared:
        shared[key] = float32_cosine_matrix(size, inverse=False)
    return shared[key].T if inverse else shared[key]


def float32_cosine_matrix(size: int, inverse: bool) -> Tensor:
    """Return the orthonormal DCT-II matrix of :func:`vheatir.ops.dct.cosine_matrix`, in float32.

    The phase n (2 i + 1) is reduced modulo 4 N as an integer, exactly, so that the cosine of a
    float32 number of one period is accurate to a few units of the last place, at any size N.

    Args:
        size: N, possibly symbolic.
        inverse: whether to return the inverse, its transpose.
    """
    n = torch.arange(size)
    phase = (n[:, None] * (2 * n[None, :] + 1)) % torch.full((1,), 4 * size)
    # s_0 = sqrt(1 / N), s_n = sqrt(2 / N)
    scale = torch.sqrt(torch.where(n == 0, 1.0, 2.0) / size)
    matrix = torch.cos(phase.to(torch.float32) * (math.pi / (2 * size))) * scale[:, None]
    return matrix.T if inverse else matrix


@traced_as(pad_to_multiple)
def gather_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """:func:`vheatir.archs.base.pad_to_multiple` by gathering rows and columns.

    Args:
        x: (B, C, H, W).
        multiple: as there.

    Returns:
        (B, C, H', W'), H' and W' the next multiples.
    """
    if multiple == 1:
        return x
    sizes = x.shape[-2], x.shape[-1]
    padded = [(size + multiple - 1) // multiple * multiple for size in sizes]
    # 0 if the padding of both sides is smaller than the side, so that both reflect; else 1 or more
    too_small = sum((after - size) // size for size, after in zip(sizes, padded, strict=True))
    mirrored = 1 - torch.full((1,), too_small).clamp(max=1)  # type: ignore[arg-type]
    for dim, size, after in zip((-2, -1), sizes, padded, strict=True):
        index = torch.arange(after)
        beyond = (index - (size - 1)).clamp(min=0)
        x = x.index_select(dim, index.clamp(max=size - 1) - mirrored * beyond)
    return x
