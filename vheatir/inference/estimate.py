"""How strong the noise of an image is, estimated from the image alone: the one definition."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

_WHOLE_PIXELS = 4_000_000
_CROP = 512
_CROPS_PER_SIDE = 4
_MIN_SIDE = 8
_ROUNDING = 1e-3


def estimate_sigma(image: NDArray[np.floating]) -> float:
    """Estimate the standard deviation of additive white Gaussian noise.

    The median absolute deviation of the finest diagonal wavelet coefficients (Donoho and
    Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994), as scikit-image computes it,
    averaged over the colour channels. Fine texture counts as noise, and clipping hides some: on
    photographs expect it within 2 or 3 units, and too high rather than too low. Images of more
    than four megapixels are judged by sixteen evenly spread crops.

    Args:
        image: (H, W) or (H, W, C) without alpha, floating, black at 0 and white at 1.

    Returns:
        Sigma on the scale 0..255; 0 for an image too small or too flat to tell.
    """
    channels = image if image.ndim == 3 else image[..., None]
    height, width = channels.shape[:2]
    if min(height, width) < _MIN_SIDE:
        return 0.0
    if height * width <= _WHOLE_PIXELS:
        return _estimate(channels)
    tops = np.linspace(0, max(height - _CROP, 0), _CROPS_PER_SIDE, dtype=int)
    lefts = np.linspace(0, max(width - _CROP, 0), _CROPS_PER_SIDE, dtype=int)
    crops = [channels[y : y + _CROP, x : x + _CROP] for y in tops for x in lefts]
    return float(np.mean([_estimate(crop) for crop in crops]))


def _estimate(channels: NDArray[np.floating]) -> float:
    from skimage.restoration import estimate_sigma as estimate_sigma_of_wavelets

    with warnings.catch_warnings():
        # A flat image has no wavelet coefficient but zero: the median of nothing.
        warnings.simplefilter("ignore", RuntimeWarning)
        sigmas = estimate_sigma_of_wavelets(channels, channel_axis=-1)
    values = [float(sigma) * 255 for sigma in sigmas]
    # Below _ROUNDING it is the arithmetic's own, or NaN.
    return sum(value for value in values if value > _ROUNDING) / len(values)
