"""Checkpoints for BasicSR, HAT and spandrel: ``{"params_ema": state dict}``, float32.

A program that reads one deduces the network from the names and shapes of the weights, as
:mod:`vheatir.archs.detect` does.
"""

from __future__ import annotations

import io

import torch

from vheatir.archs import complete_config
from vheatir.archs.detect import HIDDEN, detect_config
from vheatir.errors import VHeatIRError
from vheatir.export.source import Source


def to_checkpoint(source: Source) -> bytes:
    """Return a model as the contents of a ``.pth`` file.

    Raises:
        VHeatIRError: the network has other arguments than its weights would tell.
    """
    state = {
        name: tensor.detach().cpu().float().clone(memory_format=torch.contiguous_format)
        for name, tensor in source.model.network.state_dict().items()
    }
    deduced = detect_config(state)
    expected = complete_config(deduced.pop("type"), deduced)
    for name in (*HIDDEN, "level_scale"):
        if source.config.get(name) != expected.get(name):
            raise VHeatIRError(
                f"{source.name} has {name} {source.config.get(name)!r}, which leaves no trace in "
                f"the weights: a .pth file can hold only {name} {expected.get(name)!r}; keep the "
                ".safetensors file"
            )
    buffer = io.BytesIO()
    torch.save({"params_ema": state}, buffer)
    return buffer.getvalue()
