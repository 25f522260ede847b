"""Deduce the configuration of a network of the package from its weights alone.

A checkpoint of BasicSR holds no configuration. The names and shapes of its weights determine all
arguments but :data:`HIDDEN`, of :class:`vheatir.archs.VHeatIR`, which get their defaults. A level
input has the scale of denoisers, 255. The mixer ``hco_spread`` differs from ``hco`` only in its
initial weights.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from vheatir.archs.vheatir_unet_arch import NO_HEAT
from vheatir.errors import VHeatIRError

#: Arguments that no weight shows, and their defaults.
HIDDEN = {"norm": "pre", "img_range": 1.0}

_State = Mapping[str, Tensor]
_MAX_NAME_LENGTH = 256


def detect_config(state: _State) -> dict[str, Any]:
    """Return the configuration for :func:`vheatir.archs.build_network` of the network of weights.

    Args:
        state: state dict of a :class:`vheatir.archs.VHeatIR` or :class:`vheatir.archs.VHeatIRUNet`.

    Raises:
        VHeatIRError: the weights are of another network.
    """
    try:
        if "norm_first.weight" in state:
            config = {"type": "VHeatIR", **_image_channels(state), **_flat(state)}
        else:
            config = {"type": "VHeatIRUNet", **_image_channels(state), **_unet(state)}
        # Each block has at least 4 weights, each group or scale 2. Building the network of a file
        # that only names many blocks would take very long.
        if 4 * sum(config["depths"]) + 2 * len(config["depths"]) > len(state):
            raise ValueError("fewer weights than blocks")
        return config
    except (KeyError, IndexError, ValueError, ZeroDivisionError):  # of weights missed or misshapen
        raise VHeatIRError("these are not the weights of a VHeatIR or VHeatIRUNet") from None


def _image_channels(state: _State) -> dict[str, Any]:
    """Return the channels, the downscale and the level input from the planes of the convolutions.

    A pixel-unshuffle by d multiplies the channels by d squared, so that at most one combination
    matches.
    """
    planes_in, planes_out = state["conv_first.weight"].shape[1], state["conv_last.weight"].shape[0]
    for in_chans in (1, 3):
        for out_chans in {1, in_chans}:
            area, rest = divmod(planes_out, out_chans)
            downscale = math.isqrt(area)
            level_planes = planes_in - in_chans * area
            if rest == 0 and downscale**2 == area > 0 and level_planes in (0, area):
                return {
                    "in_chans": in_chans,
                    "out_chans": out_chans,
                    "downscale": downscale,
                    "level_scale": 255.0 if level_planes else None,
                }
    raise ValueError("the planes fit neither gray nor colour images")


def _flat(state: _State) -> dict[str, Any]:
    lengths = _lengths(state)
    depths = [lengths[f"groups.{index}.blocks"] for index in range(lengths["groups"])]
    width, block = state["conv_first.weight"].shape[0], "groups.0.blocks.0."
    hidden = state[f"{block}mlp.0.weight"].shape[0]
    ratio = hidden / width
    return {
        "embed_dim": width,
        "depths": depths,
        # rounded down, the product must give the hidden channels
        "mlp_ratio": ratio if int(width * ratio) == hidden else (hidden + 0.5) / width,
        "mixer": _mixer(state, f"{block}mixer."),
        **_fve_size(state),
    }


def _unet(state: _State) -> dict[str, Any]:
    lengths = _lengths(state)
    coarser = range(lengths["down"])
    convolutions = ["conv_first.weight", *(f"down.{index}.weight" for index in coarser)]
    channels = [state[name].shape[0] for name in convolutions]
    stages = [*(f"encoder.{index}." for index in coarser), "body."]
    depths = [lengths[f"{stage}blocks"] for stage in stages]
    mixers = [_mixer(state, f"{stage}heat.mixer.") for stage in stages]
    inner = [
        (dim, state[f"{stage}heat.mixer.in_proj.weight"].shape[0] // 2)
        for stage, dim, mixer in zip(stages, channels, mixers, strict=True)
        if mixer != NO_HEAT
    ]
    return {
        "channels": channels,
        "depths": depths,
        "mixers": mixers,
        **({"heat_ratio": _heat_ratio(inner)} if inner else {}),
        **_fve_size(state),
    }


def _heat_ratio(scales: list[tuple[int, int]]) -> float:
    """Return the ratio that gives the mixed channels of all scales: (channels, mixed channels)."""
    exact = sorted((mixed / dim for dim, mixed in scales), reverse=True)
    lowest = max(0.0 if mixed == 8 else (mixed - 0.5) / dim for dim, mixed in scales)
    highest = min((mixed + 0.5) / dim for dim, mixed in scales)
    for ratio in (*exact, (lowest + highest) / 2):
        if all(max(8, round(dim * ratio)) == mixed for dim, mixed in scales):
            return ratio
    raise ValueError("no heat_ratio gives the channels")


def _mixer(state: _State, prefix: str) -> str:
    """Return the mixer by the weights that only it has."""
    marks = {"hco": "to_k", "attention": "qkv", "none": "in_proj"}
    return next((name for name in marks if f"{prefix}{marks[name]}.weight" in state), NO_HEAT)


def _fve_size(state: _State) -> dict[str, int]:
    sizes = [part.shape[0] for name, part in state.items() if name.endswith(".fve")]
    return {"fve_size": sizes[0]} if sizes else {}


def _lengths(state: _State) -> Counter[str]:
    """Return the lengths of the lists of modules by name: ``a.0.weight`` is of the list ``a``."""
    items = {
        (name[: match.start()], match[1])
        for name in state
        for match in re.finditer(r"\.(\d+)(?=\.)", name[:_MAX_NAME_LENGTH])
    }
    return Counter(listed for listed, _ in items)
