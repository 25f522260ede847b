"""Tiny networks with random weights, as models to export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vheatir import build_network
from vheatir.weights import LoadedModel

#: A U-Net without heat, which reaches some 40 pixels far, and exports in a second.
CONVOLUTIONS: dict[str, Any] = {
    "type": "VHeatIRUNet",
    "channels": [8, 8],
    "depths": [1, 1],
    "mixers": ["conv", "conv"],
}


def tiny_model(
    config: dict[str, Any], task: str | None = "denoise_color", level: Any = (0, 55)
) -> LoadedModel:
    """Return a model whose output differs from its input."""
    torch.manual_seed(0)
    network = build_network(config).eval().requires_grad_(False)
    for part in network.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, std=0.5 / part.weight[0].numel() ** 0.5)
    info = {"name": "tiny", "task": task, "level": level}
    return LoadedModel(network, info, Path("tiny.safetensors"), "0" * 64)
