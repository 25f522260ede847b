"""vHeatIR in ComfyUI: the node *Restore (vHeatIR)*, and its networks for "Load Upscale Model"."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes import VHeatIRExtension


async def comfy_entrypoint() -> VHeatIRExtension:
    """Register the networks in spandrel; return the nodes. ComfyUI calls it once, at its start."""
    from vheatir.spandrel import install

    # Imported here, so that ComfyUI reports in one line that a package is missing.
    from .nodes import VHeatIRExtension

    install()
    return VHeatIRExtension()
