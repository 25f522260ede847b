"""The flat network at inference, strip by strip and in place: plugs into its definitions.

:mod:`vheatir.archs` imports this module, so that it is always active.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vheatir.archs.blocks import HeatBlock, HeatGroup, Mlp
from vheatir.archs.vheatir_arch import VHeatIR
from vheatir.ops.dispatch import infers, speeds_up
from vheatir.ops.fast.fused import add_and_normalise_
from vheatir.ops.fast.heat_conduction import stream
from vheatir.ops.fast.strips import add_convolution, batches, can_stream
from vheatir.ops.heat_conduction import HeatConduction2d


@speeds_up(VHeatIR.features)
def features(network: VHeatIR, planes: Tensor, strength: Tensor | None) -> Tensor | None:
    """Groups that overwrite their input, and the first features computed twice."""
    if not infers(network):
        return None
    y = network.tokens(network.conv_first(planes))
    for group in network.groups:
        y = group(y, overwrite=True)
    # Computing the features again costs little; keeping them would take a full feature map.
    out = network.conv_first(planes)
    add_convolution(network.conv_after_body, network.norm_last, y, out.permute(0, 2, 3, 1))
    return out


@speeds_up(HeatGroup.forward)
def group_forward(group: HeatGroup, x: Tensor, *, overwrite: bool = False) -> Tensor | None:
    """Blocks that overwrite one another's output, and the convolution in strips."""
    if not (can_stream(group, x) and len(group.blocks)):
        return None
    y = x
    for block in group.blocks:
        y = block(y, group.fve, overwrite=y is not x)
    x = x if overwrite else x.clone()
    add_convolution(group.conv, None, y, x)
    return x


@speeds_up(HeatBlock.forward)
def block_forward(
    block: HeatBlock, x: Tensor, frequency_embedding: Tensor | None, *, overwrite: bool = False
) -> Tensor | None:
    """The whole block strip by strip, in place, if its mixer is the HCO."""
    if not (isinstance(block.mixer, HeatConduction2d) and can_stream(block, x)):
        return None
    assert frequency_embedding is not None

    def finish(x: Tensor, mixed: Tensor) -> None:
        """Add the outputs of the mixer and the MLP to a strip of x, in place."""
        if block.pre_norm:
            x += block.mlp(add_and_normalise_(block.norm2, x, mixed))
        else:
            x += block.norm1(mixed)
            x += block.norm2(block.mlp(x))

    x = x if overwrite else x.clone()
    before = block.norm1 if block.pre_norm else None
    for images in batches(x):
        stream(block.mixer, images, frequency_embedding, before, finish)
    return x


@speeds_up(Mlp.forward)
def mlp_forward(mlp: Mlp, x: Tensor) -> Tensor | None:
    """GELU in place: the widest feature map of a block."""
    return mlp[2](torch.ops.aten.gelu_(mlp[0](x))) if infers(mlp) else None
