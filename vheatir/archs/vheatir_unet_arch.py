"""VHeatIRUNet: U-Net of residual convolution blocks and heat blocks.

The layout is that of DRUNet (Zhang et al., "Plug-and-Play Image Restoration with Deep Denoiser
Prior", TPAMI 2021, arXiv 2008.13751): strided 2x2 convolutions for down- and upsampling, additive
skip connections, any image size. A heat block follows the convolution blocks of a scale; at the
coarsest scale, conduction over the whole image costs almost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from torch import Tensor, nn

from vheatir.archs.base import ImageNetwork, check_positive
from vheatir.archs.blocks import HeatResidual, ResidualConvBlock, frequency_embedding_for
from vheatir.errors import VHeatIRError

#: Value of ``mixers`` for a scale with convolutions only.
NO_HEAT = "conv"


class Stage(nn.Module):
    """The blocks of one scale in the encoder or decoder: convolutions, then heat if any."""

    #: Builds a block from its number of channels; a plug-in may replace it.
    block: ClassVar[type[nn.Module]] = ResidualConvBlock

    def __init__(
        self, dim: int, depth: int, mixer: str, heat_ratio: float, fve_size: int, index: int
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(self.block(dim) for _ in range(depth)))
        self.heat: HeatResidual | None = None
        if mixer != NO_HEAT:
            self.heat = HeatResidual(dim, mixer, max(8, round(dim * heat_ratio)), index)
        self.fve = frequency_embedding_for(self, dim, fve_size)

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        """Map features (B, C, H, W) to the same shape; ``level`` (B,) or None."""
        x = self.blocks(x)
        return x if self.heat is None else self.heat(x, self.fve, level)


class VHeatIRUNet(ImageNetwork):
    """U-shaped (multi-scale) network with a global residual connection.

    ``conv -> [blocks, down]* -> blocks -> [up, + skip, blocks]* -> conv; out = in + residual``

    Args:
        in_chans: channels of the input image.
        out_chans: channels of the output image; ``in_chans`` when None.
        downscale: 1, or 2 for a pixel-unshuffle before and a pixel-shuffle after the body.
        channels: channels of each scale, finest first.
        depths: number of blocks of each scale, in the encoder and in the decoder (at the coarsest
            scale only once).
        mixers: for each scale ``"conv"`` (convolutions only) or a key of
            :data:`vheatir.archs.mixers.MIXERS` for the heat blocks of that scale.
        heat_ratio: fraction of the channels of a scale that conduct heat.
        heat_placement: ``"after"``, the only value: configurations saved with weights name it.
        fve_size: side of the frequency value embedding's grid, for ``"hco"``.
        level_scale: as in :class:`vheatir.archs.VHeatIR`.

    Shape: (B, in_chans, H, W) floating point in [0, 1], any H, W >= 1, to (B, out_chans, H, W).

    Raises:
        VHeatIRError: invalid arguments, or input of the wrong shape.

    Example:
        >>> import torch
        >>> network = VHeatIRUNet(1, channels=[16, 24], depths=[1, 1], mixers=["conv", "hco"])
        >>> network(torch.rand(1, 1, 37, 50)).shape  # any size
        torch.Size([1, 1, 37, 50])
    """

    #: Builds the blocks of a scale; a plug-in may replace it.
    stage: ClassVar[type[nn.Module]] = Stage
    #: Keyword arguments of each named size, those of ``options/_base/unet_*.yml``.
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "small": {"channels": [64] * 3, "depths": [2, 2, 2], "mixers": [NO_HEAT, NO_HEAT, "hco"]},
        "medium": {"channels": [128] * 3, "depths": [3, 2, 2], "mixers": [NO_HEAT, NO_HEAT, "hco"]},
        "large": {
            "downscale": 1,
            "channels": [64, 128, 256, 384],
            "depths": [2, 2, 2, 2],
            "mixers": [NO_HEAT, NO_HEAT, NO_HEAT, "hco"],
        },
    }

    def __init__(
        self,
        in_chans: int = 3,
        out_chans: int | None = None,
        downscale: int = 2,
        channels: Sequence[int] = (64, 64, 64),
        depths: Sequence[int] = (2, 2, 2),
        mixers: Sequence[str] = (NO_HEAT, NO_HEAT, "hco_spread"),
        heat_ratio: float = 0.5,
        heat_placement: str = "after",
        fve_size: int = 16,
        level_scale: float | None = None,
    ) -> None:
        if not len(channels) == len(depths) == len(mixers) >= 1:
            raise VHeatIRError(
                f"channels {list(channels)}, depths {list(depths)} and mixers {list(mixers)} "
                "have different numbers of scales: give one value per scale in each"
            )
        if heat_placement != "after":
            raise VHeatIRError(
                f"heat_placement {heat_placement!r} is not part of the package: 'beside' is the "
                "network VHeatIRUNetBeside of studies.heat.mixers, in a checkout"
            )
        check_positive(channels=min(channels), heat_ratio=heat_ratio, fve_size=fve_size)
        super().__init__(in_chans, out_chans, channels[0], downscale, level_scale)
        self.multiple = downscale * 2 ** (len(channels) - 1)
        stages = [
            (dim, depth, mixer, heat_ratio, fve_size)
            for dim, depth, mixer in zip(channels, depths, mixers, strict=True)
        ]
        pairs = list(zip(channels[:-1], channels[1:], strict=True))
        self.encoder = nn.ModuleList(self.stage(*stage, 0) for stage in stages[:-1])
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in pairs)
        self.body = self.stage(*stages[-1], 0)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in pairs
        )
        self.decoder = nn.ModuleList(self.stage(*stage, 1) for stage in stages[:-1])
        self.add_last_conv(channels[0])

    def features(self, planes: Tensor, strength: Tensor | None) -> Tensor:
        """All scales, down and up again, and a residual; see :meth:`ImageNetwork.features`."""
        first = y = self.conv_first(planes)
        skips = []
        for stage, down in zip(self.encoder, self.down, strict=True):
            y = stage(y, strength)
            skips.append(y)
            y = down(y)
        y = self.body(y, strength)
        for stage, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            y = stage(up(y) + skips.pop(), strength)
        return y + first
