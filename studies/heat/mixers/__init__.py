"""The mixers and one network of the heat study. Importing this package registers them.

After ``import studies.heat.mixers``, networks, option files and weight files may name them, in this
process. ``python -m studies.heat.mixers -opt FILE`` is ``vheatir/train.py`` with them.
"""

from __future__ import annotations

from functools import partial

from studies.heat.mixers.adaptive_heat import (
    AdaptiveHeat2d,
    LevelAdaptiveHeat2d,
    MixedEnergyAdaptiveHeat2d,
    PilotAdaptiveHeat2d,
    SmoothAdaptiveHeat2d,
)
from studies.heat.mixers.beside import VHeatIRUNetBeside
from studies.heat.mixers.depthwise import DepthwiseConv7Mixer
from studies.heat.mixers.edge_heat import EdgeHeat2d
from studies.heat.mixers.gain import HeavyTailedHeat2d, SpectralGain2d
from vheatir.archs import ARCHS
from vheatir.archs.mixers import MIXERS
from vheatir.archs.mixers.window_attention import WindowAttention2d

MIXERS.update(
    {
        "heat_tails": HeavyTailedHeat2d,
        "edge_heat": EdgeHeat2d,
        "adaptive": AdaptiveHeat2d,
        "adaptive_smooth": SmoothAdaptiveHeat2d,
        "adaptive_mix": MixedEnergyAdaptiveHeat2d,
        "adaptive_pilot": PilotAdaptiveHeat2d,
        "adaptive_level": LevelAdaptiveHeat2d,
        # controls for ablations
        "dwconv7": DepthwiseConv7Mixer,
        "gain": SpectralGain2d,
        # windows that are not aligned with the 8x8 blocks of JPEG
        "adaptive_14": partial(AdaptiveHeat2d, window=14),
        "attention_7": partial(WindowAttention2d, window=7),  # SwinIR's for JPEG artifacts
    }
)
ARCHS["VHeatIRUNetBeside"] = VHeatIRUNetBeside
