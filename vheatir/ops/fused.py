"""Passes over whole maps made one: normalisation with what is around it, and the decay.

On a GPU these passes wait for memory, and PyTorch's own kernels make several of each, or slow ones
(its LayerNorm takes eight times what memory does at 60 channels). At inference on an NVIDIA GPU
they are Triton kernels (:mod:`vheatir.ops.triton_kernels`); everywhere else, in training and under
``torch.compile``, which fuses by itself, the same in plain PyTorch.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.util import find_spec

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Whether Triton kernels may be used where they can be.
TRITON = True


@lru_cache
def _has_triton() -> bool:
    return torch.version.cuda is not None and find_spec("triton") is not None


def can_fuse(x: Tensor) -> bool:
    """Tell whether x may go to the Triton kernels: on an NVIDIA GPU, contiguous, no gradient."""
    return (
        x.device.type == "cuda"
        and TRITON
        and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and x.is_contiguous()
        and type(x) is Tensor
        and _has_triton()
    )


def normalise(norm: nn.LayerNorm, x: Tensor, gate: Tensor | None = None) -> Tensor:
    """Return ``norm(x)``, or with a gate ``norm(x) * silu(gate)``.

    Args:
        norm: over the last dimension.
        x: (..., C).
        gate: the shape of x.

    Returns:
        The shape of x, in the dtype that the next product takes.
    """
    if can_fuse(x):
        from vheatir.ops import triton_kernels

        return triton_kernels.layer_norm(x, norm.weight, norm.bias, norm.eps, gate=gate)
    y = norm(x.to(norm.weight.dtype))
    return y if gate is None else y * F.silu(gate)


def add_and_normalise_(norm: nn.LayerNorm, x: Tensor, y: Tensor) -> Tensor:
    """Add y to x in place and return ``norm(x)``; shapes and dtypes as in :func:`normalise`."""
    if can_fuse(x) and y.shape == x.shape:
        from vheatir.ops import triton_kernels

        return triton_kernels.layer_norm(x, norm.weight, norm.bias, norm.eps, add=y)
    x += y
    return norm(x)


def can_decay(spectrum: Tensor, k: Tensor) -> bool:
    """Tell whether :func:`decay_` may be called."""
    return can_fuse(spectrum) and spectrum.dtype == k.dtype == torch.float32


def decay_(spectrum: Tensor, k: Tensor, left: int, width: int) -> None:
    """Multiply columns of coefficients by ``exp(-k w^2)`` in place, which is never in memory.

    Args:
        spectrum: (B, H, columns, C), contiguous; see :func:`can_decay`.
        k: (h, w, C), on the grid of a frequency embedding.
        left: the first of the columns.
        width: of the whole image.
    """
    from vheatir.ops import triton_kernels

    triton_kernels.decay_(spectrum, k.contiguous(), left, width)


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of a product with x: autocast's where that is on, else that of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
