"""Registry of token mixers: the part of a block that exchanges information between pixels.

Every mixer is a module built as ``Mixer(dim, inner_dim, index)`` and called as
``mixer(x, frequency_embedding)`` on channels-last tokens (B, H, W, dim); it returns the same shape.
``index`` is the position of the block in its stage, by which shifted windows alternate. If
``needs_frequency_embedding`` is set, its group must provide one. If ``needs_level`` is set, the
mixer is also passed ``level``, (B,) or None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from vheatir.archs.mixers.adaptive_heat import (
    AdaptiveHeat2d,
    LevelAdaptiveHeat2d,
    MixedEnergyAdaptiveHeat2d,
    OffGridAdaptiveHeat2d,
    PilotAdaptiveHeat2d,
    SmoothAdaptiveHeat2d,
)
from vheatir.archs.mixers.edge_heat import EdgeHeat2d
from vheatir.archs.mixers.gain import HeavyTailedHeat2d, SpectralGain2d
from vheatir.archs.mixers.gated import DepthwiseConv7Mixer, NoMixer
from vheatir.archs.mixers.hco import HeatConductionMixer
from vheatir.archs.mixers.window_attention import OffGridWindowAttention2d, WindowAttention2d
from vheatir.errors import unknown_name

MIXERS: dict[str, Callable[[int, int | None, int], nn.Module]] = {
    "none": NoMixer,
    "hco": HeatConductionMixer,
    "hco_spread": partial(HeatConductionMixer, spread=True),
    "heat_tails": HeavyTailedHeat2d,
    "edge_heat": EdgeHeat2d,
    "adaptive": AdaptiveHeat2d,
    "adaptive_smooth": SmoothAdaptiveHeat2d,
    "adaptive_mix": MixedEnergyAdaptiveHeat2d,
    "adaptive_pilot": PilotAdaptiveHeat2d,
    "adaptive_level": LevelAdaptiveHeat2d,
    "adaptive_14": OffGridAdaptiveHeat2d,
    # controls for ablations
    "dwconv7": DepthwiseConv7Mixer,
    "gain": SpectralGain2d,
    "attention": WindowAttention2d,
    "attention_7": OffGridWindowAttention2d,
}


def build_mixer(name: str, dim: int, inner_dim: int | None = None, index: int = 0) -> nn.Module:
    """Build the mixer registered as ``name``.

    Args:
        name: key of :data:`MIXERS`.
        dim: number of channels of the tokens.
        inner_dim: number of channels that are mixed; ``dim`` when None.
        index: position of the block in its stage.

    Raises:
        VHeatIRError: unknown mixer.
    """
    if name not in MIXERS:
        raise unknown_name("mixer", name, MIXERS)
    return MIXERS[name](dim, inner_dim, index)


__all__ = ["MIXERS", "build_mixer"]
