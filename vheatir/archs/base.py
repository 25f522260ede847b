"""What both networks share: the way from an image to features, and from features to an image."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs.blocks import init_linears
from vheatir.errors import VHeatIRError
from vheatir.ops.dispatch import accelerated


class ImageNetwork(nn.Module):
    """Base class of networks with a global residual connection.

    ``conv3x3 -> features -> conv3x3; out = in + residual``, between a pixel-unshuffle and a
    pixel-shuffle. A subclass builds its parts between ``super().__init__`` and
    :meth:`add_last_conv`, and defines :meth:`features`.

    Args:
        in_chans: channels of the input image.
        out_chans: channels of the output image; ``in_chans`` when None.
        dim: channels of the features.
        downscale: factor of the pixel-unshuffle and the pixel-shuffle; 1 for none.
        level_scale: None for a model without a level input; otherwise the level is divided by this
            and appended as an extra channel.

    Raises:
        VHeatIRError: invalid arguments.
    """

    def __init__(
        self,
        in_chans: int,
        out_chans: int | None,
        dim: int,
        downscale: int,
        level_scale: float | None,
    ) -> None:
        super().__init__()
        check_positive(in_chans=in_chans, downscale=downscale, level_scale=level_scale)
        self.in_chans = in_chans
        self.out_chans = in_chans if out_chans is None else out_chans
        if self.out_chans not in (1, in_chans):
            raise VHeatIRError(
                f"out_chans {out_chans} does not fit in_chans {in_chans}: use the same number, or 1"
            )
        self.level_scale = level_scale
        self.takes_level = level_scale is not None
        self.downscale = downscale
        #: Images are padded until their sides are multiples of this.
        self.multiple = downscale
        planes = (in_chans + self.takes_level) * downscale**2
        self.conv_first = nn.Conv2d(planes, dim, 3, padding=1)

    def add_last_conv(self, dim: int) -> None:
        """Add the convolution of features (B, dim, H, W), and initialise all weights.

        The last convolution is zero, so that the network starts as the identity.
        """
        self.conv_last = nn.Conv2d(dim, self.out_chans * self.downscale**2, 3, padding=1)
        init_linears(self)
        for parameter in self.conv_last.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, level: float | Tensor | None = None) -> Tensor:
        """Restore an image.

        Args:
            x: (B, in_chans, H, W) in [0, 1].
            level: see :func:`level_plane`.

        Returns:
            (B, out_chans, H, W), not clipped.

        Raises:
            VHeatIRError: the input or the level does not fit the model.
        """
        fits = x.ndim == 4 and x.shape[1] == self.in_chans and 0 not in x.shape
        if not (fits and x.is_floating_point()):
            raise VHeatIRError(
                f"input of shape {tuple(x.shape)} and {x.dtype} does not fit this model: it "
                f"expects floating point, (batch >= 1, {self.in_chans}, height >= 1, width >= 1)"
            )
        own = x if x.shape[1] == self.out_chans else x.mean(dim=1, keepdim=True)
        return own + self.residual(x, level)

    def residual(self, x: Tensor, level: float | Tensor | None) -> Tensor:
        """Return what the network adds to an image; arguments as :meth:`forward`."""
        height, width = x.shape[2:]
        planes = level_plane(x, level, self.level_scale)
        strength = planes[:, -1].mean((1, 2)) if self.takes_level else None
        planes = F.pixel_unshuffle(pad_to_multiple(planes, self.multiple), self.downscale)
        planes = planes.contiguous(memory_format=torch.channels_last)
        residual = F.pixel_shuffle(self.conv_last(self.features(planes, strength)), self.downscale)
        return residual[..., :height, :width]

    def features(self, planes: Tensor, strength: Tensor | None) -> Tensor:
        """Map pixel-unshuffled planes to features, both (B, C, H, W).

        Args:
            planes: the image, and the level plane if the model takes a level.
            strength: mean of each level plane, (B,); None if the model takes no level.
        """
        raise NotImplementedError


def check_positive(**values: float | None) -> None:
    """Raise VHeatIRError unless every argument is a number above 0 or None."""
    for name, value in values.items():
        if value is not None and not (isinstance(value, (int, float)) and value > 0):
            raise VHeatIRError(f"{name} {value!r} is invalid: use a number above 0")


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
