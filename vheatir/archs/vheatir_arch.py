"""VHeatIR: SwinIR with the Heat Conduction Operator (HCO) in place of window attention.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021 (arXiv 2108.10257);
Wang et al., "Building Vision Models upon Heat Conduction", CVPR 2025 (arXiv 2405.16555).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs.blocks import HeatGroup, Norm, init_linears, level_plane
from vheatir.errors import VHeatIRError
from vheatir.ops.dispatch import accelerated
from vheatir.ops.layer_norm import LayerNorm

# Mean of the DIV2K training set, as subtracted by SwinIR and EDSR.
_RGB_MEAN = (0.4488, 0.4371, 0.4040)


class VHeatIR(nn.Module):
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
        super().__init__()
        check_positive(in_chans=in_chans, embed_dim=embed_dim, fve_size=fve_size)
        check_positive(downscale=downscale, img_range=img_range, level_scale=level_scale)
        self.in_chans = in_chans
        self.out_chans = in_chans if out_chans is None else out_chans
        check_channels(self.in_chans, self.out_chans)
        self.level_scale = level_scale
        self.takes_level = level_scale is not None
        self.downscale = downscale
        self.img_range = img_range
        gray = sum(_RGB_MEAN) / 3
        mean = torch.tensor(_RGB_MEAN) if in_chans == 3 else torch.full((in_chans,), gray)
        self.register_buffer("mean", mean.view(1, -1, 1, 1), persistent=False)

        area = downscale * downscale
        planes = (in_chans + self.takes_level) * area
        self.conv_first = nn.Conv2d(planes, embed_dim, 3, padding=1)
        self.norm_first = LayerNorm(embed_dim)
        self.groups = nn.ModuleList(
            HeatGroup(embed_dim, depth, mixer, mlp_ratio, norm, fve_size) for depth in depths
        )
        self.norm_last = LayerNorm(embed_dim)
        self.conv_after_body = nn.Conv2d(embed_dim, embed_dim, 3, padding=1)
        self.conv_last = nn.Conv2d(embed_dim, self.out_chans * area, 3, padding=1)
        init_linears(self)
        init_last_conv(self.conv_last)

    def forward(self, x: Tensor, level: float | Tensor | None = None) -> Tensor:
        """Restore an image.

        Args:
            x: (B, in_chans, H, W) in [0, 1].
            level: see :func:`vheatir.archs.blocks.level_plane`.

        Returns:
            (B, out_chans, H, W), not clipped.

        Raises:
            VHeatIRError: the input or the level does not fit the model.
        """
        check_input(x, self.in_chans)
        height, width = x.shape[2:]
        planes = level_plane((x - self.mean.to(x.dtype)) * self.img_range, level, self.level_scale)
        planes = pad_to_multiple(planes, self.downscale)
        planes = F.pixel_unshuffle(planes, self.downscale)
        planes = planes.contiguous(memory_format=torch.channels_last)
        residual = F.pixel_shuffle(self.conv_last(self.body(planes)), self.downscale)
        residual = residual[..., :height, :width]
        return own_channels(x, self.out_chans) + residual / self.img_range

    @accelerated
    def body(self, planes: Tensor) -> Tensor:
        """Map pixel-unshuffled planes to features, both (B, C, H, W): groups and a residual."""
        features = self.conv_first(planes)
        y = self.tokens(features)
        for group in self.groups:
            y = group(y)
        return self.conv_after_body(self.norm_last(y).permute(0, 3, 1, 2)) + features

    def tokens(self, features: Tensor) -> Tensor:
        """Return the normalised features (B, C, H, W) as tokens (B, H, W, C)."""
        # The residual stream of the blocks stays in float32 under autocast.
        with torch.autocast(features.device.type, enabled=False):
            y = features.permute(0, 2, 3, 1).to(self.norm_first.weight.dtype)
            return self.norm_first(y)


def check_positive(**values: float | None) -> None:
    """Raise VHeatIRError unless every argument is a number above 0 or None."""
    for name, value in values.items():
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            raise VHeatIRError(f"{name} {value!r} is invalid: use a number above 0")


def check_channels(in_chans: int, out_chans: int) -> None:
    """Raise VHeatIRError unless a residual of ``out_chans`` can be added to the input."""
    if out_chans not in (1, in_chans):
        raise VHeatIRError(
            f"out_chans {out_chans} does not fit in_chans {in_chans}: use the same number, or 1"
        )


def check_input(x: Tensor, channels: int) -> None:
    """Raise VHeatIRError unless x is floating point, (B, channels, H, W) with H, W >= 1."""
    if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:] or not x.is_floating_point():
        raise VHeatIRError(
            f"input of shape {tuple(x.shape)} and {x.dtype} does not fit this model: it expects "
            f"floating point, (batch, {channels}, height >= 1, width >= 1)"
        )


@accelerated
def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Pad (B, C, H, W) at the bottom and right to a multiple of ``multiple``, by reflection.

    Replicate padding would turn noise at the border into stripes, which a network keeps as texture:
    that cost up to 7 dB in the last columns. It is used only for images too small to reflect.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def own_channels(x: Tensor, out_chans: int) -> Tensor:
    """Return the image to add the residual to: x, or its channel mean for one output channel."""
    return x if x.shape[1] == out_chans else x.mean(dim=1, keepdim=True)


def init_last_conv(conv: nn.Conv2d) -> None:
    """Zero-initialise the last convolution, so that the network starts as the identity."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
