"""``mixer: dwconv7``: a depthwise 7x7 convolution, as a control."""

from __future__ import annotations

from torch import Tensor, nn

from vheatir.archs.mixers.gated import GatedMixer


class DepthwiseConv7Mixer(GatedMixer):
    """The gated module around a depthwise 7x7 convolution."""

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__(dim, inner_dim, index)
        inner = self.inner_dim
        self.conv7 = nn.Conv2d(inner, inner, 7, padding=3, groups=inner)

    def mix(self, u: Tensor) -> Tensor:
        """Convolve u (B, H, W, C)."""
        return self.conv7(u.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
