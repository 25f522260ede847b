"""The HCO module at inference: strip by strip, in place, with fused passes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from vheatir.ops.dct import transform
from vheatir.ops.dispatch import infers, speeds_up
from vheatir.ops.fast import fused, strips
from vheatir.ops.fast.dct import transform_
from vheatir.ops.fast.decay import decay_function
from vheatir.ops.heat_conduction import HeatConduction2d


@speeds_up(HeatConduction2d.conduct)
def conduct(module: HeatConduction2d, u: Tensor, k: Tensor) -> Tensor | None:
    """The HCO with the transform along columns and the decay in strips of columns."""
    if not infers(module):
        return None
    with torch.autocast(u.device.type, enabled=False):
        spectrum = transform(u.to(k.dtype), (2,), module.backend)
        _conduct_columns(module, spectrum, k)
        return transform_(spectrum, 2, module.backend, inverse=True)


def stream(
    module: HeatConduction2d,
    x: Tensor,
    frequency_embedding: Tensor,
    before: Callable[[Tensor], Tensor] | None,
    after: Callable[[Tensor, Tensor], None],
) -> None:
    """Compute ``module(before(x))`` strip by strip.

    Every operation but the DCT is local to neighbouring rows. A strip stays in the cache of the CPU
    or GPU between operations, and only the spectrum of u and the gate z exist as full-size feature
    maps. See :func:`vheatir.ops.fast.strips.can_stream` for when this applies.

    Args:
        module: the operator.
        x: (B, H, W, C), contiguous.
        frequency_embedding: (h, w, C), see :meth:`HeatConduction2d.diffusivity`.
        before: pixel-wise function of a strip (B, rows, W, C) of x that leaves its input unchanged,
            or None.
        after: called with each strip of x and the corresponding output. It may overwrite the strip,
            which is not read again.
    """
    k = module.diffusivity(frequency_embedding)
    height, width = x.shape[1:3]
    # Allocate full-size tensors up front: keeping strips one by one fragments memory.
    shape = (*x.shape[:3], module.out_proj.in_features)
    spectrum = x.new_empty(shape, dtype=k.dtype)
    gate = x.new_empty(shape, dtype=fused.product_dtype(x))

    def start(top: int, bottom: int) -> None:
        u, z = _project(module, strips.convolve_rows(module.dwconv, before, x, top, bottom))
        gate[:, top:bottom] = z
        transform_(u.to(k.dtype), 2, module.backend, into=spectrum[:, top:bottom])

    def finish(top: int, bottom: int) -> None:
        y = transform_(spectrum[:, top:bottom], 2, module.backend, inverse=True)
        y = module.out_proj(module.norm(y, gate=gate[:, top:bottom]))
        after(x[:, top:bottom], y)

    strips.for_each_strip(height, width, x.device, start)
    with torch.autocast(x.device.type, enabled=False):
        _conduct_columns(module, spectrum, k)
    strips.for_each_strip(height, width, x.device, finish)


def _project(module: HeatConduction2d, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return u and z, the two halves of the input projection."""
    if not strips.on_cpu(x.device):
        return module.in_proj(x).chunk(2, dim=-1)
    # Two matrix products give contiguous results; copying the halves of one takes longer.
    weight, bias = module.in_proj.weight.chunk(2), module.in_proj.bias.chunk(2)
    return F.linear(x, weight[0], bias[0]), F.linear(x, weight[1], bias[1])


def _conduct_columns(module: HeatConduction2d, spectrum: Tensor, k: Tensor) -> None:
    """DCT along columns, multiply by the decay, inverse DCT; in place, in strips of columns.

    Args:
        module: the operator.
        spectrum: DCT along rows of u, (B, H, W, C).
        k: (h, w, C).
    """
    height, width = spectrum.shape[1:3]
    decay_ = decay_function(module, spectrum, k)

    def work(left: int, right: int) -> None:
        strip = spectrum[:, :, left:right]
        y = transform_(strip, 1, module.backend)
        decay_(y, left)
        transform_(y, 1, module.backend, inverse=True, into=strip)

    strips.for_each_strip(width, len(spectrum) * height, spectrum.device, work)
