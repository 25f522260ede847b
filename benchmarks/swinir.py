"""BasicSR's SwinIR as a network type, to train and measure it with the same code."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs import ARCHS
from vheatir.basicsr_import import import_basicsr
from vheatir.errors import VHeatIRError

WINDOW = 8
# Heads as published for SwinIR's denoisers; `mini` has no counterpart and gets 8 channels per head.
HEADS = {"base": 6, "light": 6, "mini": 8}


class SwinIR(nn.Module):
    """SwinIR (arXiv 2108.10257) for denoising and JPEG artifacts, with an optional pixel-unshuffle.

    Args:
        in_chans: channels of the image.
        out_chans: must equal ``in_chans``.
        embed_dim: channels of the body.
        depths: layers in each group.
        heads: attention heads of every layer.
        mlp_ratio: hidden channels of the MLPs over ``embed_dim``.
        downscale: 1, as published, or the factor of a pixel-unshuffle before and a pixel-shuffle
            after, as in the network it is compared with.

    Shape: (B, in_chans, H, W) in [0, 1], to the same.
    """

    takes_level = False

    def __init__(
        self,
        in_chans: int = 3,
        out_chans: int | None = None,
        embed_dim: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        heads: int = 6,
        mlp_ratio: float = 2.0,
        downscale: int = 1,
    ) -> None:
        super().__init__()
        import_basicsr()
        from basicsr.archs.swinir_arch import SwinIR as Published

        if out_chans not in (None, in_chans):
            raise VHeatIRError(f"SwinIR returns its {in_chans} input channels: omit out_chans")
        self.in_chans = self.out_chans = in_chans
        self.downscale = downscale
        # Its constructor reads tensor values, which fails on the meta device, on which load_weights
        # first builds a network to check its shapes.
        with torch.device("cpu"):
            self.body = Published(
                img_size=64,
                in_chans=in_chans * downscale**2,
                window_size=WINDOW,
                embed_dim=embed_dim,
                depths=list(depths),
                num_heads=[heads] * len(depths),
                mlp_ratio=mlp_ratio,
                drop_path_rate=0.0,  # otherwise only SwinIR would draw random numbers in training
                upsampler="",
            )
        share_masks(self.body)

    def forward(self, x: Tensor, level: None = None) -> Tensor:
        """Restore an image; sizes that are not multiples of the window are reflection-padded."""
        height, width = x.shape[2:]
        multiple = WINDOW * self.downscale
        bottom, right = -height % multiple, -width % multiple
        mode = "reflect" if bottom < height and right < width else "replicate"
        planes = F.pixel_unshuffle(F.pad(x, (0, right, 0, bottom), mode), self.downscale)
        return F.pixel_shuffle(self.body(planes), self.downscale)[..., :height, :width]


class _EverySize:
    """Equal to every image size."""

    def __eq__(self, other: object) -> bool:
        return True

    __hash__ = None  # type: ignore[assignment]


def share_masks(network: nn.Module) -> None:
    """Share one cached attention mask per size among SwinIR's shifted layers; others have none.

    At sizes other than the training size, the published code rebuilds a mask in every layer and
    call, and one of zeros in layers that are not shifted. Our decay is cached between calls, so
    SwinIR's mask is too.
    """
    masks: dict[tuple[int, int], Tensor] = {}

    def mask_for(block: Any, calculate: Callable[[tuple[int, int]], Tensor]) -> Callable[..., Any]:
        def calculate_mask(x_size: tuple[int, int]) -> Tensor:
            if x_size not in masks:
                masks.clear()
                device = next(block.parameters()).device
                masks[x_size] = calculate(x_size).to(device)
            return masks[x_size]

        return calculate_mask

    for block in network.modules():
        if hasattr(block, "calculate_mask"):
            block.attn_mask = None
            # A block uses attn_mask (None) at input_resolution, and computes a mask otherwise.
            block.input_resolution = None if block.shift_size > 0 else _EverySize()
            if block.shift_size > 0:
                block.calculate_mask = mask_for(block, block.calculate_mask)


def register() -> None:
    """Register ``type: SwinIR`` for option and weight files in this process."""
    ARCHS["SwinIR"] = SwinIR


if __name__ == "__main__":
    # python -m benchmarks.swinir -opt FILE: vheatir/train.py for option files of type SwinIR
    from benchmarks.swinir import register as register_importable
    from vheatir.train import main

    register_importable()
    raise SystemExit(main())
