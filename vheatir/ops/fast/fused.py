"""Fused kernels: LayerNorm with a residual add or a SiLU gate, and the spectral decay of the HCO.

- :func:`layer_norm`: ``LN(x)`` or ``LN(x) * silu(gate)``.
- :func:`add_and_normalise_`: ``x += y; LN(x)``.
- ``triton_kernels.decay_``: ``spectrum *= exp(-k w^2)``, with k interpolated inside the kernel.

These operations are limited by memory bandwidth on a GPU. PyTorch needs several kernels for each,
or a slow one: its LayerNorm takes eight times the memory-bound time at 60 channels. At inference on
an NVIDIA GPU they run as Triton kernels (:mod:`vheatir.ops.fast.triton_kernels`). On other devices,
in training, and under ``torch.compile``, which fuses on its own, they run in plain PyTorch.
"""

from __future__ import annotations

from importlib.util import find_spec

import torch
from torch import Tensor, nn

from vheatir.ops.dispatch import speeds_up
from vheatir.ops.layer_norm import LayerNorm

#: Whether to use Triton kernels where they are supported.
TRITON = torch.version.cuda is not None and find_spec("triton") is not None


def can_fuse(x: Tensor) -> bool:
    """Whether the Triton kernels support x: on an NVIDIA GPU, contiguous, no gradient."""
    return (
        x.device.type == "cuda"
        and TRITON
        and not (torch.is_grad_enabled() or torch.compiler.is_compiling())
        and x.dtype in (torch.float32, torch.float16, torch.bfloat16)
        and x.is_contiguous()
        and type(x) is Tensor
    )


@speeds_up(LayerNorm.forward)
def layer_norm(norm: nn.LayerNorm, x: Tensor, gate: Tensor | None = None) -> Tensor | None:
    """LayerNorm and gate in one kernel; None where :func:`can_fuse` says no.

    Returns:
        Shape of x, in the dtype of the matrix product that follows (see :func:`product_dtype`).
    """
    return _layer_norm(norm, x, gate=gate) if can_fuse(x) else None


def add_and_normalise_(norm: nn.LayerNorm, x: Tensor, y: Tensor) -> Tensor:
    """Residual add and LayerNorm: ``x += y`` in place, then return ``norm(x)``.

    Shapes and dtypes as in :func:`layer_norm`.
    """
    if can_fuse(x) and y.shape == x.shape:
        return _layer_norm(norm, x, add=y)
    x += y
    return norm(x)


def _layer_norm(
    norm: nn.LayerNorm, x: Tensor, *, add: Tensor | None = None, gate: Tensor | None = None
) -> Tensor:
    from vheatir.ops.fast import triton_kernels

    # of the weights, as in the definition: x is in float32 after conduction even if they are not
    rest = norm.weight, norm.bias, norm.eps, product_dtype(norm.weight)
    return triton_kernels.layer_norm(x, *rest, add=add, gate=gate)


def can_decay(spectrum: Tensor, k: Tensor) -> bool:
    """Whether the kernel of the decay supports them: see :func:`can_fuse`, and float32."""
    return can_fuse(spectrum) and spectrum.dtype == k.dtype == torch.float32


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the dtype of a matrix product with x: that of autocast if enabled, else that of x."""
    kind = x.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
