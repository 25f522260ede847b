"""The candidates of the mixer study, read from a YAML file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import yaml
from torch import nn

import studies.heat.mixers  # noqa: F401  registers them
from vheatir.archs import build_network
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.tasks import Task

PLACE = "MIXER"
CONTROLS = ("none", "conv", "dwconv7", "attention", "gain")


@dataclass(frozen=True)
class Candidate:
    """A network of the study.

    Attributes:
        shape: name of its shape.
        mixer: name of its mixer or of the control in its place, or its name in the file.
        network: its configuration, without the image channels.
        options: overrides of the common option file.
    """

    shape: str
    mixer: str
    network: Mapping[str, Any]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return f"{self.shape}/{self.mixer}"

    @property
    def key(self) -> str:
        """File name with a hash of the configuration, so that stale results are not reused."""
        text = json.dumps(self.network, sort_keys=True)
        if self.options:
            text += json.dumps(self.options, sort_keys=True)
        digest = hashlib.sha256(text.encode()).hexdigest()[:6]
        return f"{self.shape}-{self.mixer}-{digest}".replace(" ", "_")

    def config(self, task: Task) -> dict[str, Any]:
        """Return the configuration for a task's images."""
        return {**self.network, "in_chans": task.channels}

    def build(self, task: Task) -> nn.Module:
        """Build the network, with random weights."""
        return build_network(self.config(task))


def read_candidates(path: Path) -> list[Candidate]:
    """Read the file.

    Raises:
        VHeatIRError: it cannot be read, or a candidate is invalid.
    """
    try:
        content = yaml.safe_load(path.read_text())
        shapes: dict[str, dict[str, Any]] = content["shapes"]
        found = []
        for entry in content["candidates"]:
            shape = entry["shape"]
            if shape not in shapes:
                raise unknown_name("shape", shape, shapes)
            for mixer in entry.get("mixers", [entry.get("mixer")]):
                network = {**shapes[shape], **entry.get("network", {})}
                name = entry.get("name", mixer)
                options = entry.get("options", {})
                found.append(Candidate(shape, name, _with_mixer(network, mixer), options))
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise VHeatIRError(
            f"{path} is not a file of candidates ({type(error).__name__}: {error}): see "
            "studies/heat/mixers.yml"
        ) from error
    names = [candidate.name for candidate in found]
    for name in names:
        if names.count(name) > 1:
            raise VHeatIRError(f"{path} names the candidate {name} twice: give each its own name")
    return found


def _with_mixer(network: dict[str, Any], mixer: str) -> dict[str, Any]:
    def replace(value: Any) -> Any:
        if isinstance(value, list):
            return [replace(item) for item in value]
        return mixer if value == PLACE else value

    return {key: replace(value) for key, value in network.items()}


def select(candidates: list[Candidate], patterns: list[str]) -> list[Candidate]:
    """Return the candidates whose names match any pattern, such as ``u/*``.

    Raises:
        VHeatIRError: a pattern matches none.
    """
    for pattern in patterns:
        if not any(fnmatch(c.name, pattern) for c in candidates):
            raise unknown_name("candidate", pattern, [c.name for c in candidates])
    return [c for c in candidates if any(fnmatch(c.name, pattern) for pattern in patterns)]
