"""What is wrong with an image, and how much, judged from the image or its file alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

_WHOLE_PIXELS = 4_000_000
_CROP = 512
_CROPS_PER_SIDE = 4
_MIN_SIDE = 8
_ROUNDING = 1e-3

_WAVELET = "db2"  # scikit-image's
_NORMAL_MEDIAN = 0.6744897501960817  # of the modulus of a standard normal variable
_NEIGHBOURS = 5
_FEWEST = 256

# The luma table of the JPEG standard (ITU-T T.81, annex K.1), in reading order; encoders scale it.
_STANDARD_TABLE = np.array(
    [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55]
    + [14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62]
    + [18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92]
    + [49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
)

_MIN_SIDE_BLOCKS = 32


def estimate_sigma(image: NDArray[np.floating]) -> float:
    """Estimate the standard deviation of additive white Gaussian noise.

    The median absolute deviation of the finest diagonal wavelet coefficients (Donoho and
    Johnstone, "Ideal spatial adaptation by wavelet shrinkage", 1994), as scikit-image computes it,
    but only where the image is far enough from black and white that its noise is not clipped;
    averaged over the colour channels. Fine texture counts as noise: on photographs expect it
    within 1 or 2 units, and too high rather than too low. Images of more than four megapixels are
    judged by sixteen evenly spread crops.

    Args:
        image: (H, W) or (H, W, C) without alpha, floating, black at 0 and white at 1.

    Returns:
        Sigma on the scale 0..255; 0 for an image too small or too flat to tell.
    """
    if min(image.shape[:2]) < _MIN_SIDE:
        return 0.0
    return float(np.mean([_estimate(part) for part in _parts(image)]))


def estimate_white_sigma(image: NDArray[np.floating]) -> float:
    """Estimate white noise by the differences of the colour channels, which texture hardly reaches.

    As :func:`estimate_sigma`, but of (R - G) / sqrt 2 and (B - G) / sqrt 2, in which white noise is
    as strong as in the channels. A camera's processing and JPEG leave almost nothing there, and
    nor do most photographs; clipped noise is measured as too weak.

    Args:
        image: (H, W, 3) RGB, floating, black at 0 and white at 1.

    Returns:
        Sigma on the scale 0..255; 0 for an image too small or too flat to tell.
    """
    if min(image.shape[:2]) < _MIN_SIDE:
        return 0.0
    differences = (image[..., ::2] - image[..., 1:2]) / np.float32(np.sqrt(2))
    # Gray is as far from black and white as can be.
    return float(np.mean([_estimate(part) for part in _parts(differences + np.float32(0.5))]))


def flat_share(image: NDArray[Any]) -> float:
    """Return the share of pixels that equal the one below and the one to the right, 0 to 1.

    Half and more in screenshots, drawings and text, and where JPEG of low quality has flattened
    whole blocks; next to none in an image with noise.

    Args:
        image: (H, W) or (H, W, C), without alpha, of any dtype.
    """
    planes = image if image.ndim == 3 else image[..., None]
    if min(planes.shape[:2]) < 2:
        return 0.0
    here = planes[:-1, :-1]
    same = (planes[1:, :-1] == here).all(axis=2) & (planes[:-1, 1:] == here).all(axis=2)
    return float(same.mean())


def floating_parts(image: NDArray[Any]) -> Iterator[NDArray[np.float32]]:
    """Yield an image, or evenly spread crops of a large one, as the functions above take it.

    Args:
        image: (H, W) or (H, W, C), ``uint8`` or ``uint16``, or floating in [0, 1]; without alpha. A
            large one is not made floating as a whole.
    """
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    for part in _parts(image):
        yield (part[..., 0] if image.ndim == 2 else part).astype(np.float32) / np.float32(white)


def estimate_blockiness(image: NDArray[np.floating]) -> float:
    """Estimate how visible the borders of JPEG's 8 x 8 blocks are.

    Steps between neighbours, less what the slope beside them explains, are averaged for each of
    the eight phases; the largest phase is compared with the median of the others, along both axes,
    and the smaller ratio counts: a grid has both. The phase is free, so that a cropped JPEG is
    found too. Large images are judged by crops, as by :func:`estimate_sigma`.

    Args:
        image: (H, W) or (H, W, C) without alpha, floating, black at 0 and white at 1.

    Returns:
        About 1 without blocks, also under noise; 1.2 to 1.8 for quality 75, above 4 for 10; 1 for
        an image of fewer than 32 pixels along a side.
    """
    if min(image.shape[:2]) < _MIN_SIDE_BLOCKS:
        return 1.0
    return float(np.mean([_blockiness(part) for part in _parts(image)]))


def jpeg_quality(tables: Mapping[int, Sequence[int]]) -> int:
    """Tell the quality, 1 to 100, that a JPEG file was written with.

    Exact for encoders that scale the standard's tables (libjpeg, hence most); for others the
    quality whose table has the nearest sum.

    Args:
        tables: quantisation tables as Pillow's ``image.quantization`` gives them; the first is
            the luma's. Their order does not matter, only their sum.
    """
    total = sum(tables[min(tables)])
    return min(range(1, 101), key=lambda quality: abs(_table_sum(quality) - total))


def _parts(image: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the image, or sixteen crops of a large one, each (h, w, C)."""
    channels = image if image.ndim == 3 else image[..., None]
    height, width = channels.shape[:2]
    if height * width <= _WHOLE_PIXELS:
        yield channels
        return
    tops = np.linspace(0, max(height - _CROP, 0), _CROPS_PER_SIDE, dtype=int)
    lefts = np.linspace(0, max(width - _CROP, 0), _CROPS_PER_SIDE, dtype=int)
    yield from (channels[y : y + _CROP, x : x + _CROP] for y in tops for x in lefts)


def _table_sum(quality: int) -> int:
    """Sum of libjpeg's luma table for a quality (jpeg_set_quality, baseline)."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return int(((_STANDARD_TABLE * scale + 50) // 100).clip(1, 255).sum())


def _blockiness(channels: NDArray[np.floating]) -> float:
    gray = channels.mean(axis=2, dtype=np.float32) * 255
    ratios = []
    for rows in (gray, gray.T):
        steps = np.abs(rows[:, :-3] - 3 * rows[:, 1:-2] + 3 * rows[:, 2:-1] - rows[:, 3:])
        columns = steps.mean(axis=0)
        phases = sorted(float(columns[phase::8].mean()) for phase in range(8))
        # The floor keeps a flat image from dividing nothing by nothing.
        ratios.append(max(phases[-1], 0.01) / max(float(np.median(phases[:-1])), 0.01))
    return min(ratios)


def _estimate(channels: NDArray[np.floating]) -> float:
    values = [255 * _estimate_plane(channels[..., index]) for index in range(channels.shape[2])]
    # Below _ROUNDING it is the arithmetic's own.
    return sum(value for value in values if value > _ROUNDING) / len(values)


def _estimate_plane(plane: NDArray[np.floating]) -> float:
    """Estimate the noise of one plane where it could unfold: not where black or white cut it off.

    First from coefficients that see no clipped pixel. Where half of the noise is clipped, what is
    left of it is too small; so then from places whose mean is two sigma away from black and white.
    """
    import pywt

    means, (_, _, detail) = pywt.dwt2(plane, _WAVELET)
    unclipped = ~_sees((plane <= 0) | (plane >= 1), detail.shape)
    sigma = _deviation(detail[unclipped] if _enough(unclipped) else detail)
    middle = np.abs(uniform_filter(means, _NEIGHBOURS) / 2 - 0.5)
    for _ in range(2):
        inside = middle < max(0.5 - 2 * sigma, 0.1)
        if not _enough(inside):
            break
        sigma = _deviation(detail[inside])
    return sigma


def _sees(pixels: NDArray[np.bool_], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Tell of each wavelet coefficient whether any of the pixels that it sees is set."""
    # Coefficient i of the four-tap wavelet sees samples 2 i - 2 to 2 i + 1.
    seen = np.pad(pixels, 2, mode="symmetric")
    for axis, count in enumerate(shape):
        first = 2 * np.arange(count)
        last = seen.shape[axis] - 1
        seen = np.any([seen.take(np.minimum(first + k, last), axis) for k in range(4)], axis=0)
    return seen


def _enough(chosen: NDArray[np.bool_]) -> bool:
    return bool(chosen.sum() >= max(_FEWEST, chosen.size // 100))


def _deviation(detail: NDArray[np.floating]) -> float:
    """Return the standard deviation of Gaussian noise by the median; 0 where all is flat."""
    moving = detail[detail != 0]
    return float(np.median(np.abs(moving)) / _NORMAL_MEDIAN) if moving.size else 0.0
