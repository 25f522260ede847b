"""VHeatIR: SwinIR's body with the Heat Conduction Operator in the place of window attention.

Liang et al., "SwinIR: Image Restoration Using Swin Transformer", ICCVW 2021 (arXiv 2108.10257);
Wang et al., "Building Vision Models upon Heat Conduction", CVPR 2025 (arXiv 2405.16555).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs.blocks import HeatGroup, Norm, init_linears, level_plane
from vheatir.errors import VHeatIRError
from vheatir.ops.fused import normalise
from vheatir.ops.strips import add_convolution, can_stream

# Mean of the DIV2K training set, as SwinIR and EDSR subtract it.
_RGB_MEAN = (0.4488, 0.4371, 0.4040)


class VHeatIR(nn.Module):
    """3x3 conv -> heat groups -> LN -> 3x3 conv + residual -> 3x3 conv; out = in + residual.

    Three sizes have names: ``base`` (SwinIR's denoiser), ``light`` (SwinIR-light) and ``mini`` (for
    CPUs). ``build_network({"type": "VHeatIR", "size": "light"})`` and
    ``VHeatIR(**VHeatIR.SIZES["light"])`` build the same network.

    Args:
        in_chans: channels of the image.
        out_chans: channels of the result; ``in_chans`` when None.
        embed_dim: channels of the body.
        depths: blocks in each group.
        mlp_ratio: hidden channels of the MLPs over ``embed_dim``.
        fve_size: side of the grid that holds the frequency value embedding on [0, pi)^2.
        downscale: 1, or 2 (4, …) for a pixel-unshuffle before and a pixel-shuffle after the body.
        img_range: the body works on ``(x - mean) * img_range``.
        mixer: key of :data:`vheatir.archs.mixers.MIXERS`; ``"hco"`` is the paper's.
        norm: ``"pre"`` (SwinIR) or ``"post"`` (vHeat).
        level_scale: None for a model of one level; otherwise what the level is divided by before
            it enters as one more channel (255 for sigma).

    Shape: (B, in_chans, H, W) floating point in [0, 1], any H, W >= 1, to (B, out_chans, H, W).

    Raises:
        VHeatIRError: impossible arguments, or input of the wrong shape.
    """

    #: The sizes by name: keyword arguments, beside which any others may be given.
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
        self.norm_first = nn.LayerNorm(embed_dim)
        self.groups = nn.ModuleList(
            HeatGroup(embed_dim, depth, mixer, mlp_ratio, norm, fve_size) for depth in depths
        )
        self.norm_last = nn.LayerNorm(embed_dim)
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
        """
        check_input(x, self.in_chans)
        height, width = x.shape[2:]
        planes = level_plane((x - self.mean.to(x.dtype)) * self.img_range, level, self.level_scale)
        planes = pad_to_multiple(planes, self.downscale)
        planes = F.pixel_unshuffle(planes, self.downscale)
        planes = planes.contiguous(memory_format=torch.channels_last)
        residual = F.pixel_shuffle(self.conv_last(self._body(planes)), self.downscale)
        residual = residual[..., :height, :width]
        return own_channels(x, self.out_chans) + residual / self.img_range

    def _body(self, planes: Tensor) -> Tensor:
        features = self.conv_first(planes)
        with torch.autocast(features.device.type, enabled=False):  # blocks add to it, in float32
            y = features.permute(0, 2, 3, 1).to(self.norm_first.weight.dtype)
            y = normalise(self.norm_first, y)
        if can_stream(self, y):
            del features  # a whole map, and quickly made again
            for group in self.groups:
                y = group(y, overwrite=True)
            features = self.conv_first(planes)
            before = partial(normalise, self.norm_last)
            add_convolution(self.conv_after_body, before, y, features.permute(0, 2, 3, 1))
            return features
        for group in self.groups:
            y = group(y)
        return self.conv_after_body(normalise(self.norm_last, y).permute(0, 3, 1, 2)) + features


def check_positive(**values: float | None) -> None:
    """Refuse arguments that are not numbers above 0; None is left alone."""
    for name, value in values.items():
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            raise VHeatIRError(f"{name} {value!r} is impossible: give a number above 0")


def check_channels(in_chans: int, out_chans: int) -> None:
    """Refuse channel counts between which no residual can be added."""
    if out_chans not in (1, in_chans):
        raise VHeatIRError(
            f"out_chans {out_chans} does not fit in_chans {in_chans}: give the same number, or 1"
        )


def check_input(x: Tensor, channels: int) -> None:
    """Raise VHeatIRError unless x is floating point, (B, channels, H, W) with H, W >= 1."""
    if x.ndim != 4 or x.shape[1] != channels or 0 in x.shape[2:] or not x.is_floating_point():
        raise VHeatIRError(
            f"input of shape {tuple(x.shape)} and {x.dtype} does not fit this model: floating "
            f"point, (batch, {channels}, height >= 1, width >= 1) is needed"
        )


def pad_to_multiple(x: Tensor, multiple: int) -> Tensor:
    """Reflect (B, C, H, W) at its bottom and right up to a multiple of ``multiple``.

    A border that is repeated instead turns its noise into stripes, which a network takes for
    texture and keeps: that cost up to 7 dB in the last columns. Images too small to be reflected
    are repeated all the same.
    """
    height, width = x.shape[-2:]
    bottom, right = -height % multiple, -width % multiple
    if not (bottom or right):
        return x
    mode = "reflect" if bottom < height and right < width else "replicate"
    return F.pad(x, (0, right, 0, bottom), mode=mode)


def own_channels(x: Tensor, out_chans: int) -> Tensor:
    """Return what the residual is added to: x, or its mean over channels for one output channel."""
    return x if x.shape[1] == out_chans else x.mean(dim=1, keepdim=True)


def init_last_conv(conv: nn.Conv2d) -> None:
    """Start at the identity: the residual is zero until training says otherwise."""
    nn.init.zeros_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
