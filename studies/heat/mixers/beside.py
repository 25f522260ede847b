"""``VHeatIRUNetBeside``: a U with a mixer beside the convolutions of every block."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from vheatir.archs import VHeatIRUNet
from vheatir.archs.blocks import HeatResidual, ResidualConvBlock, frequency_embedding_for
from vheatir.archs.vheatir_unet_arch import NO_HEAT


class SplitBlock(nn.Module):
    """Convolutions and a mixer in parallel on half of the channels each; (B, C, H, W).

    ``x + conv1x1(concat(conv_block(a), heat_block(b)))`` with ``a, b = split(conv1x1(x))``. The
    Swin-Conv block of SCUNet (Zhang et al., "Practical Blind Image Denoising via Swin-Conv-UNet and
    Data Synthesis", 2023) with heat conduction in place of window attention.
    """

    def __init__(self, dim: int, mixer: str, inner_dim: int, index: int) -> None:
        super().__init__()
        self.split = [dim - dim // 2, dim // 2]
        self.fan_out = nn.Conv2d(dim, dim, 1)
        self.conv = ResidualConvBlock(self.split[0])
        self.heat = HeatResidual(self.split[1], mixer, inner_dim, index)
        self.fan_in = nn.Conv2d(dim, dim, 1)

    def forward(
        self, x: Tensor, frequency_embedding: Tensor | None, level: Tensor | None = None
    ) -> Tensor:
        """Return a feature map of the same shape."""
        a, b = self.fan_out(x).split(self.split, dim=1)
        merged = torch.cat([self.conv(a), self.heat(b, frequency_embedding, level)], dim=1)
        return x + self.fan_in(merged)


class SplitStage(nn.Module):
    """The blocks of one scale in the encoder or decoder: :class:`SplitBlock` where there is heat.

    Windows alternate between unshifted and shifted from block to block.
    """

    def __init__(
        self, dim: int, depth: int, mixer: str, heat_ratio: float, fve_size: int, index: int
    ) -> None:
        super().__init__()
        convolutions, splits = (depth, 0) if mixer == NO_HEAT else (0, depth)
        inner = max(4, round(dim // 2 * heat_ratio))
        self.blocks = nn.Sequential(*(ResidualConvBlock(dim) for _ in range(convolutions)))
        self.split_blocks = nn.ModuleList(SplitBlock(dim, mixer, inner, i) for i in range(splits))
        self.fve = frequency_embedding_for(self, dim // 2, fve_size)

    def forward(self, x: Tensor, level: Tensor | None = None) -> Tensor:
        """Map features (B, C, H, W) to the same shape; ``level`` (B,) or None."""
        x = self.blocks(x)
        for block in self.split_blocks:
            x = block(x, self.fve, level)
        return x


class VHeatIRUNetBeside(VHeatIRUNet):
    """:class:`vheatir.archs.VHeatIRUNet`, with heat on half of the channels of every block.

    A key of :data:`vheatir.archs.ARCHS`, with the arguments of ``VHeatIRUNet``.
    """

    stage: ClassVar[type[nn.Module]] = SplitStage
