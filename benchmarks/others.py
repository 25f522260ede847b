"""Third-party networks for timing, with random weights, and BM3D.

The networks come from ``spandrel`` and ``spandrel-extra-arches`` (the ``bench`` extra). The latter
is for non-commercial use only: nothing here is copied from it, and whoever installs it accepts its
terms. Imports are lazy: the other benchmarks run without either package.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.errors import VHeatIRError, unknown_name
from vheatir.tasks import get_task

BM3D = "BM3D"

# Below this side their own reflection padding fails.
_SMALLEST = 64


@dataclass(frozen=True)
class Architecture:
    """A packaged network in its published configuration.

    Attributes:
        module: module of the class, whose name is the last part.
        arguments: keyword arguments from the number of image channels and whether it denoises.
        has_level_plane: whether it takes the level as an extra channel.
    """

    module: str
    arguments: Callable[[int, bool], dict[str, Any]]
    has_level_plane: bool = False

    def build(self, channels: int, denoises: bool) -> nn.Module:
        """Build the network with random weights."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the packages' own warnings
            architecture = getattr(importlib.import_module(self.module), self.module.split(".")[-1])
            network: nn.Module = architecture(**self.arguments(channels, denoises))
        return network


def _swinir(channels: int, denoises: bool) -> dict[str, Any]:
    return {
        "in_chans": channels,
        "window_size": 8 if denoises else 7,
        "img_size": 128 if denoises else 126,
        "embed_dim": 180,
        "depths": [6] * 6,
        "num_heads": [6] * 6,
        "mlp_ratio": 2,
    }


def _restormer(channels: int, denoises: bool) -> dict[str, Any]:
    return {"inp_channels": channels, "out_channels": channels, "LayerNorm_type": "BiasFree"}


def _nafnet(channels: int, denoises: bool) -> dict[str, Any]:
    blocks = {"middle_blk_num": 12, "enc_blk_nums": [2, 2, 4, 8], "dec_blk_nums": [2, 2, 2, 2]}
    return {"img_channel": channels, "width": 32, **blocks}


def _in_and_out(channels: int, denoises: bool) -> dict[str, Any]:
    return {"in_nc": channels, "out_nc": channels}


#: Keyed by the name used in :mod:`vheatir.evaluation.published`.
ARCHITECTURES = {
    "SwinIR": Architecture("spandrel.architectures.SwinIR", _swinir),
    "SCUNet": Architecture("spandrel.architectures.SCUNet", lambda c, _: {"in_nc": c}),
    "DRUNet": Architecture(
        "spandrel.architectures.DRUNet", lambda c, _: {"in_nc": c + 1, "out_nc": c}, True
    ),
    "DnCNN": Architecture(
        "spandrel.architectures.DnCNN",
        lambda c, denoises: {**_in_and_out(c, denoises), "nb": 20 if c == 3 else 17},
    ),
    "Restormer": Architecture("spandrel_extra_arches.architectures.Restormer", _restormer),
    "NAFNet": Architecture("spandrel.architectures.NAFNet", _nafnet),
    "FBCNN": Architecture("spandrel.architectures.FBCNN", _in_and_out),
}

#: Methods for each task; NAFNet was published for real noise in colour photographs.
FOR_TASK = {
    "denoise_gray": ("SwinIR", "SCUNet", "DRUNet", "DnCNN", "Restormer", BM3D),
    "denoise_color": ("SwinIR", "SCUNet", "DRUNet", "DnCNN", "Restormer", "NAFNet", BM3D),
    "jpeg_gray": ("SwinIR", "DRUNet", "FBCNN"),
}


class _OnImages(nn.Module):
    """Adapts a network to take and return one image."""

    def __init__(self, network: nn.Module, channels: int, has_level_plane: bool) -> None:
        super().__init__()
        self.network, self.in_chans, self.has_level_plane = network, channels, has_level_plane

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[2:]
        if min(height, width) < _SMALLEST:
            missing = (0, max(0, _SMALLEST - width), 0, max(0, _SMALLEST - height))
            x = F.pad(x, missing, mode="replicate")
        if self.has_level_plane:
            x = torch.cat([x, x.new_full((x.shape[0], 1, *x.shape[2:]), 0.1)], dim=1)
        out = self.network(x)
        out = out[0] if isinstance(out, tuple) else out  # FBCNN returns the quality too
        return out[..., :height, :width]


class _Bm3d(nn.Module):
    """BM3D or CBM3D as a module without weights; always on the CPU."""

    def __init__(self, task: str, level: float) -> None:
        super().__init__()
        from vheatir.evaluation.methods import bm3d_method

        self.task, self.level = get_task(task), level
        self.in_chans = self.task.channels
        self.method = bm3d_method(self.task)

    def forward(self, x: Tensor) -> Tensor:
        image = x[0].movedim(0, -1).float().cpu().numpy()
        restored = self.method.restore(image[..., 0] if self.in_chans == 1 else image, self.level)
        return torch.from_numpy(restored).reshape(*image.shape).movedim(-1, 0)[None]


def build_other(name: str, task: str, level: float = 25.0) -> nn.Module:
    """Build another method for a task, with random weights.

    Args:
        name: key of :data:`ARCHITECTURES`, or :data:`BM3D`.
        task: key of :data:`FOR_TASK`.
        level: sigma for BM3D; networks ignore it.

    Raises:
        VHeatIRError: no such method for this task, or its package is missing.
    """
    if name not in FOR_TASK.get(task, ()):
        raise unknown_name(f"method for {task}", name, FOR_TASK.get(task, ()))
    if name == BM3D:
        return _Bm3d(task, level)
    channels, denoises = get_task(task).channels, get_task(task).kind == "denoise"
    architecture = ARCHITECTURES[name]
    try:
        network = architecture.build(channels, denoises)
    except ImportError as error:
        raise VHeatIRError(
            f"{name} is not installed ({error}): pip install -e '.[bench]', or omit it"
        ) from None
    return _OnImages(network, channels, architecture.has_level_plane)
