"""Mix the results of the model for JPEG and of that for photographs.

Under JPEG compression an image alone does not tell noise from texture. Two results of it do: the
JPEG model leaves noise and texture, and ``photo`` removes the noise, and texture with it. Where the
image is smooth, the results differ by the noise.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from vheatir.archs import window_of

_GRADIENT_BLUR = 2.0  # standard deviation of the blur before the gradient, in pixels
_DETAIL_BLUR = 1.5  # details are what this blur removes
# Noise depends on brightness: it is measured in shadows, mid-tones and highlights.
_TONES = 3
_SMOOTH_FRACTION = 0.1  # fraction of the pixels of each, those with the smallest gradient
# Fitted to samples of studies/automatic/noise_under_jpeg.py, see docs/photographs.md. By energy:
# the part of the details that `photo` removes, and the difference of the models without noise.
_LOST_DETAILS = 1 / 30
_OTHER_DIFFERENCES = 0.7
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


def photo_weight(photo: NDArray[np.float32], jpeg: NDArray[np.float32]) -> float:
    """Return the weight of ``photo`` in the mixture of two results; the rest is the JPEG model's.

    The error of the JPEG model is the noise, of energy N: the mean square difference of the results
    in smooth areas of shadows, mid-tones and highlights. The error of ``photo`` is lost texture, a
    part of the energy of the details T: the mean square of what a blur by 1.5 pixels removes from
    its result. If these errors are independent, the best mixture weights each result by the energy
    of the other's error.

    Args:
        photo: luma of the results of ``photo``, on 0..255, (crops, H, W).
        jpeg: the same of the JPEG model.

    Returns:
        N / (N + T / 30 + 0.7).
    """
    tones = _blurred(photo, _GRADIENT_BLUR)
    rows, columns = np.gradient(tones, axis=(1, 2))
    gradient = np.hypot(rows, columns).ravel()
    squares = np.square(photo - jpeg).ravel()
    energies = []
    for group in np.array_split(np.argsort(tones, axis=None), _TONES):
        smooth = group[gradient[group] <= np.quantile(gradient[group], _SMOOTH_FRACTION)]
        energies.append(squares[smooth].mean())
    noise = float(np.mean(energies))
    details = float(np.square(photo - _blurred(photo, _DETAIL_BLUR)).mean())
    return noise / (noise + _LOST_DETAILS * details + _OTHER_DIFFERENCES)


def _blurred(luma: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Blur each crop (crops, H, W) with a Gaussian."""
    return np.asarray(gaussian_filter(luma, (0, sigma, sigma), mode="mirror"), np.float32)


def rounded(weight: float) -> float:
    """Return 0 or 1 for a weight closer than :data:`ONE_MODEL` to either, else the weight."""
    return float(round(weight)) if min(weight, 1 - weight) < ONE_MODEL else weight
