"""Registry of token mixers: the part of a block that exchanges information between pixels.

Every mixer is a module built as ``Mixer(dim, inner_dim, index)`` and called as
``mixer(x, frequency_embedding)`` on channels-last tokens (B, H, W, dim); it returns the same shape.
``index`` is the position of the block in its stage, by which shifted windows alternate. If
``needs_frequency_embedding`` is set, its group must provide one. If ``needs_level`` is set,
:class:`vheatir.archs.blocks.HeatResidual` also passes ``level``, (B,) or None.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import nn

from vheatir.archs.mixers.gated import NoMixer
from vheatir.archs.mixers.hco import HeatConductionMixer
from vheatir.archs.mixers.window_attention import WindowAttention2d
from vheatir.errors import VHeatIRError, unknown_name

#: Builds a mixer from ``(dim, inner_dim, index)``.
Mixer = Callable[[int, int | None, int], nn.Module]

#: Mixers that option and weight files may name. Register your own here.
MIXERS: dict[str, Mixer] = {
    "none": NoMixer,
    "hco": HeatConductionMixer,
    "hco_spread": partial(HeatConductionMixer, spread=True),
    "attention": WindowAttention2d,  # a control for ablations
}

#: Former mixers of the package, which importing ``studies.heat.mixers`` registers.
MOVED = (
    "heat_tails", "edge_heat", "adaptive", "adaptive_smooth", "adaptive_mix", "adaptive_pilot",
    "adaptive_level", "adaptive_14", "dwconv7", "gain", "attention_7",
)  # fmt: skip


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
    if name in MIXERS:
        return MIXERS[name](dim, inner_dim, index)
    if name in MOVED:
        raise VHeatIRError(
            f"mixer {name!r} is not part of the package: import studies.heat.mixers from a "
            "checkout (folder studies/heat), which registers it"
        )
    raise unknown_name("mixer", name, MIXERS)


__all__ = ["MIXERS", "Mixer", "build_mixer"]
