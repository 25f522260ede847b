"""Mix the results of the model for JPEG and of that for photographs.

Under JPEG compression an image alone does not tell noise from texture. Two results of it do: the
JPEG model leaves noise and texture, and ``photo`` removes the noise, and texture with it. Where the
image is smooth, the results differ by the noise.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from vheatir.archs import window_of
from vheatir.colors import BT601_YCC

_GRADIENT_BLUR = 2.0  # standard deviation of the blur before the gradient, in pixels
# Noise depends on brightness: it is measured in shadows, mid-tones and highlights.
_TONES = 3
_SMOOTH_FRACTION = 0.1  # fraction of the pixels of each, those with the smallest gradient
# Details are what these blurs remove, of which the finest are the smaller one's.
_DETAIL_BLUR, _FINEST_BLUR = 1.5, 0.5
# Fitted to samples of studies/automatic/noise_under_jpeg.py and rows of studies/automatic/table.py,
# see docs/studies_photographs.md.
_OF_COMPRESSION, _ANYWAY, _EXPONENT = 12, 0.45, 1.5
_IN_ANY_IMAGE = 0.5
#: From this evidence on, an image counts as compressed; see docs/studies_photographs.md.
COMPRESSED = 0.4
#: A smaller weight is not worth the time of a second model.
ONE_MODEL = 0.15


class MixedNetwork(nn.Module):
    """The weighted mean of the results of two blind networks.

    Args:
        first: a network without a level, called as ``first(x)``.
        second: another one. If one is for gray and one for colour, images are gray, and the latter
            gets equal channels, of which the mean is taken.
        share: weight of the first result, 0 to 1.

    Attributes:
        window_size: images need sides that are multiples of it, as the two networks do.
    """

    def __init__(self, first: nn.Module, second: nn.Module, share: float) -> None:
        super().__init__()
        self.first = first
        self.second = second
        self.share = share
        self.window_size = math.lcm(window_of(first), window_of(second))

    def forward(self, x: Tensor) -> Tensor:
        """Restore images (B, C, H, W) in [0, 1]; the result has the same shape."""
        return torch.lerp(_restored(self.second, x), _restored(self.first, x), self.share)


def _restored(network: nn.Module, x: Tensor) -> Tensor:
    """Return the result of a network for gray or colour, in float32, with the channels of x."""
    channels = int(getattr(network, "in_chans", x.shape[1]))
    if channels == x.shape[1]:
        return network(x).float()  # type: ignore[no-any-return]
    equal = network(x.expand(-1, channels, -1, -1)).float()
    return equal.mean(1, keepdim=True)  # type: ignore[no-any-return]


def photo_weight(compressed: NDArray[Any], photo: NDArray[Any], jpeg: NDArray[Any]) -> float:
    """Return the weight of ``photo`` in the mixture of two results; the rest is the JPEG model's.

    The error of the JPEG model is the noise, of energy N: the mean square difference of the results
    in smooth areas of shadows, mid-tones and highlights. The error of ``photo`` is lost texture,
    and more of the compression's error, of an energy E = 12 S Q + 0.45. Q is the energy of what the
    JPEG model removes. S is the sharpness: the fraction of the details' energy (of what a blur by
    1.5 pixels removes) that a blur by 0.5 pixels removes. An enlarged photograph has no texture as
    fine as noise, so that ``photo`` loses little of it.

    Args:
        compressed: the compressed images, (crops, H, W, 1 or 3) on 0..255.
        photo: the results of ``photo``, likewise.
        jpeg: the results of the JPEG model, likewise.

    Returns:
        The weight, 0 to 1: N^1.5 / (N^1.5 + E^1.5).
    """
    compressed, photo, jpeg = (each.astype(np.float32) for each in (compressed, photo, jpeg))
    tones = _blurred(_luma(photo), _GRADIENT_BLUR)
    gradient = np.hypot(*np.gradient(tones, axis=(1, 2))).ravel()
    squares = np.square(photo - jpeg).mean(-1).ravel()
    energies = []
    for group in np.array_split(np.argsort(tones, axis=None), _TONES):
        smooth = group[gradient[group] <= np.quantile(gradient[group], _SMOOTH_FRACTION)]
        energies.append(squares[smooth].mean())
    noise = float(np.mean(energies))
    removed = float(np.square(compressed - jpeg).mean())
    details, finest = (
        float(np.square(photo - _blurred(photo, sigma)).mean())
        for sigma in (_DETAIL_BLUR, _FINEST_BLUR)
    )
    sharpness = finest / details if details else 0.0
    lost = _OF_COMPRESSION * sharpness * removed + _ANYWAY
    return noise**_EXPONENT / (noise**_EXPONENT + lost**_EXPONENT)


def compression_evidence(image: NDArray[Any], jpeg: NDArray[Any], noise: float) -> float:
    """Return how much more the JPEG model removes than it does from images without compression.

    It removes a little of any texture and noise, but much more of a compressed image, also of one
    that was resized since and shows no blocks.

    Args:
        image: the images, (crops, H, W, 1 or 3) on 0..255.
        jpeg: the results of the JPEG model, likewise.
        noise: standard deviation of the luma's noise as estimated, on 0..255.

    Returns:
        R / (F + noise^2 + 0.5): R is the energy of what the model removes from the luma, F that of
        the finest details of its result (of what a blur by 0.5 pixels removes).
    """
    before, after = (_luma(each.astype(np.float32)) for each in (image, jpeg))
    removed = float(np.square(before - after).mean())
    finest = float(np.square(after - _blurred(after, _FINEST_BLUR)).mean())
    return removed / (finest + noise**2 + _IN_ANY_IMAGE)


def _luma(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return Y (BT.601) of images (crops, H, W, 1 or 3): (crops, H, W)."""
    return images @ BT601_YCC[0] if images.shape[-1] == 3 else images[..., 0]


def _blurred(images: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur crops (crops, H, W) or (crops, H, W, C) with a Gaussian."""
    blurred: NDArray[np.float32] = gaussian_filter(images, sigma, mode="mirror", axes=(1, 2))
    return blurred


def rounded(weight: float) -> float:
    """Return 0 or 1 for a weight closer than :data:`ONE_MODEL` to either, else the weight."""
    return float(round(weight)) if min(weight, 1 - weight) < ONE_MODEL else weight
