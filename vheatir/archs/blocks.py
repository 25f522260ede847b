"""The blocks that the flat and the U-shaped network share."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from vheatir.archs.mixers import build_mixer
from vheatir.archs.mixers.hco import SpreadHeatConductionMixer
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.ops import HeatConduction2d
from vheatir.ops.fused import add_and_normalise_, normalise
from vheatir.ops.strips import add_convolution, can_stream

Norm = Literal["pre", "post"]
NORMS = ("pre", "post")


class Mlp(nn.Sequential):
    """``Linear -> GELU -> Linear`` on the last dimension."""

    def __init__(self, dim: int, ratio: float) -> None:
        hidden = int(dim * ratio)
        super().__init__(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., dim) of the same shape."""
        if torch.is_grad_enabled():
            return super().forward(x)
        y = torch.ops.aten.gelu_(self[0](x))  # in place: it is the widest map of a block
        return self[2](y)


class HeatBlock(nn.Module):
    """A transformer block whose attention is a mixer, on channels-last tokens (B, H, W, C).

    ``pre``: ``x + mixer(LN(x)); x + MLP(LN(x))``, as SwinIR.
    ``post``: ``x + LN(mixer(x)); x + LN(MLP(x))``, as vHeat.

    Args:
        dim: channels.
        mixer: key of :data:`vheatir.archs.mixers.MIXERS`.
        mlp_ratio: hidden channels of the MLP over ``dim``.
        norm: ``"pre"`` or ``"post"``.
        index: position in its group.
    """

    def __init__(self, dim: int, mixer: str, mlp_ratio: float, norm: Norm, index: int) -> None:
        super().__init__()
        if norm not in NORMS:
            raise unknown_name("norm", norm, NORMS)
        self.pre_norm = norm == "pre"
        self.norm1 = nn.LayerNorm(dim)
        self.mixer = build_mixer(mixer, dim, index=index)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, mlp_ratio)

    def forward(
        self, x: Tensor, frequency_embedding: Tensor | None, *, overwrite: bool = False
    ) -> Tensor:
        """Return tokens of the same shape; with ``overwrite``, x may hold them afterwards."""
        if isinstance(self.mixer, HeatConduction2d) and can_stream(self, x):
            assert frequency_embedding is not None
            x = x if overwrite else x.clone()
            before = partial(normalise, self.norm1) if self.pre_norm else None
            self.mixer.stream(x, frequency_embedding, before, self._finish)
            return x
        if self.pre_norm:
            mixed = self.mixer(normalise(self.norm1, x), frequency_embedding)
            x = x + mixed
            return x + self.mlp(normalise(self.norm2, x))
        x = x + normalise(self.norm1, self.mixer(x, frequency_embedding))
        return x + normalise(self.norm2, self.mlp(x))

    def _finish(self, x: Tensor, mixed: Tensor) -> None:
        """Add the mixer's output and the MLP's to a strip of x, in place."""
        if self.pre_norm:
            x += self.mlp(add_and_normalise_(self.norm2, x, mixed))
        else:
            x += normalise(self.norm1, mixed)
            x += normalise(self.norm2, self.mlp(x))


class HeatGroup(nn.Module):
    """n blocks, a 3x3 convolution and a residual: SwinIR's RSTB with heat for attention.

    Holds the frequency value embedding (FVE) that its blocks share.
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

    def forward(self, x: Tensor, *, overwrite: bool = False) -> Tensor:
        """Return tokens (B, H, W, C) of the same shape; with ``overwrite``, x may hold them."""
        y = x
        for block in self.blocks:
            y = block(y, self.fve, overwrite=y is not x)
        if can_stream(self, x) and y is not x:
            x = x if overwrite else x.clone()
            add_convolution(self.conv, None, y, x)
            return x
        y = self.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return x + y if torch.is_grad_enabled() else y.add_(x)


class ResidualConvBlock(nn.Module):
    """``x + conv3x3(relu(conv3x3(x)))`` without normalisation, as DRUNet; (B, C, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(dim, dim, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Return an image of the same shape."""
        return x + self.conv2(self.relu(self.conv1(x)))

    def start_as_identity(self) -> None:
        """Set the last convolution to zero: the block returns its input, and learns from there."""
        for parameter in self.conv2.parameters():
            nn.init.zeros_(parameter)


class HeatResidual(nn.Module):
    """``x + mixer(LN(x))`` on part of the channels, for use between convolutions; (B, C, H, W).

    The mixer reads all channels, conducts heat on ``inner_dim`` of them, and its output projection
    starts at zero, so that a new block changes nothing.
    """

    def __init__(self, dim: int, mixer: str, inner_dim: int, index: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.mixer = build_mixer(mixer, dim, inner_dim, index)

    def forward(
        self, x: Tensor, frequency_embedding: Tensor | None, level: Tensor | None = None
    ) -> Tensor:
        """Return an image of the same shape; ``level`` (B,) is for mixers that want it."""
        tokens = x.permute(0, 2, 3, 1)
        told = {"level": level} if getattr(self.mixer, "needs_level", False) else {}
        mixed = self.mixer(normalise(self.norm, tokens), frequency_embedding, **told)
        return x + mixed.permute(0, 3, 1, 2)


class SplitBlock(nn.Module):
    """Convolutions and a mixer side by side on half of the channels each, as SCUNet; (B, C, H, W).

    ``x + conv1x1([conv block | heat residual](conv1x1(x)))`` (Zhang et al., "Practical Blind Image
    Denoising via Swin-Conv-UNet", 2023, has window attention in heat's place.)
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
        """Return an image of the same shape."""
        near, far = self.fan_out(x).split(self.split, dim=1)
        both = torch.cat([self.conv(near), self.heat(far, frequency_embedding, level)], dim=1)
        return x + self.fan_in(both)


def frequency_embedding_for(module: nn.Module, dim: int, size: int) -> nn.Parameter | None:
    """Return a frequency value embedding (size, size, dim) if any mixer inside wants one."""
    if any(getattr(part, "needs_frequency_embedding", False) for part in module.modules()):
        return nn.Parameter(torch.empty(size, size, dim))
    return None


def init_linears(module: nn.Module) -> None:
    """Initialise as SwinIR: Linear and FVE truncated normal 0.02, biases 0; then mixers' own."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=0.02)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    for name, parameter in module.named_parameters():
        if name.rpartition(".")[2] == "fve":
            nn.init.trunc_normal_(parameter, std=0.02)
    for part in module.modules():
        if isinstance(part, SpreadHeatConductionMixer):
            part.reset_diffusivity()


def level_plane(x: Tensor, level: float | Tensor | None, scale: float | None) -> Tensor:
    """Append the level as one more channel, if the model takes one.

    Args:
        x: image (B, C, H, W).
        level: a number, (B,) or (B, 1, H, W) tensor in the task's unit; None where the model
            takes none.
        scale: what the level is divided by; None for a model that takes none.

    Returns:
        (B, C + 1, H, W), or ``x`` itself.

    Raises:
        VHeatIRError: a level is missing, superfluous or of the wrong shape.
    """
    if scale is None:
        if level is not None:
            raise VHeatIRError("this model takes no level: leave it out, or load an all-levels one")
        return x
    if level is None:
        raise VHeatIRError("this model needs the level: give a number (sigma on the scale 0..255)")
    plane = torch.as_tensor(level, dtype=x.dtype, device=x.device) / scale
    batch, _, height, width = x.shape
    if plane.ndim <= 1 and plane.numel() in (1, batch):
        plane = plane.reshape(-1, 1, 1, 1)
    elif tuple(plane.shape) not in ((1, 1, height, width), (batch, 1, height, width)):
        raise VHeatIRError(
            f"level of shape {tuple(plane.shape)} does not fit an image of shape {tuple(x.shape)}: "
            "give a number, (B,) or (B, 1, H, W)"
        )
    return torch.cat([x, plane.expand(batch, 1, height, width)], dim=1)
