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
# Parts of the error of `photo`, by energy: of what the JPEG model removes and of the details, both
# times the sharpness, and of every image. Fitted to samples of
# studies/automatic/noise_under_jpeg.py and rows of studies/automatic/table.py, see
# docs/photographs.md.
_OF_COMPRESSION, _OF_DETAILS, _ANYWAY = 8, 0.1, 0.4
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
    and more of the compression's error. It grows with the energy Q of what the JPEG model removes,
    with the energy T of the details, what a blur by 1.5 pixels removes from the result of
    ``photo``, and with the sharpness S, the fraction of T that a blur by 0.5 pixels removes: an
    enlarged photograph has no texture as fine as noise. If the errors of the models are
    independent, the best mixture weights each result by the energy of the other's error.

    Args:
        compressed: the compressed images, (crops, H, W, 1 or 3) on 0..255; their luma is compared.
        photo: the results of ``photo``, likewise.
        jpeg: the results of the JPEG model, likewise.

    Returns:
        N / (N + S (8 Q + 0.1 T) + 0.4).
    """
    compressed, photo, jpeg = (_luma(each) for each in (compressed, photo, jpeg))
    tones = _blurred(photo, _GRADIENT_BLUR)
    gradient = np.hypot(*np.gradient(tones, axis=(1, 2))).ravel()
    squares = np.square(photo - jpeg).ravel()
    energies = []
    for group in np.array_split(np.argsort(tones, axis=None), _TONES):
        smooth = group[gradient[group] <= np.quantile(gradient[group], _SMOOTH_FRACTION)]
        energies.append(squares[smooth].mean())
    noise = float(np.mean(energies))
    removed = float(np.square(compressed - jpeg).mean())
    details = _energy_of_details(photo, _DETAIL_BLUR)
    sharpness = _energy_of_details(photo, _FINEST_BLUR) / details if details else 0.0
    lost = sharpness * (_OF_COMPRESSION * removed + _OF_DETAILS * details) + _ANYWAY
    return noise / (noise + lost)


def _luma(images: NDArray[Any]) -> NDArray[np.float32]:
    """Return Y (BT.601) of images (crops, H, W, 1 or 3): (crops, H, W)."""
    values = images.astype(np.float32)
    return values @ BT601_YCC[0] if images.shape[-1] == 3 else values[..., 0]


def _blurred(luma: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur each crop (crops, H, W) with a Gaussian."""
    return np.stack([gaussian_filter(each, sigma, mode="mirror") for each in luma])


def _energy_of_details(luma: NDArray[np.float32], sigma: float) -> float:
    """Return the mean square of what a Gaussian blur removes from crops (crops, H, W)."""
    return float(np.square(luma - _blurred(luma, sigma)).mean())


def rounded(weight: float) -> float:
    """Return 0 or 1 for a weight closer than :data:`ONE_MODEL` to either, else the weight."""
    return float(round(weight)) if min(weight, 1 - weight) < ONE_MODEL else weight
