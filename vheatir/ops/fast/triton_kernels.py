"""Triton kernels of :mod:`vheatir.ops.fast.fused`.

- ``_layer_norm_kernel``: LayerNorm over channels, with an optional residual add before it and an
  optional SiLU gate after it.
- ``_decay_kernel``: spectral decay ``exp(-k w^2)`` of DCT coefficients, with bilinear interpolation
  of k.

Each kernel reads and writes every feature map once.
"""

from __future__ import annotations

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

_PI: tl.constexpr = tl.constexpr(math.pi)
_ELEMENTS_PER_PROGRAM = 1024


@triton.jit
def _layer_norm_kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    x_ptr, added_ptr, gate_ptr, weight_ptr, bias_ptr, out_ptr,
    rows, added_stride, gate_stride, eps,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    ADD: tl.constexpr, GATE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.arange(0, BLOCK)[None, :]
    inside = (row < rows) & (column < CHANNELS)
    x = tl.load(x_ptr + row * CHANNELS + column, mask=inside, other=0.0).to(tl.float32)
    if ADD:
        added = tl.load(added_ptr + row * added_stride + column, mask=inside, other=0.0)
        x += added.to(tl.float32)
        tl.store(x_ptr + row * CHANNELS + column, x, mask=inside)
    mean = tl.sum(x, axis=1) / CHANNELS
    centred = tl.where(inside, x - mean[:, None], 0.0)
    variance = tl.sum(centred * centred, axis=1) / CHANNELS
    y = centred / tl.sqrt(variance + eps)[:, None]
    weight = tl.load(weight_ptr + column, mask=column < CHANNELS, other=0.0).to(tl.float32)
    bias = tl.load(bias_ptr + column, mask=column < CHANNELS, other=0.0).to(tl.float32)
    y = y * weight + bias
    if GATE:
        z = tl.load(gate_ptr + row * gate_stride + column, mask=inside, other=0.0).to(tl.float32)
        y = y * z / (1.0 + tl.exp(-z))
    tl.store(out_ptr + row * CHANNELS + column, y, mask=inside)


def layer_norm(
    x: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    dtype: torch.dtype,
    *,
    add: Tensor | None = None,
    gate: Tensor | None = None,
) -> Tensor:
    """Fused LayerNorm over the last dimension: ``x += add; LN(x) * silu(gate)``.

    Statistics are accumulated in float32.

    Args:
        x: (..., C), contiguous; updated in place if ``add`` is given.
        weight: (C,).
        bias: (C,).
        eps: added to the variance.
        dtype: of the result.
        add: shape of x; copied unless its rows have a uniform stride and contiguous channels.
        gate: likewise.

    Returns:
        Shape of x.
    """
    channels = x.shape[-1]
    rows = x.numel() // channels
    out = torch.empty_like(x, dtype=dtype)
    add, gate = (None if t is None else _with_uniform_row_stride(t) for t in (add, gate))
    block = triton.next_power_of_2(channels)
    rows_per_program = max(1, _ELEMENTS_PER_PROGRAM // block)
    with _device_of(x):
        _layer_norm_kernel[(triton.cdiv(rows, rows_per_program),)](
            x, x if add is None else add, x if gate is None else gate, weight, bias, out, rows,
            0 if add is None else add.stride(-2), 0 if gate is None else gate.stride(-2), eps,
            CHANNELS=channels, ROWS=rows_per_program, BLOCK=block,
            ADD=add is not None, GATE=gate is not None,
        )  # fmt: skip
    return out


def _with_uniform_row_stride(x: Tensor) -> Tensor:
    """Return x, or a contiguous copy if its rows are not evenly strided as in a channel slice."""
    expected = x.stride(-2)
    for size, stride in zip(reversed(x.shape[:-1]), reversed(x.stride()[:-1]), strict=True):
        if size > 1 and stride != expected:
            return x.contiguous()
        expected *= size
    return x if x.stride(-1) == 1 else x.contiguous()


@triton.jit
def _decay_kernel(  # type: ignore[no-untyped-def]  # noqa: PLR0913
    spectrum_ptr, k_ptr, height, width, left, columns,
    GRID_H: tl.constexpr, GRID_W: tl.constexpr, CHANNELS: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)  # over all images of the batch
    n = (row % height).to(tl.float32)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[:, None]
    m = (left + column).to(tl.float32)
    c = tl.arange(0, BLOCK)[None, :]
    inside = (column < columns) & (c < CHANNELS)
    # bilinear interpolation of k, constant above the last node (as interpolation_matrix)
    y = tl.minimum(n * GRID_H / height, GRID_H - 1.0)
    x = tl.minimum(m * GRID_W / width, GRID_W - 1.0)
    y0, x0 = y.to(tl.int32), x.to(tl.int32)
    y1, x1 = tl.minimum(y0 + 1, GRID_H - 1), tl.minimum(x0 + 1, GRID_W - 1)
    dy, dx = y - y0.to(tl.float32), x - x0.to(tl.float32)
    k00 = tl.load(k_ptr + (y0 * GRID_W + x0) * CHANNELS + c, mask=inside, other=0.0)
    k01 = tl.load(k_ptr + (y0 * GRID_W + x1) * CHANNELS + c, mask=inside, other=0.0)
    k10 = tl.load(k_ptr + (y1 * GRID_W + x0) * CHANNELS + c, mask=inside, other=0.0)
    k11 = tl.load(k_ptr + (y1 * GRID_W + x1) * CHANNELS + c, mask=inside, other=0.0)
    k = (1 - dy) * ((1 - dx) * k00 + dx * k01) + dy * ((1 - dx) * k10 + dx * k11)
    w_n, w_m = n * (_PI / height), m * (_PI / width)
    pointers = spectrum_ptr + (row.to(tl.int64) * columns + column) * CHANNELS + c
    decayed = tl.load(pointers, mask=inside, other=0.0) * tl.exp(-k * (w_n * w_n + w_m * w_m))
    tl.store(pointers, decayed, mask=inside)


def decay_(spectrum: Tensor, k: Tensor, left: int, width: int) -> None:
    """Multiply a strip of DCT coefficients by ``exp(-k w^2)`` in place.

    Args:
        spectrum: (B, H, columns, C), float32, contiguous.
        k: thermal diffusivity on a grid (h, w, C), float32, contiguous.
        left: index of the first column of the strip in the full spectrum.
        width: of the full spectrum.
    """
    batch, height, columns, channels = spectrum.shape
    block = triton.next_power_of_2(channels)
    columns_per_program = max(1, _ELEMENTS_PER_PROGRAM // block)
    with _device_of(spectrum):
        _decay_kernel[(batch * height, triton.cdiv(columns, columns_per_program))](
            spectrum, k, height, width, left, columns,
            GRID_H=k.shape[0], GRID_W=k.shape[1], CHANNELS=channels,
            COLUMNS=columns_per_program, BLOCK=block,
        )  # fmt: skip


def _device_of(x: Tensor) -> torch.cuda.device:
    """Context manager that launches on the device of x instead of the current one."""
    return torch.cuda.device(x.device if x.is_cuda else -1)  # type: ignore[arg-type]
