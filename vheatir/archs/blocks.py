"""Building blocks shared by the flat and the U-shaped network."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from vheatir.archs.mixers import build_mixer
from vheatir.archs.mixers.hco import HeatConductionMixer
from vheatir.errors import unknown_name
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

    The mixer projects all channels to ``inner_dim`` and conducts heat on those.
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
        return x + self.mixer(self.norm(tokens), frequency_embedding, **extra).permute(0, 3, 1, 2)


def frequency_embedding_for(module: nn.Module, dim: int, size: int) -> nn.Parameter | None:
    """Return a frequency value embedding (size, size, dim) if any mixer of ``module`` needs one."""
    if any(getattr(part, "needs_frequency_embedding", False) for part in module.modules()):
        return nn.Parameter(torch.empty(size, size, dim))
    return None


def init_linears(module: nn.Module) -> None:
    """Initialise as SwinIR does; then as the mixers and the heat blocks ask for.

    Linear weights and FVEs: truncated normal with standard deviation 0.02; biases: zero. The output
    projection of a :class:`HeatResidual` is zero, so that it starts as the identity.
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
        if isinstance(part, HeatResidual):
            nn.init.zeros_(part.mixer.get_parameter("out_proj.weight"))
