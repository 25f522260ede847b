"""VHeatIR: SwinIR with the Heat Conduction Operator (HCO) in place of window attention.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021 (arXiv 2108.10257);
Wang et al., "Building Vision Models upon Heat Conduction", CVPR 2025 (arXiv 2405.16555).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from vheatir.archs.base import ImageNetwork, check_positive
from vheatir.archs.blocks import HeatGroup, Norm
from vheatir.ops.dispatch import accelerated
from vheatir.ops.layer_norm import LayerNorm

# Mean of the DIV2K training set, as subtracted by SwinIR and EDSR.
_RGB_MEAN = (0.4488, 0.4371, 0.4040)


class VHeatIR(ImageNetwork):
    """Flat (single-scale) network with a global residual connection.

    ``conv3x3 -> LN -> heat groups -> LN -> conv3x3, + features -> conv3x3; out = in + residual``

    Named sizes: ``base`` (SwinIR's denoiser), ``light`` (SwinIR-light) and ``mini`` (for CPUs).
    ``build_network({"type": "VHeatIR", "size": "light"})`` and
    ``VHeatIR(**VHeatIR.SIZES["light"])`` build the same network.

    Args:
        in_chans: channels of the input image.
        out_chans: channels of the output image; ``in_chans`` when None.
        embed_dim: channels of the body.
        depths: number of blocks of each group.
        mlp_ratio: ratio of hidden channels of the MLPs to ``embed_dim``.
        fve_size: side of the frequency value embedding's grid over [0, pi)^2.
        downscale: 1, or 2 (4, …) for a pixel-unshuffle before and a pixel-shuffle after the body.
        img_range: the body works on ``(x - mean) * img_range``.
        mixer: key of :data:`vheatir.archs.mixers.MIXERS`; ``"hco"`` is vHeat's.
        norm: ``"pre"`` (SwinIR) or ``"post"`` (vHeat).
        level_scale: None for a model without a level input; otherwise the level is divided by this
            and appended as an extra channel (255 for sigma).

    Shape: (B, in_chans, H, W) floating point in [0, 1], any H, W >= 1, to (B, out_chans, H, W).

    Raises:
        VHeatIRError: invalid arguments, or input of the wrong shape.

    Example:
        >>> network = VHeatIR(embed_dim=16, depths=[1, 1])
        >>> network(torch.rand(1, 3, 37, 50)).shape  # any size
        torch.Size([1, 3, 37, 50])
    """

    #: Keyword arguments of each named size; they may be combined with any others.
    SIZES: ClassVar[dict[str, dict[str, Any]]] = {
        "base": {"embed_dim": 180, "depths": [6] * 6, "mlp_ratio": 2.0},
        "light": {"embed_dim": 60, "depths": [6] * 4, "mlp_ratio": 2.0},
        "mini": {"embed_dim": 64, "depths": [3] * 4, "mlp_ratio": 2.0, "downscale": 2},
    }

    mean: Tensor

    def __init__(
        self,
        in_chans: int = 3,
        out_chans: int | None = None,
        embed_dim: int = 180,
        depths: Sequence[int] = (6, 6, 6, 6, 6, 6),
        mlp_ratio: float = 2.0,
        fve_size: int = 16,
        downscale: int = 1,
        img_range: float = 1.0,
        mixer: str = "hco",
        norm: Norm = "pre",
        level_scale: float | None = None,
    ) -> None:
        check_positive(embed_dim=embed_dim, fve_size=fve_size, img_range=img_range)
        super().__init__(in_chans, out_chans, embed_dim, downscale, level_scale)
        self.img_range = img_range
        gray = sum(_RGB_MEAN) / 3
        mean = torch.tensor(_RGB_MEAN) if in_chans == 3 else torch.full((in_chans,), gray)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)
        self.norm_first = LayerNorm(embed_dim)
        self.groups = nn.ModuleList(
            HeatGroup(embed_dim, depth, mixer, mlp_ratio, norm, fve_size) for depth in depths
        )
        self.norm_last = LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.add_last_conv(embed_dim)

    def residual(self, x: Tensor, level: float | Tensor | None) -> Tensor:
        """Return what the network adds to an image, computed on ``(x - mean) * img_range``."""
        x = (x - self.mean.to(x.dtype)) * self.img_range
        return super().residual(x, level) / self.img_range

    @accelerated
    def features(self, planes: Tensor, strength: Tensor | None) -> Tensor:
        """Groups and a residual; see :meth:`ImageNetwork.features`."""
        features = self.conv_first(planes)
        y = self.tokens(features)
        for group in self.groups:
            y = group(y)
        return self.conv_after_body(self.norm_last(y).permute(0, 3, 1, 2)) + features

    def tokens(self, features: Tensor) -> Tensor:
        """Return the normalised features (B, C, H, W) as tokens (B, H, W, C)."""
        # The residual stream of the blocks stays in float32 under autocast.
        with torch.autocast(features.device.type, enabled=False):
            return self.norm_first(features.permute(0, 2, 3, 1).to(self.norm_first.weight.dtype))
