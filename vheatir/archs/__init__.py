"""Network architectures by name, in pure PyTorch."""

from __future__ import annotations

import inspect
import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import nn

from vheatir.archs import fast as fast
from vheatir.archs.vheatir_arch import VHeatIR as VHeatIR
from vheatir.archs.vheatir_unet_arch import VHeatIRUNet as VHeatIRUNet
from vheatir.errors import VHeatIRError, first_line, unknown_name
from vheatir.renamed import SIZES, current_name

#: Network types that option and weight files may name. Register your own class here to train it
#: with the same loop. It needs ``forward(x, level=None)`` on images (B, C, H, W), and the
#: attributes ``in_chans``, ``out_chans`` and ``takes_level``. See ``benchmarks/swinir.py``.
ARCHS: dict[str, Callable[..., nn.Module]] = {"VHeatIR": VHeatIR, "VHeatIRUNet": VHeatIRUNet}

#: Names in :data:`ARCHS` of foreign networks, which need none of these attributes.
FOREIGN: set[str] = set()


def adopt(name: str, network: Callable[..., nn.Module]) -> None:
    """Let option and weight files name a foreign network, called as ``network(x)``.

    Args:
        name: network type; a name that is in :data:`ARCHS` already keeps its meaning.
        network: the class, or another function that builds the network from keyword arguments.
    """
    if name not in ARCHS:
        ARCHS[name] = network
        FOREIGN.add(name)


def build_network(config: Mapping[str, Any]) -> nn.Module:
    """Build a network from ``{"type": name, **keyword arguments}``.

    ``"size"`` expands to the keyword arguments of a named size (:attr:`VHeatIR.SIZES`,
    :attr:`VHeatIRUNet.SIZES`); explicit arguments override it.

    Raises:
        VHeatIRError: unknown type, size or argument (the message suggests the closest valid one),
            or an invalid value.

    Example:
        >>> network = build_network({"type": "VHeatIRUNet", "size": "small", "in_chans": 1})
        >>> sum(weight.numel() for weight in network.parameters())
        834596
    """
    arguments = dict(config)
    name = arguments.pop("type", None)
    if name not in ARCHS:
        raise unknown_name("network type", name, ARCHS)
    sizes: Mapping[str, Mapping[str, Any]] = getattr(ARCHS[name], "SIZES", {})
    if sizes and "size" in arguments:
        size = arguments.pop("size")
        if size not in sizes and isinstance(size, str):
            size = current_name(size, SIZES)
        if size not in sizes:
            raise unknown_name(f"size of {name}", size, sizes)
        arguments = {**sizes[size], **arguments}
    check_arguments(f"option of {name}", ARCHS[name], arguments)
    try:
        network = ARCHS[name](**arguments)
    except VHeatIRError:
        raise
    except Exception as error:  # a constructor may raise anything
        raise VHeatIRError(f"network {name} cannot be built: {first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise VHeatIRError(f"network type {name} is not a network: it builds {type(network)}")
    network.vheatir_config = complete_config(name, arguments)  # type: ignore[assignment]
    return network


def check_arguments(kind: str, function: Callable[..., Any], names: Iterable[str]) -> None:
    """Raise VHeatIRError unless ``function`` takes all of ``names`` as keyword arguments.

    Args:
        kind: what the names are, for the message.
        function: a function or class.
        names: names of keyword arguments.
    """
    parameters = inspect.signature(function).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for name in names:
        if name not in parameters:
            raise unknown_name(kind, name, parameters)


def complete_config(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the full configuration, including defaults, in JSON-compatible types.

    Defaults of other types, such as the ``norm_layer`` of a foreign network, are left out.
    """
    parameters = inspect.signature(ARCHS[name]).parameters
    defaults = {key: each.default for key, each in parameters.items() if _is_json(each.default)}
    values = {**defaults, **arguments}.items()
    return {"type": name, **{key: list(v) if isinstance(v, tuple) else v for key, v in values}}


def _is_json(value: object) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def network_config(network: nn.Module) -> dict[str, Any]:
    """Return the configuration from which :func:`build_network` built ``network``.

    Raises:
        VHeatIRError: ``network`` was not built by :func:`build_network`.
    """
    config = getattr(network, "vheatir_config", None)
    if config is None:
        raise VHeatIRError(
            "the configuration of this network is unknown: build it with vheatir.build_network"
        )
    return dict(config)


def window_of(network: nn.Module) -> int:
    """Return the number of pixels of which the sides of an image must be multiples.

    That is the attribute ``window_size`` of a foreign network, such as HAT, or else its
    argument of that name, such as SwinIR's; 1 without either. The package's networks take any size.
    """
    config = getattr(network, "vheatir_config", {})
    size = getattr(network, "window_size", None) or config.get("window_size")
    sides = [size] if isinstance(size, int) else size if isinstance(size, (list, tuple)) else []
    return math.lcm(*(side for side in sides if isinstance(side, int) and side > 0))
