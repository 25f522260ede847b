"""Network architectures by name, in pure PyTorch."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from torch import nn

from vheatir.archs import fast
from vheatir.archs.vheatir_arch import VHeatIR
from vheatir.archs.vheatir_unet_arch import VHeatIRUNet
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.renamed import SIZES, current_name

#: Network types that option and weight files may name. Register your own class here to train it
#: with the same loop. It needs ``forward(x, level=None)`` on images (B, C, H, W), and the
#: attributes ``in_chans``, ``out_chans`` and ``takes_level``. See ``benchmarks/swinir.py``.
ARCHS: dict[str, type[nn.Module]] = {"VHeatIR": VHeatIR, "VHeatIRUNet": VHeatIRUNet}


def build_network(config: Mapping[str, Any]) -> nn.Module:
    """Build a network from ``{"type": name, **keyword arguments}``.

    ``"size"`` expands to the keyword arguments of a named size (:attr:`VHeatIR.SIZES`); explicit
    arguments override it.

    Raises:
        VHeatIRError: unknown type, size or argument (the message suggests the closest valid one),
            or an invalid value.
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
    allowed = inspect.signature(ARCHS[name]).parameters
    for key in arguments:
        if key not in allowed:
            raise unknown_name(f"option of {name}", key, allowed)
    try:
        network = ARCHS[name](**arguments)
    except (TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise VHeatIRError(f"network {name} cannot be built: {line}") from error
    network.config = complete_config(name, arguments)  # type: ignore[assignment]
    return network


def complete_config(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the full configuration, including defaults, in JSON-compatible types."""
    parameters = inspect.signature(ARCHS[name]).parameters
    values = {key: arguments.get(key, parameter.default) for key, parameter in parameters.items()}
    plain = {key: list(v) if isinstance(v, tuple) else v for key, v in values.items()}
    return {"type": name, **plain}


def network_config(network: nn.Module) -> dict[str, Any]:
    """Return the configuration from which :func:`build_network` built ``network``.

    Raises:
        VHeatIRError: ``network`` was not built by :func:`build_network`.
    """
    config = getattr(network, "config", None)
    if config is None:
        raise VHeatIRError(
            "the configuration of this network is unknown: build it with vheatir.build_network"
        )
    return dict(config)


__all__ = ["ARCHS", "VHeatIR", "VHeatIRUNet", "build_network", "fast", "network_config"]
