"""Strength of a restoration in percent, for luma and chroma, applied after the network.

The difference, restored minus input, is split into Y of BT.601 and the remainder (chroma). At 0
none of it is applied, at 100 all of it. In between, removed luma detail that looks like texture
returns first, noise later, and colour noise last. Above 100 the difference is extrapolated where
the restored luma still has a residue of what was removed, and slightly elsewhere, since removing
noise twice would add its negative. Extrapolation decreases for large differences and close to black
or white.

Texture is distinguished from noise by the removed luma: its local energy exceeds what is typical at
this brightness, or it correlates with structures that remain in the restored image. As in darktable
5.6, the measure is the standard deviation of the removed luma itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from vheatir.colors import BT601_LUMA
from vheatir.errors import VHeatIRError
from vheatir.inference.estimate import sample_areas

#: Largest strength, in percent.
STRONGEST = 150.0

_Plane = NDArray[Any]

_WINDOW = 9  # side of the box filter for local energies, in pixels
_SMOOTHING = 5  # side of the box filter that smooths the texture weights, in pixels
_HALO = 2 * (_WINDOW // 2) + _SMOOTHING // 2
_STRIP_PIXELS = 200_000

# Fraction of the difference applied at strength s: s / (s + k (1 - s)), k for noise and texture.
_NOISE_K, _TEXTURE_K = 0.5, 4.0
# The texture weight rises from 0 to 1 between these multiples of the typical deviation ...
_ENERGY = (1.1, 1.7)
# ... or between these correlations of the removed with the remaining luma.
_CORRELATION = (0.2, 0.5)
# Typical deviation: this quantile of the local ones, per brightness class; size of the table.
_QUANTILE, _CLASSES, _STEPS = 0.3, 8, 256
# Lower bound of the typical deviation: white / this, half a step of 8 bits.
_FLOOR_DIVISOR = 510
_SAMPLES_PER_SIDE, _SAMPLE = 4, 160
# Extrapolated differences saturate at this multiple of their standard deviation.
_SATURATION = 2.0
# Fraction of an extrapolated difference applied where no residue is left.
_MIN_FRACTION = 0.25
_TINY = np.finfo(np.float32).tiny  # avoids division by zero


def parse_strength(strength: float | Sequence[float]) -> tuple[float, float]:
    """Return the strength of luma and chroma, in percent.

    Args:
        strength: one number for both, or (luma, chroma); each 0 to 150.

    Raises:
        VHeatIRError: not one or two numbers, or out of range.
    """
    given: Any = strength
    try:
        values = [float(given)] * 2 if np.ndim(given) == 0 else [float(v) for v in given]
    except (TypeError, ValueError):
        values = []
    # Also rejects NaN.
    if len(values) != 2 or not all(0 <= value <= STRONGEST for value in values):
        raise VHeatIRError(
            f"strength {strength!r}: give a percentage from 0 (the input) to {STRONGEST:g}, "
            "100 being the model's result, or two for luma and chroma"
        )
    return values[0], values[1]


def apply_strength(
    before: NDArray[Any], restored: NDArray[Any], luma: float, chroma: float
) -> NDArray[Any]:
    """Apply a fraction of a restoration, or extrapolate it.

    In every pixel, the change of Y increases with ``luma`` and that of the remainder with
    ``chroma``, up to rounding and to clipping of colours that leave the range. Both 0 gives exactly
    ``before``, both 100 exactly ``restored``. Gray images ignore ``chroma``; alpha is taken from
    ``before``. The image is processed in strips, so little memory is needed beyond the result.

    Args:
        before: (H, W) or (H, W, C), C = 1 to 4 for gray, gray and alpha, RGB, RGBA; ``uint8``,
            ``uint16``, or floating with white at 1.
        restored: the restored image, of the same shape and dtype.
        luma: percent, 0 to 150.
        chroma: percent, 0 to 150.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        VHeatIRError: the arrays differ in shape or dtype, or a percentage is out of range.

    Example:
        >>> before = np.full((32, 32, 3), 100, np.uint8)
        >>> restored = np.full((32, 32, 3), 110, np.uint8)
        >>> bool((apply_strength(before, restored, 0, 0) == before).all())
        True
        >>> bool((apply_strength(before, restored, 100, 100) == restored).all())
        True
    """
    luma, chroma = parse_strength((luma, chroma))
    if before.shape != restored.shape or before.dtype != restored.dtype:
        raise VHeatIRError(
            f"before is {before.dtype} {before.shape} and restored {restored.dtype} "
            f"{restored.shape}: give two versions of one image"
        )
    count = 3 if before.ndim == 3 and before.shape[2] >= 3 else 1
    if count == 1:
        chroma = luma
    out = before.copy()
    old, new, target = (np.atleast_3d(each)[:, :, :count] for each in (before, restored, out))
    if luma == chroma and luma in (0, 100):
        target[...] = old if luma == 0 else new
        return out
    white = np.iinfo(before.dtype).max if before.dtype.kind == "u" else 1
    stats = _measure_stats(old, new, white)
    height, width = old.shape[:2]
    rows = max(_STRIP_PIXELS // width, 4 * _HALO)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - _HALO, 0), min(bottom + _HALO, height)
        inner = slice(top - first, bottom - first)
        strip = _planes(old[first:last]), _planes(new[first:last])
        mixed = _mix(*strip, inner, luma / 100, chroma / 100, stats)
        target[top:bottom] = mixed.transpose(1, 2, 0)
    return out


@dataclass(frozen=True)
class _DifferenceStats:
    """Statistics of the difference between restored image and input.

    Attributes:
        deviations: typical standard deviation of the luma difference by brightness, float32, 256
            steps from black to white.
        white: the value of white.
        luma: RMS of the luma difference.
        chroma: RMS of the largest channel of the remainder.
    """

    deviations: _Plane
    white: float
    luma: float
    chroma: float

    def at(self, luma: _Plane) -> _Plane:
        """Return the typical deviation where Y is ``luma``."""
        steps = (luma * np.float32((_STEPS - 1) / self.white)).clip(0, _STEPS - 1)
        return self.deviations[steps.astype(np.uint8)]


def _mix(
    old: _Plane,
    new: _Plane,
    inner: slice,
    luma: float,
    chroma: float,
    stats: _DifferenceStats,
) -> _Plane:
    """Return the rows ``inner`` of a mixed strip (C, h, w), rounded for integer images."""
    white = stats.white
    luma_old, luma_new = _luma(old), _luma(new)
    change = (luma_new - luma_old)[inner]
    weight: Any = min(luma, 1.0)
    if 0 < luma < 1:
        texture = _texture_weight(luma_old, luma_new, stats)[inner]
        k = texture * (_TEXTURE_K - _NOISE_K) + _NOISE_K
        weight = luma / (k * (1 - luma) + luma)
    before = old[:, inner]
    out = before + weight * change
    if len(old) == 3:
        remainder = new[:, inner] - before - change
        part = min(chroma, 1.0)
        part /= part + _NOISE_K * (1 - part)
        out += remainder if part == 1 else part * remainder
    # Both steps are limited by the same remaining range, before either is applied.
    steps = []
    if luma > 1:
        step = (luma - 1) * _saturated(change, np.abs(change), stats.luma)
        step *= _residue_fraction(luma_old, luma_new)[inner]
        room = np.where(step > 0, white - out.max(0), out.min(0))
        steps.append(step * _step_fraction(room, np.abs(step)))
    if chroma > 1 and len(old) == 3:
        largest = np.abs(remainder).max(0)
        step = _MIN_FRACTION * (chroma - 1) * _saturated(remainder, largest, stats.chroma)
        room = np.where(step > 0, white - out, out)
        steps.append(step * _step_fraction(room, np.abs(step)).min(0))
    for step in steps:
        out += step
    if white != 1:
        np.rint(out, out=out)
        return out.clip(0, white, out=out)
    # Noisy floating-point images may exceed [0, 1]; values outside are kept.
    return np.clip(out, np.minimum(before, 0), np.maximum(before, 1), out=out)


def _saturated(change: _Plane, size: _Plane, deviation: float) -> _Plane:
    """Return ``change``, attenuated where its ``size`` is large relative to ``deviation``."""
    limit = _SATURATION * deviation
    return change / np.sqrt((size / limit) ** 2 + 1) if limit else change


def _step_fraction(room: _Plane, size: _Plane) -> _Plane:
    """Return the fraction of a step of ``size`` that uses at most a third of its ``room``."""
    room = np.maximum(room, _TINY)
    return room / (3 * size + room)


def _texture_weight(old: _Plane, new: _Plane, stats: _DifferenceStats) -> _Plane:
    """Return how much the removed luma looks like texture, 0 to 1; ``old``, ``new``: luma."""
    removed, kept = _single(old - new), _single(new)
    energy = _box_mean(removed * removed)
    expected = stats.at(kept)
    texture = _ramp(np.sqrt(energy) / expected, _ENERGY)
    # Correlation with structures weaker than the noise is not evidence of texture: residual noise
    # correlates with the removed noise. ``expected`` in the norm accounts for this.
    structure = kept - _box_mean(kept)
    norm = np.sqrt(energy * (_box_mean(structure * structure) + expected * expected))
    correlation = _box_mean(removed * structure) / (norm + _TINY)
    np.maximum(texture, _ramp(correlation, _CORRELATION), out=texture)
    return uniform_filter(texture, _SMOOTHING).clip(0, 1)


def _residue_fraction(old: _Plane, new: _Plane) -> _Plane:
    """Return the fraction of an extrapolated luma difference to apply: 1 where residue remains."""
    removed, kept = _single(old - new), _single(new)
    common = _box_mean((kept - _box_mean(kept)) * removed)
    # Regression of the remaining on the removed luma; a slope of 0.5 gives the full fraction.
    slope = common / (_box_mean(removed * removed) + _TINY)
    return (2 * slope).clip(0, 1) * (1 - _MIN_FRACTION) + _MIN_FRACTION


def _single(plane: _Plane) -> _Plane:
    return plane.astype(np.float32, copy=False)


def _box_mean(plane: _Plane) -> _Plane:
    return uniform_filter(plane, _WINDOW)


def _ramp(value: _Plane, ends: tuple[float, float]) -> _Plane:
    return ((value - ends[0]) / (ends[1] - ends[0])).clip(0, 1)


def _measure_stats(old: NDArray[Any], new: NDArray[Any], white: float) -> _DifferenceStats:
    """Measure the statistics of the difference, on sixteen parts if the image is large."""
    levels, deviations, squares_luma, squares_chroma = [], [], 0.0, 0.0
    areas = sample_areas(old.shape, (_SAMPLES_PER_SIDE * _SAMPLE) ** 2, _SAMPLE, _SAMPLES_PER_SIDE)
    for area in areas:
        before, after = _planes(old[area]), _planes(new[area])
        kept = _single(_luma(after))
        change = kept - _single(_luma(before))
        levels.append(kept[::2, ::2].ravel())  # neighbouring values are redundant
        deviations.append(np.sqrt(_box_mean(change * change)[::2, ::2]).ravel())
        squares_luma += float(np.mean(change**2))
        if len(after) == 3:
            remainder = np.abs(after - before - change).max(0)
            squares_chroma += float(np.mean(remainder**2))
    level, deviation = np.concatenate(levels), np.concatenate(deviations)
    edges = np.quantile(level, np.linspace(0, 1, _CLASSES + 1))
    classes = np.searchsorted(edges[1:-1], level, side="right")
    centres, typical = [], []
    for index in range(_CLASSES):
        inside = classes == index
        if inside.any():
            centres.append(float(level[inside].mean()))
            local = float(np.quantile(deviation[inside], _QUANTILE))
            typical.append(max(local, white / _FLOOR_DIVISOR))
    table = np.interp(np.linspace(0, white, _STEPS), centres, typical).astype(np.float32)
    count = len(areas)
    luma, chroma = math.sqrt(squares_luma / count), math.sqrt(squares_chroma / count)
    return _DifferenceStats(table, white, luma, chroma)


def _planes(pixels: NDArray[Any]) -> _Plane:
    """Convert (h, w, C) to contiguous floating-point planes (C, h, w)."""
    dtype = np.float64 if pixels.dtype == np.float64 else np.float32
    return np.array(pixels.transpose(2, 0, 1), dtype=dtype, order="C")


def _luma(planes: _Plane) -> _Plane:
    """Y of BT.601, (h, w)."""
    if len(planes) == 1:
        return planes[0]
    red, green, blue = (share * plane for share, plane in zip(BT601_LUMA, planes, strict=True))
    return red + green + blue
