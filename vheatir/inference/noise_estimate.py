"""Estimation of spatially correlated noise, as in photographs.

:func:`vheatir.inference.estimate.estimate_sigma` uses the finest scale only. White noise is equally
strong at all scales; camera noise, after demosaicing, filtering and JPEG, has almost no energy at
the finest one. Here noise is measured at several scales, separately for luma and chroma.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, sobel

from vheatir.colors import BT601_YCC
from vheatir.inference.estimate import sample_areas

_CROP = 448
_CROPS_PER_SIDE = 3
_MIN_SIDE = 48

_GRADIENT_BLUR = 3.0  # standard deviation of the blur before the gradient, in pixels
_SMOOTH_FRACTION = 0.4  # fraction of the blocks used, those with the smallest gradient
_MIN_UNCLIPPED = 0.05  # minimum fraction of blocks without black or white pixels; else all are used
_MIN_PER_GROUP = 60  # minimum number of blocks per brightness group
_MAX_GROUPS = 5
_MAX_GROUP_RATIO = 2.0  # of a group's noise to that of quiet groups; the excess is texture

# Extra gain for correlated noise, whose quantile is lower the less noise the finest scale has.
_CORRELATED_GAIN = 0.2

# Noise is correlated if the finest scale has less than this fraction of it.
_WHITE_FRACTION = 0.7
_MIN_VISIBLE = 0.5  # of 255; weaker noise is not classified as correlated


@dataclass(frozen=True)
class _Method:
    """Parameters of the measurement of luma or chroma.

    Attributes:
        step: subsampling of rows and columns.
        block: side of the blocks, in pixels of the plane.
        quantile: quantile of the block energies taken as the energy of the noise alone.
        largest_step: maximum ratio of the noise at the coarsest scale to that at the middle one.
        gain: correction of the bias of the quantile on white noise.
    """

    step: int
    block: int
    quantile: float
    largest_step: float
    gain: float


_STRIDES = (1, 2, 4)  # of the second differences, in pixels of the plane
_LUMA = _Method(1, block=16, quantile=0.03, largest_step=1.75, gain=1.07)
# Every fourth row and column: filtered chroma noise is visible at coarse scales only.
_CHROMA_STEP = 4
_CHROMA = _Method(_CHROMA_STEP, block=8, quantile=0.15, largest_step=2.0, gain=1.05)


@dataclass(frozen=True)
class NoiseEstimate:
    """Noise of an image, on the scale 0..255.

    Attributes:
        luma: standard deviation of Y (BT.601) in smooth areas.
        chroma: the same for Cb and Cr, root mean square; 0 for gray images.
        correlated: whether the noise is spatially correlated, as after in-camera processing,
            filtering or JPEG; False for white noise or almost no noise.
        luma_scales: standard deviation of the luma noise at strides of 1, 2 and 4 pixels; equal for
            white noise, increasing for correlated noise.
        chroma_scales: the same for chroma, at strides of 4, 8 and 16.
    """

    luma: float
    chroma: float
    correlated: bool
    luma_scales: tuple[float, float, float]
    chroma_scales: tuple[float, float, float]

    def __str__(self) -> str:
        """Return a description for the user, such as ``"luma 3.7, chroma 2.5, correlated"``."""
        parts = [f"luma {self.luma:.1f}"]
        if self.chroma >= 0.05:  # below: rounding errors of a gray image stored as RGB
            parts.append(f"chroma {self.chroma:.1f}")
        if self.correlated:
            parts.append("correlated")
        return ", ".join(parts)


def estimate_noise(image: NDArray[Any]) -> NoiseEstimate:
    """Estimate white and correlated noise, separately for luma and chroma.

    Second differences along rows and columns (Immerkær, "Fast noise variance estimation", 1996) at
    strides 1, 2 and 4 (chroma: 4, 8 and 16) measure the noise at three scales: correlated noise is
    independent at a large enough stride. Their energies are averaged over blocks that are smooth
    after blurring and neither black nor white. Noise depends on brightness, so the blocks are
    grouped by it; a low quantile of each group is taken as the noise alone, since texture only adds
    energy. The second stride gives the strength, and the third a correction, limited to what camera
    noise needs. Fine texture over the whole image counts as noise. Images larger than nine crops of
    448 x 448 are sampled by these.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3) RGB, ``uint8`` or ``uint16``, or floating with black
            at 0 and white at 1; without alpha.

    Returns:
        The estimate; all zero for an image of fewer than 48 pixels along a side.

    Example:
        >>> flat = np.full((128, 128, 3), 0.5)
        >>> noise = np.random.default_rng(0).normal(0, 10 / 255, flat.shape)
        >>> estimate_noise(flat + noise).correlated
        False
    """
    if min(image.shape[:2]) < _MIN_SIDE:
        return NoiseEstimate(0.0, 0.0, False, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    channels = np.atleast_3d(image)
    most = (_CROP * _CROPS_PER_SIDE) ** 2
    areas = sample_areas(channels.shape, most, _CROP, _CROPS_PER_SIDE)
    crops = [_planes(channels[area], 255 / white) for area in areas]
    gradient, clipped, luma, *chroma = (np.stack(planes) for planes in zip(*crops, strict=True))
    guides = gradient, clipped, luma
    luma_std, luma_scales = _measure_noise([luma], guides, _LUMA)
    chroma_std, chroma_scales = 0.0, (0.0, 0.0, 0.0)
    if chroma:
        chroma_std, chroma_scales = _measure_noise(chroma, guides, _CHROMA)
    correlated = luma_std >= _MIN_VISIBLE and luma_scales[0] < _WHITE_FRACTION * luma_std
    return NoiseEstimate(luma_std, chroma_std, correlated, luma_scales, chroma_scales)


def _planes(crop: NDArray[Any], scale: float) -> tuple[NDArray[np.float32], ...]:
    """Return the planes of a crop that are measured.

    Args:
        crop: (h, w, 1) or (h, w, 3).
        scale: factor that gives values 0..255.

    Returns:
        Gradient of the blurred luma; 1 where a channel is black or white, else 0; luma; for colour
        also Cb and Cr, of every fourth row and column.
    """
    pixels = np.array(crop, np.float32, order="C")
    pixels *= np.float32(scale)
    colored = pixels.shape[2] == 3
    luma = pixels @ BT601_YCC[0] if colored else pixels[..., 0]
    blurred = gaussian_filter(luma, _GRADIENT_BLUR, mode="mirror")
    rows, columns = (sobel(blurred, axis, mode="mirror") for axis in (0, 1))
    clipped = ((pixels <= 0) | (pixels >= 255)).any(axis=2).astype(np.float32)
    every = pixels[::_CHROMA_STEP, ::_CHROMA_STEP]
    chroma = [every @ weights for weights in BT601_YCC[1:]] if colored else []
    return np.sqrt(rows * rows + columns * columns), clipped, luma, *chroma


def _measure_noise(
    measured: Sequence[NDArray[np.float32]], guides: Sequence[NDArray[np.float32]], method: _Method
) -> tuple[float, tuple[float, float, float]]:
    """Return the standard deviation of the noise, total and per scale.

    Each is the root mean square over the planes.

    Args:
        measured: the planes, each (crops, h, w).
        guides: gradient, clipped pixels and luma, which select the blocks, see :func:`_planes`.
        method: parameters of the measurement.
    """
    margin = _STRIDES[-1]  # of the grid of blocks, for the differences
    height, width = (length - 2 * margin for length in measured[0].shape[1:])
    side = min(method.block, height // 2, width // 2)
    rows, columns = height // side, width // side

    def block_means(plane: NDArray[np.float32], start: int, step: int = 1) -> NDArray[np.float32]:
        """Average each block; ``step`` is the resolution of the plane relative to the grid."""
        long, first = side * step, start * step
        inside = plane[:, first : first + rows * long, first : first + columns * long]
        split = inside.reshape(len(plane), rows, long, columns, long)
        return np.asarray(split.sum(axis=4).mean(axis=2) / long).ravel()

    means = (block_means(plane, margin, method.step) for plane in guides)
    groups, weights = _group_smooth_blocks(*means)
    variances = np.zeros(len(_STRIDES))
    for plane in measured:
        for index, stride in enumerate(_STRIDES):
            energies = block_means(_energy(plane, stride), margin - stride)
            quiet = np.array([np.quantile(energies[group], method.quantile) for group in groups])
            limit = _MAX_GROUP_RATIO**2 * np.quantile(quiet, 0.2)
            variances[index] += weights @ np.minimum(quiet, limit) / len(measured)
    fine, middle, coarse = (float(value) for value in method.gain * np.sqrt(variances))
    strength = min(max(coarse, middle), method.largest_step * middle)
    if strength > 0:
        strength *= 1 + _CORRELATED_GAIN * max(1 - fine / strength, 0)
    return strength, (fine, middle, coarse)


def _energy(plane: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Return squared second differences, normalised to a mean of the variance for white noise."""
    rows = plane[:, 2 * stride :] + plane[:, : -2 * stride]
    rows -= 2 * plane[:, stride:-stride]
    both = rows[..., 2 * stride :] + rows[..., : -2 * stride]
    both -= 2 * rows[..., stride:-stride]
    both *= np.float32(1 / 6)
    return np.square(both, out=both)


def _group_smooth_blocks(
    gradient: NDArray[np.float32], clipped: NDArray[np.float32], luma: NDArray[np.float32]
) -> tuple[list[NDArray[np.intp]], NDArray[np.float64]]:
    """Select smooth blocks; return groups of similar brightness, and the fraction of each."""
    usable = np.flatnonzero(clipped == 0)
    if usable.size < _MIN_UNCLIPPED * clipped.size:
        usable = np.arange(clipped.size)
    smooth = usable[gradient[usable] <= np.quantile(gradient[usable], _SMOOTH_FRACTION)]
    count = min(max(smooth.size // _MIN_PER_GROUP, 1), _MAX_GROUPS)
    groups = np.array_split(smooth[np.argsort(luma[smooth])], count)
    return groups, np.array([group.size / smooth.size for group in groups])
