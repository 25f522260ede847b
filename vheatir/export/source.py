"""The model to export, with its licence."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vheatir.archs import VHeatIR, VHeatIRUNet, network_config
from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath
from vheatir.inference.restorer import open_model
from vheatir.tasks import TASKS, Task, format_levels
from vheatir.weights import LoadedModel, level_range, read_info
from vheatir.zoo import ModelEntry, released_entry

#: Sigma on 0..255 divided by the input ``sigma`` of a graph.
SIGMA_SCALE = 255.0
#: Mixers that a graph and a checkpoint can hold.
_MIXERS = frozenset({"conv", "none", "hco", "hco_spread"})
_OWN = ("VHeatIR", "VHeatIRUNet")


@dataclass(frozen=True)
class Source:
    """A model to export.

    Attributes:
        model: the model, with one of the package's networks.
        config: its configuration, see :func:`vheatir.archs.network_config`.
        entry: its entry in the registry, if it is a released one.
        licence: licence of the weights; None if it is not known.
    """

    model: LoadedModel
    config: dict[str, Any]
    entry: ModelEntry | None
    licence: str | None

    @property
    def name(self) -> str:
        """Name of the model; that of its file if it has none."""
        return self.model.name

    @property
    def task(self) -> Task | None:
        """Task of the model; None for a checkpoint of BasicSR or a training on pairs."""
        return TASKS.get(str(self.model.info.get("task")))

    @property
    def takes_level(self) -> bool:
        """Whether the network takes a level, the sigma of the noise."""
        return bool(self.model.network.takes_level)

    @property
    def channels(self) -> int:
        """Channels of the image."""
        return int(self.config["in_chans"])

    def check_level(self, level: float) -> None:
        """Raise VHeatIRError unless the network takes this level."""
        if not self.takes_level:
            raise VHeatIRError(f"{self.name} takes no level, since it is blind: leave --level out")
        low, high = level_range(self.model.info) or (0.0, math.inf)
        if not (low <= level <= high and math.isfinite(level)):  # also rejects NaN
            trained = format_levels((low, high))
            name = self.task.level_name if self.task and self.task.level_name else "sigma"
            raise VHeatIRError(f"level {level:g}: {self.name} is trained for {name} {trained}")


def open_source(model: StrPath | LoadedModel, licence: str | None = None) -> Source:
    """Load a model to export, and find its licence.

    Args:
        model: see :func:`vheatir.export.export_model`.
        licence: licence of a model that is not a released one.

    Raises:
        VHeatIRError: the model cannot be loaded, its network is not one of the package or has
            a mixer that cannot be exported, or the licence is already known.
    """
    if not isinstance(model, LoadedModel) and Path(model).suffix == ".safetensors":
        # before loading, which would ask for the module that registers a foreign network
        _check_network(str(model), read_info(model)["network"])
    loaded = open_model(model)
    if not isinstance(loaded.network, (VHeatIR, VHeatIRUNet)):
        _check_network(str(loaded.path), {"type": type(loaded.network).__name__})
    config = network_config(loaded.network)
    _check_network(str(loaded.path), config)
    entry = released_entry(loaded)
    if entry is not None and licence is not None:
        raise VHeatIRError(f"the licence of {entry.name} is known: leave --licence out")
    return Source(loaded, config, entry, entry.licence if entry else licence)


def _check_network(file: str, config: dict[str, Any]) -> None:
    if config.get("type") not in _OWN:
        raise VHeatIRError(
            f"{file} holds the network {str(config.get('type'))[:64]!r}, which is not part of "
            f"vHeatIR: only {' and '.join(_OWN)} can be exported; use that network's own tools"
        )
    mixers = config.get("mixers") or [config.get("mixer", "hco")]
    for mixer in mixers:
        if mixer not in _MIXERS:
            raise VHeatIRError(
                f"{file} has the mixer {str(mixer)[:64]!r}, which cannot be exported: "
                f"only {', '.join(sorted(_MIXERS))} can"
            )
