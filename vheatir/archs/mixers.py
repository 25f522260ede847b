"""Registry of token mixers: the part of a block that exchanges information between pixels.

Every mixer is a module built as ``Mixer(dim, inner_dim, index)`` and called as
``mixer(x, frequency_embedding)`` on channels-last tokens (B, H, W, dim); it returns the same shape.
``index`` is the position of the block in its stage, by which shifted windows alternate. If
``needs_frequency_embedding`` is set, its group must provide one. If ``needs_level`` is set,
:class:`vheatir.archs.blocks.HeatResidual` also passes ``level``, (B,) or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from vheatir.errors import VHeatIRError, unknown_name
from vheatir.ops import HeatConduction2d

#: Builds a mixer from ``(dim, inner_dim, index)``.
Mixer = Callable[[int, int | None, int], nn.Module]


class HeatConductionMixer(HeatConduction2d):
    """``hco`` and ``hco_spread``: the HCO with the signature and initialisation of a mixer.

    vHeat's initialisation (k near zero) spreads heat by less than a pixel, and training changes
    that little. With ``spread``, k is log-spaced over the channels, from 0.02 to 100 tokens
    squared: they start with receptive fields from the neighbouring token to the whole image.

    Args:
        dim: number of channels of the tokens.
        inner_dim: number of channels that conduct heat; ``dim`` when None.
        index: position of the block in its stage; not used.
        spread: whether to initialise the diffusivities log-spaced instead of as in vHeat.
    """

    smallest_k, largest_k = 0.02, 100.0

    def __init__(
        self, dim: int, inner_dim: int | None = None, index: int = 0, *, spread: bool = False
    ) -> None:
        super().__init__(dim, inner_dim)
        self.spread = spread

    def reset_diffusivity(self) -> None:
        """Spread the initial diffusivities if asked to; call this after other initialisation."""
        if not self.spread:
            return
        bias = self.to_k.bias
        low, high = math.log(self.smallest_k), math.log(self.largest_k)
        with torch.no_grad():
            bias.copy_(torch.linspace(low, high, len(bias)).exp())


#: Mixers that option and weight files may name. Register your own here.
MIXERS: dict[str, Mixer] = {
    "hco": HeatConductionMixer,
    "hco_spread": partial(HeatConductionMixer, spread=True),
}

#: Former mixers of the package, which importing ``studies.heat.mixers`` registers.
MOVED = (
    "none", "attention", "attention_7", "heat_tails", "edge_heat", "adaptive", "adaptive_smooth",
    "adaptive_mix", "adaptive_pilot", "adaptive_level", "adaptive_14", "dwconv7", "gain",
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
