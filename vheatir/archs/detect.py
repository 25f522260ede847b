"""Deduce the configuration of a network of the package from its weights alone.

A checkpoint of BasicSR holds no configuration. The names and shapes of its weights determine all
arguments but these, which get the defaults of the class: ``norm`` and ``img_range``, of
:class:`vheatir.archs.VHeatIR`. A level input has the scale of denoisers, 255. The mixer
``hco_spread`` differs from ``hco`` only in its initial weights.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor

from vheatir.errors import VHeatIRError

_State = Mapping[str, Tensor]
_MAX_NAME_LENGTH = 256
_UNKNOWN = "these are not the weights of a VHeatIR or VHeatIRUNet"


def detect_config(state: _State) -> dict[str, Any]:
    """Return the configuration for :func:`vheatir.archs.build_network` of the network of weights.

    Args:
        state: state dict of a :class:`vheatir.archs.VHeatIR` or :class:`vheatir.archs.VHeatIRUNet`.

    Raises:
        VHeatIRError: the weights are of another network.
    """
    convolutions = [
        state[name]
        for name in ("conv_first.weight", "conv_last.weight")
        if name in state and state[name].ndim == 4
    ]
    if len(convolutions) < 2:
        raise VHeatIRError(_UNKNOWN)
    channels = _image_channels(convolutions[0].shape[1], convolutions[1].shape[0])
    width = convolutions[0].shape[0]
    if "norm_first.weight" in state:
        return {"type": "VHeatIR", **channels, **_flat(state, width)}
    return {"type": "VHeatIRUNet", **channels, **_unet(state, width)}


def _image_channels(planes_in: int, planes_out: int) -> dict[str, Any]:
    """Return the channels, the downscale and the level input from the planes of the convolutions.

    A pixel-unshuffle by d multiplies the channels by d squared, so that at most one combination
    matches.
    """
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
    raise VHeatIRError(f"{_UNKNOWN}: their {planes_in} planes fit neither gray nor colour images")


def _flat(state: _State, width: int) -> dict[str, Any]:
    lengths = _lengths(state)
    depths = [lengths[f"groups.{index}.blocks"] for index in range(lengths["groups"])]
    _check_number(state, depths)
    block = "groups.0.blocks.0."
    return {
        "embed_dim": width,
        "depths": depths,
        "mlp_ratio": _ratio(_shape(state, f"{block}mlp.0.weight")[0], width),
        "mixer": _mixer(state, f"{block}mixer."),
        **_fve(state),
    }


def _unet(state: _State, width: int) -> dict[str, Any]:
    lengths = _lengths(state)
    coarser = lengths["down"]
    channels = [width, *(_shape(state, f"down.{index}.weight")[0] for index in range(coarser))]
    stages = [*(f"encoder.{index}." for index in range(coarser)), "body."]
    beside = any(".split_blocks." in name for name in state)
    depths, mixers, inner = [], [], []
    for stage, dim in zip(stages, channels, strict=True):
        split = lengths[f"{stage}split_blocks"]
        depths.append(split or lengths[f"{stage}blocks"])
        mixer = f"{stage}split_blocks.0.heat.mixer." if split else f"{stage}heat.mixer."
        has_heat = f"{mixer}in_proj.weight" in state
        mixers.append(_mixer(state, mixer) if has_heat else "conv")
        if has_heat:
            mixed = _shape(state, f"{mixer}in_proj.weight")[0] // 2
            inner.append((dim // 2 if split else dim, mixed))
    _check_number(state, depths)
    return {
        "channels": channels,
        "depths": depths,
        "mixers": mixers,
        "heat_placement": "beside" if beside else "after",
        **({"heat_ratio": _heat_ratio(inner, 4 if beside else 8)} if inner else {}),
        **_fve(state),
    }


def _heat_ratio(scales: list[tuple[int, int]], least: int) -> float:
    """Return the ratio that gives the mixed channels of all scales: (channels, mixed channels)."""
    ratios = [mixed / dim for dim, mixed in scales if dim]
    for ratio in sorted(ratios, reverse=True):
        if all(max(least, round(dim * ratio)) == mixed for dim, mixed in scales):
            return ratio
    raise VHeatIRError(f"{_UNKNOWN}: no heat_ratio gives its channels")


def _ratio(hidden: int, width: int) -> float:
    """Return the ``mlp_ratio`` for which ``int(width * ratio)`` is ``hidden``."""
    ratio = hidden / max(width, 1)
    return ratio if int(width * ratio) == hidden else (hidden + 0.5) / max(width, 1)


def _mixer(state: _State, prefix: str) -> str:
    if f"{prefix}to_k.weight" in state:
        return "hco"
    return "attention" if f"{prefix}qkv.weight" in state else "none"


def _fve(state: _State) -> dict[str, Any]:
    name = next((name for name in state if name.endswith(".fve")), None)
    return {} if name is None else {"fve_size": _shape(state, name)[0]}


def _shape(state: _State, name: str) -> list[int]:
    if name not in state or state[name].ndim < 1:
        raise VHeatIRError(f"{_UNKNOWN}: {name} is missing")
    return list(state[name].shape)


def _lengths(names: Iterable[str]) -> defaultdict[str, int]:
    """Return the lengths of the lists of modules by name: ``a.0.weight`` is of the list ``a``."""
    items: set[tuple[str, str]] = set()
    for name in names:
        if len(name) > _MAX_NAME_LENGTH:
            raise VHeatIRError(_UNKNOWN)
        for match in re.finditer(r"\.(\d+)(?=\.)", name):
            items.add((name[: match.start()], match[1]))
    lengths: defaultdict[str, int] = defaultdict(int)
    for listed, _ in items:
        lengths[listed] += 1
    return lengths


def _check_number(state: _State, depths: Sequence[int]) -> None:
    """Raise unless there are at least 4 weights for each block and 2 for each group or scale.

    Building the network of a file that only names many blocks would take very long.
    """
    if 4 * sum(depths) + 2 * len(depths) > len(state):
        raise VHeatIRError(_UNKNOWN)
