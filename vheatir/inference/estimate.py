"""Blind estimation of noise, flatness, blockiness and JPEG quality.

Images are (H, W) or (H, W, C) without alpha: ``uint8`` or ``uint16``, or floating with black at 0
and white at 1. Those of more than four megapixels are sampled by sixteen evenly spaced crops, of
which only one at a time is converted to floating point.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from vheatir.colors import BT601_YCC

_T = TypeVar("_T")

_MAX_UNCROPPED_PIXELS = 4_000_000
_CROP = 512
_CROPS_PER_SIDE = 4
_MIN_SIDE = 8
_ROUNDING = 1e-3

# The scaling filter of Daubechies' wavelet of two vanishing moments, db2 ("Ten lectures on
# wavelets", 1992, section 6.4), which scikit-image uses too.
_SCALING = tuple(tap / 32**0.5 for tap in (1 + 3**0.5, 3 + 3**0.5, 3 - 3**0.5, 1 - 3**0.5))
_WAVELET = tuple(sign * tap for sign, tap in zip((1, -1, 1, -1), _SCALING[::-1], strict=True))
_NORMAL_MEDIAN = 0.6744897501960817  # of the absolute value of a standard normal variable
_NEIGHBOURS = 5
_MIN_COEFFICIENTS = 256

# The luma table of the JPEG standard (ITU-T T.81, annex K.1), in reading order; encoders scale it.
_STANDARD_TABLE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]
    + [14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62]
    + [18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
    + [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)

_MIN_SIDE_BLOCKS = 32


def estimate_sigma(image: NDArray[Any]) -> float:
    """Estimate the standard deviation of additive white Gaussian noise.

    Median absolute deviation of the finest diagonal wavelet coefficients (Donoho and Johnstone,
    "Ideal spatial adaptation by wavelet shrinkage", 1994), as in scikit-image, but restricted to
    areas far enough from black and white that the noise is not clipped; averaged over the colour
    channels. Fine texture counts as noise: on photographs the error is typically 1 or 2 units, more
    often too high than too low.

    Returns:
        Sigma on the scale 0..255; 0 for an image too small or too flat to estimate it.
    """
    return _mean(_estimate_channels, image)


def estimate_white_sigma(image: NDArray[Any]) -> float:
    """Estimate white noise from differences of colour channels, which contain little texture.

    As :func:`estimate_sigma`, but on (R - G) / sqrt 2 and (B - G) / sqrt 2, where white noise is as
    strong as in the channels. Camera noise (after in-camera processing), JPEG artifacts and most
    image content have almost no energy there. Clipped noise is underestimated.

    Args:
        image: (H, W, 3) RGB.

    Returns:
        Sigma on the scale 0..255; 0 for an image too small or too flat to estimate it.
    """

    def measure(channels: NDArray[np.floating]) -> float:
        differences = (channels[..., ::2] - channels[..., 1:2]) / np.float32(np.sqrt(2))
        # Differences are centred on mid-gray, so that none counts as clipped.
        return _estimate_channels(differences + np.float32(0.5))

    return _mean(measure, image)


def flat_share(image: NDArray[Any]) -> float:
    """Return the fraction of pixels equal to both the one below and the one to the right, 0 to 1.

    At least one half in screenshots, drawings and text, and where low-quality JPEG has flattened
    whole blocks; close to 0 in a noisy image.
    """

    def measure(channels: NDArray[np.floating]) -> float:
        if min(channels.shape[:2]) < 2:
            return 0.0
        here = channels[:-1, :-1]
        same = (channels[1:, :-1] == here).all(axis=2) & (channels[:-1, 1:] == here).all(axis=2)
        return float(same.mean())

    return _mean(measure, image)


def color_share(image: NDArray[Any]) -> float:
    """Return the number of distinct 8-bit colours divided by the number of pixels.

    Args:
        image: (H, W, 3) RGB.
    """

    def measure(channels: NDArray[np.floating]) -> float:
        values = np.rint(channels * 255).astype(np.uint32)
        codes = (values[..., 0] << 16) + (values[..., 1] << 8) + values[..., 2]
        return len(np.unique(codes)) / codes.size

    return _mean(measure, image)


def luma_histogram(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return the fraction of pixels at each of the 256 levels of luma (BT.601), (256,).

    Other bit depths are rounded to 8 bits.
    """

    def measure(channels: NDArray[np.floating]) -> NDArray[np.float64]:
        luma = channels @ BT601_YCC[0] if channels.shape[2] == 3 else channels[..., 0]
        levels = np.rint(luma * 255).clip(0, 255).astype(np.uint8)
        return np.bincount(levels.ravel(), minlength=256) / levels.size

    return np.asarray(np.mean(_measure(measure, image), axis=0))


def estimate_blockiness(image: NDArray[Any]) -> float:
    """Estimate the visibility of JPEG's 8 x 8 block borders.

    Third differences, which measure the steps between neighbouring pixels beyond the local slope,
    are averaged for each of the eight phases. The ratio of the largest phase to the median of the
    others is taken along each axis; the smaller one is returned, since a grid shows along both.
    Patterns that repeat every 2 or 4 pixels do not count. The phase is free, so that cropped JPEGs
    are found too.

    Returns:
        About 1 without blocks, also in noise; 1.2 to 1.8 for quality 75, above 4 for quality 10; 1
        for an image of fewer than 32 pixels along a side.
    """
    return _mean(_blockiness, image)


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """Return the quality, 1 to 100, at which a JPEG file was written.

    Exact for encoders that scale the tables of the standard (libjpeg, and thus most); for others,
    the quality whose table has the nearest sum.

    Args:
        tables: quantisation tables as in Pillow's ``image.quantization``; the first is the luma
            table. The order of the coefficients does not matter, only their sum.
    """
    total = sum(tables[min(tables)])
    return min(range(1, 101), key=lambda quality: abs(_table_sum(quality) - total))


def color_channels(image: NDArray[Any]) -> NDArray[Any]:
    """Return an image without alpha: (H, W) for gray, also if stored as RGB, else (H, W, 3).

    Args:
        image: (H, W) or (H, W, C), C = 1 to 4 for gray, gray and alpha, RGB, RGBA.
    """
    if image.ndim == 2:
        return image
    first = image[..., 0]
    if image.shape[2] < 3:
        return first
    gray = np.array_equal(first, image[..., 1]) and np.array_equal(first, image[..., 2])
    return first if gray else image[..., :3]


def sample_areas(
    shape: Sequence[int], most: int, crop: int, per_side: int
) -> list[tuple[slice, slice]]:
    """Return rows and columns of evenly spaced square crops of a large image.

    Args:
        shape: shape of the image, (H, W, ...).
        most: largest number of pixels of an image that is returned as a whole.
        crop: side of a crop in pixels.
        per_side: number of crops along each side; fewer where they would coincide.
    """
    if shape[0] * shape[1] <= most:
        return [(slice(shape[0]), slice(shape[1]))]
    tops, lefts = (
        np.unique(np.linspace(0, max(length - crop, 0), per_side, dtype=int))
        for length in shape[:2]
    )
    return [(slice(y, y + crop), slice(x, x + crop)) for y in tops for x in lefts]


def _mean(measure: Callable[[NDArray[np.floating]], float], image: NDArray[Any]) -> float:
    """Return the mean of a measure over an image's crops, each (h, w, C) and floating."""
    return float(np.mean(_measure(measure, image)))


def _measure(measure: Callable[[NDArray[np.floating]], _T], image: NDArray[Any]) -> list[_T]:
    """Return a measure of each of an image's crops; see :func:`_mean`."""
    channels = np.atleast_3d(image)
    white = np.float32(np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    areas = sample_areas(channels.shape, _MAX_UNCROPPED_PIXELS, _CROP, _CROPS_PER_SIDE)
    parts = (channels[area] for area in areas)
    return [measure(p if p.dtype.kind == "f" else p.astype(np.float32) / white) for p in parts]


def _table_sum(quality: int) -> int:
    """Sum of libjpeg's luma table for a quality (jpeg_set_quality, baseline)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return int(((_STANDARD_TABLE * scale + 50) // 100).clip(1, 255).sum())


def _blockiness(channels: NDArray[np.floating]) -> float:
    if min(channels.shape[:2]) < _MIN_SIDE_BLOCKS:
        return 1.0
    gray = channels.mean(axis=2, dtype=np.float32) * 255
    ratios = []
    for rows in (gray, gray.T):
        steps = np.abs(rows[:, :-3] - 3 * rows[:, 1:-2] + 3 * rows[:, 2:-1] - rows[:, 3:])
        columns = steps.mean(axis=0)
        phases = np.array([columns[phase::8].mean() for phase in range(8)])
        border = int(phases.argmax())
        # Demosaicing and enlargement by 2 or 4 repeat every 2 or 4 pixels: phases that such a
        # pattern cannot tell from the border are compared apart from the rest.
        rest = max(
            np.median(np.delete(phases, border)),
            np.median([phases[(border + shift) % 8] for shift in (2, 4, 6)]),
            phases[(border + 4) % 8],
        )
        # The floor avoids 0 / 0 on a flat image.
        ratios.append(max(float(phases[border]), 0.01) / max(float(rest), 0.01))
    return min(ratios)


def _estimate_channels(channels: NDArray[np.floating]) -> float:
    if min(channels.shape[:2]) < _MIN_SIDE:
        return 0.0
    values = [255 * _estimate_plane(channels[..., index]) for index in range(channels.shape[2])]
    # Values below _ROUNDING are floating-point error.
    return sum(value for value in values if value > _ROUNDING) / len(values)


def _estimate_plane(plane: NDArray[np.floating]) -> float:
    """Estimate the noise of one plane from its unclipped areas.

    The first estimate uses the coefficients whose support has no clipped pixel. It is too low where
    half of the noise is clipped, so it is refined on areas whose mean is at least two sigma away
    from black and white.
    """
    padded = _pad(plane)
    means, detail = _filter_and_halve(padded, _SCALING), _filter_and_halve(padded, _WAVELET)
    unclipped = ~_any_in_support((padded <= 0) | (padded >= 1))
    sigma = _robust_std(detail[unclipped] if _is_large_enough(unclipped) else detail)
    middle = np.abs(_local_mean(means, _NEIGHBOURS) / 2 - 0.5)
    for _ in range(2):
        inside = middle < max(0.5 - 2 * sigma, 0.1)
        if not _is_large_enough(inside):
            break
        sigma = _robust_std(detail[inside])
    return sigma


def _pad(plane: NDArray[np.floating]) -> NDArray[np.floating]:
    """Mirror a plane, so that wavelet coefficient i is computed from samples 2 i to 2 i + 3."""
    height, width = plane.shape
    return np.pad(plane, ((2, 2 + height % 2), (2, 2 + width % 2)), mode="symmetric")


def _filter_and_halve(padded: NDArray[np.floating], taps: Sequence[float]) -> NDArray[np.floating]:
    """Filter rows and columns with four taps and keep every second result of each."""
    a, b, c, d = taps
    for _ in range(2):
        even, odd = padded[::2], padded[1::2]
        # From the last tap to the first, as in PyWavelets: on flat areas the result is the rounding
        # error. Transposed, so that the second pass filters along the other axis.
        padded = (d * odd[1:] + c * even[1:] + b * odd[:-1] + a * even[:-1]).T
    return padded


def _local_mean(plane: NDArray[np.floating], side: int) -> NDArray[np.floating]:
    """Average over the square of ``side`` pixels around each pixel, mirrored at the borders."""
    result = np.pad(plane, side // 2, mode="symmetric")
    for _ in range(2):
        count = len(result) - side + 1
        total = result[:count].copy()
        for start in range(1, side):
            total += result[start : start + count]
        # Transposed, so that the second pass averages along the other axis.
        result = total.T / side
    return result


def _any_in_support(padded: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return, for each wavelet coefficient, whether any pixel in its support is set."""
    rows = padded[::2] | padded[1::2]
    rows = rows[:-1] | rows[1:]
    columns = rows[:, ::2] | rows[:, 1::2]
    return columns[:, :-1] | columns[:, 1:]


def _is_large_enough(chosen: NDArray[np.bool_]) -> bool:
    return bool(chosen.sum() >= max(_MIN_COEFFICIENTS, chosen.size // 100))


def _robust_std(detail: NDArray[np.floating]) -> float:
    """Return the standard deviation of Gaussian noise from the median; 0 if all are zero."""
    nonzero = detail[detail != 0]
    return float(np.median(np.abs(nonzero)) / _NORMAL_MEDIAN) if nonzero.size else 0.0
