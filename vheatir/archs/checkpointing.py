"""Activation checkpointing: recompute the activations of each block in the backward pass."""

from __future__ import annotations

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from vheatir.archs.blocks import HeatBlock, HeatResidual, ResidualConvBlock

_BLOCKS = (HeatBlock, HeatResidual, ResidualConvBlock)


def checkpoint_blocks(network: nn.Module) -> None:
    """Save only the input of every block for the backward pass, and recompute the rest there.

    Gradients are bit-identical. A training step takes about a quarter longer, and activation memory
    falls to one feature map per block. Parameter names do not change. Earlier copies of the network
    are not affected, and inference is unchanged.

    Args:
        network: a network of :mod:`vheatir.archs`; its blocks are modified in place. Call this only
            once per network: a second call would add another recomputation.
    """
    for part in network.children():
        if isinstance(part, _BLOCKS):
            # No block draws random numbers, so the RNG state need not be preserved.
            part.forward = partial(  # type: ignore[method-assign]
                checkpoint, part.forward, use_reentrant=False, preserve_rng_state=False
            )
        else:
            checkpoint_blocks(part)
