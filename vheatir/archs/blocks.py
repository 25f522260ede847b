"""Building blocks shared by the flat and the U-shaped network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vheatir.archs.mixers import build_mixer
from vheatir.archs.mixers.hco import HeatConductionMixer
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.ops.dispatch import accelerated
from vheatir.ops.layer_norm import LayerNorm

Norm = Literal["pre", "post"]
NORMS = ("pre", "post")


class Mlp(nn.Sequential):
    """``Linear -> GELU -> Linear`` over the last dimension."""

    def __init__(self, dim: int, ratio: float) -> None:
        hidden = int(dim * ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    @accelerated
    def forward(self, x: Tensor) -> Tensor:
        """Map (..., dim) to the same shape."""
        return super().forward(x)


class HeatBlock(nn.Module):
    """Transformer block with a token mixer in place of attention; channels-last, (B, H, W, C).

    ``pre``: ``x + mixer(LN(x)); x + MLP(LN(x))``, as in SwinIR.
    ``post``: ``x + LN(mixer(x)); x + LN(MLP(x))``, as in vHeat.

    Args:
        dim: number of channels.
        mixer: key of :data:`vheatir.archs.mixers.MIXERS`.
        mlp_ratio: ratio of hidden channels of the MLP to ``dim``.
        norm: ``"pre"`` or ``"post"``.
        index: position of the block in its group.
    """

    def __init__(self, dim: int, mixer: str, mlp_ratio: float, norm: Norm, index: int) -> None:
        super().__init__()
        if norm not in NORMS:
            raise unknown_name("norm", norm, NORMS)
        self.pre_norm = norm == "pre"
        self.norm1 = LayerNorm(dim)
        self.mixer = build_mixer(mixer, dim, index=index)
        self.norm2 = LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio)

    @accelerated
    def forward(
        self, x: Tensor, frequency_embedding: Tensor | None, *, overwrite: bool = False
    ) -> Tensor:
        """Return tokens of the same shape; with ``overwrite``, x may be modified at inference."""
        if self.pre_norm:
            x = x + self.mixer(self.norm1(x), frequency_embedding)
            return x + self.mlp(self.norm2(x))
        x = x + self.norm1(self.mixer(x, frequency_embedding))
        return x + self.norm2(self.mlp(x))


class HeatGroup(nn.Module):
    """``depth`` blocks, a 3x3 convolution and a residual: SwinIR's RSTB with heat blocks.

    Owns the frequency value embedding (FVE) that its blocks share.
    """

    def __init__(
        self, dim: int, depth: int, mixer: str, mlp_ratio: float, norm: Norm, fve_size: int
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            HeatBlock(dim, mixer, mlp_ratio, norm, index) for index in range(depth)
        )
        self.conv = nn.Conv2d(dim, dim, 3, padding=1)
        self.fve = frequency_embedding_for(self.blocks, dim, fve_size)

    @accelerated
    def forward(self, x: Tensor, *, overwrite: bool = False) -> Tensor:
        """Map tokens (B, H, W, C) to the same shape; ``overwrite`` as in :class:`HeatBlock`."""
        y = x
        for block in self.blocks:
            y = block(y, self.fve)
        return x + self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


class ResidualConvBlock(nn.Module):
    """``x + conv3x3(relu(conv3x3(x)))`` without normalisation, as in DRUNet; (B, C, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return a feature map of the same shape."""
        return x + self.conv2(self.relu(self.conv1(x)))

    def start_as_identity(self) -> None:
        """Zero-initialise the last convolution, so that the block starts as the identity."""
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)


class HeatResidual(nn.Module):
    """Residual heat block between convolutions, ``x + mixer(LN(x))``; (B, C, H, W).

    The mixer projects all channels to ``inner_dim`` and conducts heat on those. The networks
    zero-initialise its output projection, so that a new block starts as the identity.
    """

    def __init__(self, dim: int, mixer: str, inner_dim: int, index: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim)
        self.mixer = build_mixer(mixer, dim, inner_dim, index)

    def forward(
        self, x: Tensor, frequency_embedding: Tensor | None, level: Tensor | None = None
    ) -> Tensor:
        """Return a feature map of the same shape; ``level`` (B,) is passed on if needed."""
        tokens = x.permute(0, 2, 3, 1)
        extra = {"level": level} if getattr(self.mixer, "needs_level", False) else {}
        mixed = self.mixer(self.norm(tokens), frequency_embedding, **extra)
        return x + mixed.permute(0, 3, 1, 2)


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


def frequency_embedding_for(module: nn.Module, dim: int, size: int) -> nn.Parameter | None:
    """Return a frequency value embedding (size, size, dim) if any mixer of ``module`` needs one."""
    if any(getattr(part, "needs_frequency_embedding", False) for part in module.modules()):
        return nn.Parameter(torch.empty(size, size, dim))
    return None


def init_linears(module: nn.Module) -> None:
    """Initialise as SwinIR does; then apply the mixers' own initialisation.

    Linear weights and FVEs: truncated normal with standard deviation 0.02; biases: zero.
    """
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] == "fve":
            nn.init.trunc_normal_(parameter, std=0.02)
    for part in module.modules():
        if isinstance(part, HeatConductionMixer):
            part.reset_diffusivity()


def level_plane(x: Tensor, level: float | Tensor | None, scale: float | None) -> Tensor:
    """Append the level as an extra channel, if the model takes a level.

    Args:
        x: image (B, C, H, W).
        level: a number, or a tensor (B,) or (B, 1, H, W), in the unit of the task; None if the
            model takes no level.
        scale: divisor of the level; None if the model takes no level.

    Returns:
        (B, C + 1, H, W), or ``x`` itself.

    Raises:
        VHeatIRError: the level is missing, unexpected or of the wrong shape.
    """
    if scale is None:
        if level is not None:
            raise VHeatIRError(
                "this model takes no level: omit it, or load a model trained for all levels"
            )
        return x
    if level is None:
        raise VHeatIRError("this model needs the level: give a number (sigma on the scale 0..255)")
    plane = torch.as_tensor(level, dtype=x.dtype, device=x.device) / scale
    batch, _, height, width = x.shape
    if plane.ndim <= 1 and plane.numel() in (1, batch):
        plane = plane.reshape(-1, 1, 1, 1)
    elif tuple(plane.shape) not in ((batch, 1, height, width), (1, 1, height, width)):
        raise VHeatIRError(
            f"level of shape {tuple(plane.shape)} does not fit an image of shape {tuple(x.shape)}: "
            "give a number, (B,) or (B, 1, H, W)"
        )
    return torch.cat([x, plane.expand(batch, 1, height, width)], dim=1)
