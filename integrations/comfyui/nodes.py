"""The node *Restore (vHeatIR)*."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

import comfy.model_management
import comfy.utils
import folder_paths
import torch
from comfy_api.latest import ComfyExtension, io
from torch import Tensor

from vheatir import Restorer
from vheatir.errors import VHeatIRError
from vheatir.inference import AutoRestorer
from vheatir.weights import read_info
from vheatir.zoo import list_models

from .restoration import restore_batch

_AUTOMATIC = "automatic"
_MANUAL = "manual"
_WHOLE = "whole image"
_TILES = ("128", "256", "512", "1024", "2048")
_FOLDER = "upscale_models"  # ComfyUI's folder of image-to-image networks
_KEPT_IN_MEMORY = 4
# Peak memory: about ten float32 feature maps of 32 channels. Larger images are tiled.
_BYTES_PER_PIXEL = 10 * 32 * 4
_MOST_BYTES = 2_560_000_000


class VHeatIRRestore(io.ComfyNode):
    """Restore images: remove camera noise, white noise and JPEG artifacts."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """Describe the node, its inputs and outputs."""
        return io.Schema(
            node_id="VHeatIRRestore",
            display_name="Restore (vHeatIR)",
            category="image/restoration",
            description="Remove camera noise, white noise and JPEG artifacts.",
            inputs=[
                io.Image.Input("image"),
                io.Combo.Input(
                    "model",
                    options=[_AUTOMATIC, *(model.name for model in list_models()), *_own_files()],
                    default=_AUTOMATIC,
                    tooltip="automatic: choose a model, or mix two, for each image of the batch, "
                    "or leave it unchanged if it needs none. Weight files of vHeatIR in models/"
                    f"{_FOLDER} are listed too.",
                ),
                io.Combo.Input(
                    "level",
                    options=[_AUTOMATIC, _MANUAL],
                    default=_AUTOMATIC,
                    tooltip="automatic: estimate the noise of each image. manual: use the level "
                    "below, with a model that takes one (denoise_...).",
                ),
                io.Float.Input(
                    "manual_level",
                    default=25.0,
                    min=0.0,
                    max=255.0,
                    step=0.5,
                    tooltip="Used if level is manual: standard deviation of the noise (sigma) on "
                    "the scale 0 to 255.",
                ),
                io.Float.Input(
                    "strength",
                    default=100.0,
                    min=0.0,
                    max=150.0,
                    step=1.0,
                    tooltip="Percent: 0 is the input, 100 the model's result. Below 100, texture "
                    "returns before noise.",
                ),
                io.Combo.Input(
                    "tile",
                    options=[_AUTOMATIC, _WHOLE, *_TILES],
                    default=_AUTOMATIC,
                    tooltip="Largest side of the tiles in pixels. automatic: by image size and "
                    "available memory.",
                ),
                io.Mask.Input(
                    "mask",
                    optional=True,
                    tooltip="Restore where the mask is 1, keep the image where it is 0.",
                ),
            ],
            outputs=[
                io.Image.Output("restored", display_name="image"),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was found and done, a line for each image.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        image: Tensor,
        model: str,
        level: str,
        manual_level: float,
        strength: float,
        tile: str,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """Restore a batch (B, H, W, C) in [0, 1]; ComfyUI calls it with the inputs above."""
        device = comfy.model_management.get_torch_device()
        pixels = image.shape[1] * image.shape[2]
        # Other models make room, so that automatic tiles need not be small.
        comfy.model_management.free_memory(min(pixels * _BYTES_PER_PIXEL, _MOST_BYTES), device)
        bar = comfy.utils.ProgressBar(len(image))

        def report(done: int, total: int) -> None:
            _stop_if_cancelled()
            bar.update_absolute(done, total)

        restored, text = restore_batch(
            _restorer(model, device),
            image,
            level=manual_level if level == _MANUAL else None,
            strength=strength,
            tile=_tile(tile),
            mask=mask,
            progress=report,
        )
        return io.NodeOutput(restored, text)


class VHeatIRExtension(ComfyExtension):
    """The nodes of the pack."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """Return the nodes."""
        return [VHeatIRRestore]


def _own_files() -> list[str]:
    """Return the names of vHeatIR's weight files among ComfyUI's upscale models."""
    names = folder_paths.get_filename_list(_FOLDER)
    return [name for name in names if name.endswith(".safetensors") and _is_own(name)]


def _is_own(name: str) -> bool:
    path = folder_paths.get_full_path(_FOLDER, name)
    try:
        return path is not None and bool(read_info(path))
    except VHeatIRError:  # of another project, or damaged
        return False


def _tile(text: str) -> Literal["auto"] | int | None:
    if text == _AUTOMATIC:
        return "auto"
    return None if text == _WHOLE else int(text)


def _restorer(model: str, device: torch.device) -> Restorer:
    """Return a model by its name in the list, loaded on first use."""
    if not model.endswith(".safetensors"):
        return _load(model, 0.0, device)
    path = folder_paths.get_full_path_or_raise(_FOLDER, model)
    return _load(path, Path(path).stat().st_mtime, device)


@lru_cache(_KEPT_IN_MEMORY)
def _load(model: str, modified: float, device: torch.device) -> Restorer:
    """Load a model; ``modified``, the time of its file, makes a replaced file load anew."""

    def load(name: str) -> Restorer:
        restorer = Restorer(name, device)
        # A tile can take long on a CPU: cancelling ends it at the next module of the network.
        for module in restorer.network.modules():
            module.register_forward_pre_hook(_stop_if_cancelled)
        return restorer

    return AutoRestorer(device=device, load=load) if model == _AUTOMATIC else load(model)


def _stop_if_cancelled(*_: object) -> None:
    """Raise ComfyUI's exception if the user has cancelled."""
    comfy.model_management.throw_exception_if_processing_interrupted()
