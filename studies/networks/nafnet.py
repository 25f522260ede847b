"""``type: NAFUNet``: the U with blocks as in NAFNet in place of residual convolution blocks.

Importing this module registers it with vHeatIR, in this process.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vheatir.archs import ARCHS, VHeatIRUNet
from vheatir.archs.vheatir_unet_arch import Stage
from vheatir.ops.layer_norm import LayerNorm


class NAFBlock(nn.Module):
    """The block of NAFNet, (B, C, H, W); starts as the identity.

    Chen et al., "Simple Baselines for Image Restoration", ECCV 2022 (arXiv 2204.04676), section 4::

        x = x + beta * conv1x1(attention(gate(dwconv3x3(conv1x1(LN(x))))))
        x = x + gamma * conv1x1(gate(conv1x1(LN(x))))

    with the simple gate ``gate(a, b) = a * b`` of the two halves of the channels, and the
    simplified channel attention ``attention(x) = x * conv1x1(mean of x over the image)``.

    Args:
        dim: number of channels C.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = LayerNorm(dim)
        self.widen = nn.Conv2d(dim, 2 * dim, 1)
        self.depthwise = nn.Conv2d(2 * dim, 2 * dim, 3, padding=1, groups=2 * dim)
        self.attention = nn.Conv2d(dim, dim, 1)
        self.mix = nn.Conv2d(dim, dim, 1)
        self.norm2 = LayerNorm(dim)
        self.hidden = nn.Conv2d(dim, 2 * dim, 1)
        self.out = nn.Conv2d(dim, dim, 1)
        self.beta = nn.Parameter(torch.zeros(dim, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(dim, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return a feature map of the same shape."""
        y = simple_gate(self.depthwise(self.widen(_over_channels(self.norm1, x))))
        y = y * self.attention(y.mean((2, 3), keepdim=True))
        x = x + self.beta * self.mix(y)
        y = simple_gate(self.hidden(_over_channels(self.norm2, x)))
        return x + self.gamma * self.out(y)


def simple_gate(x: Tensor) -> Tensor:
    """Return the product of the two halves of the channels of x (B, 2 C, H, W)."""
    a, b = x.chunk(2, dim=1)
    return a * b


def _over_channels(norm: LayerNorm, x: Tensor) -> Tensor:
    return norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class NAFStage(Stage):
    """The blocks of one scale, with :class:`NAFBlock` for its convolution blocks."""

    block = NAFBlock


class NAFUNet(VHeatIRUNet):
    """:class:`vheatir.archs.VHeatIRUNet` with :class:`NAFBlock` for its convolution blocks.

    Arguments, shapes and errors as there.
    """

    SIZES = {}
    stage = NAFStage


ARCHS["NAFUNet"] = NAFUNet
