"""How much of a restoration is wanted, in percent: luma and chroma apart, after the network.

The network's difference, restored minus input, is split into Y of BT.601 and the remainder. At 0
nothing of it is applied, at 100 all of it. In between, what returns first is the removed luma
detail that looks like texture; noise, and colour noise above all, stays away longest. Above 100
the difference is extrapolated where the restored luma still shows some of what was removed, and
a little elsewhere, since noise removed twice is noise again; the less the larger the difference is
and the nearer black or white are.

Texture is told from noise by the removed luma alone and its surroundings: where its local energy
exceeds what is usual at this brightness, or where it follows the structures that the restored
image still shows. As in darktable 5.6, the measure is the removed luma's own deviation.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError

#: Largest strength, in percent.
STRONGEST = 150.0

_Plane = NDArray[Any]

_BT601 = (0.299, 0.587, 0.114)
_WINDOW = 9  # pixels, of the local energies
_SMOOTHING = 5  # pixels, of the map of texture: no edges of its own
_HALO = 2 * (_WINDOW // 2) + _SMOOTHING // 2
_STRIP_PIXELS = 200_000

# Share of the restoration at strength s: s / (s + k (1 - s)), with k from noise to texture.
_NOISE_K, _TEXTURE_K = 0.5, 4.0
# Texture begins and is certain at these multiples of the usual deviation ...
_ENERGY = (1.1, 1.7)
# ... or at these correlations of what was removed with what is left.
_CORRELATION = (0.2, 0.5)
# The usual deviation: this quantile of the local ones in each of so many classes of brightness.
_QUANTILE, _CLASSES, _STEPS = 0.3, 8, 256
# Below half a step of 8 bits nothing is texture: 1 / this, in parts of white.
_FLOOR = 510
_SAMPLES_PER_SIDE, _SAMPLE = 4, 160
# Extrapolated differences saturate at so many of their own standard deviations.
_SATURATION = 2.0
# Of an extrapolated difference, what is applied where nothing is left to remove.
_GENTLE = 0.25
_NOTHING = np.finfo(np.float32).tiny  # no division by zero


def parse_strength(strength: float | Sequence[float]) -> tuple[float, float]:
    """Return the strength of luma and chroma, in percent.

    Args:
        strength: one number for both, or (luma, chroma); each 0 to 150.

    Raises:
        VHeatIRError: no numbers, not one or two, or out of range.
    """
    given: Any = strength
    try:
        values = [float(given)] * 2 if np.ndim(given) == 0 else [float(v) for v in given]
    except (TypeError, ValueError):
        values = []
    # Written so that NaN fails too.
    if len(values) != 2 or not all(0 <= value <= STRONGEST for value in values):
        raise VHeatIRError(
            f"strength {strength!r}: give a percentage from 0 (the input) to {STRONGEST:g}, "
            "100 being the model's own, or two for luma and chroma"
        )
    return values[0], values[1]


def apply_strength(
    before: NDArray[Any], restored: NDArray[Any], luma: float, chroma: float
) -> NDArray[Any]:
    """Apply a part of a restoration, or more than all of it.

    Per pixel, the change of Y grows with ``luma`` and that of the remainder with ``chroma``, up
    to rounding, and to clipping where the mixture of the two leaves the range of colours. Both 0
    gives ``before`` and both 100 ``restored``, bit for bit. Gray images ignore ``chroma``; alpha
    is that of ``before``. Works in strips: it needs little more memory than its result.

    Args:
        before: (H, W) or (H, W, C), C = 1 to 4 for gray, gray and alpha, RGB, RGBA; ``uint8``,
            ``uint16``, or floating with white at 1.
        restored: what the network made of it, of the same shape and dtype.
        luma: percent, 0 to 150.
        chroma: percent, 0 to 150.

    Returns:
        A new array of that shape and dtype.

    Raises:
        VHeatIRError: the arrays differ in shape or dtype, or a percentage is out of range.
    """
    luma, chroma = parse_strength((luma, chroma))
    if before.shape != restored.shape or before.dtype != restored.dtype:
        raise VHeatIRError(
            f"before is {before.dtype} {before.shape} and restored {restored.dtype} "
            f"{restored.shape}: give two versions of one image"
        )
    planes = before if before.ndim == 3 else before[:, :, None]
    count = 3 if planes.shape[2] >= 3 else 1
    if count == 1:
        chroma = luma
    if luma == chroma and luma in (0, 100):
        return (before if luma == 0 else restored).copy()
    out = before.copy()
    after = restored if restored.ndim == 3 else restored[:, :, None]
    old, new = planes[:, :, :count], after[:, :, :count]
    target = (out if out.ndim == 3 else out[:, :, None])[:, :, :count]
    white = np.iinfo(before.dtype).max if before.dtype.kind == "u" else 1
    usual = _survey(old, new, white)
    height, width = old.shape[:2]
    rows = max(_STRIP_PIXELS // width, 4 * _HALO)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        first, last = max(top - _HALO, 0), min(bottom + _HALO, height)
        inner = slice(top - first, bottom - first)
        strip = _planes(old[first:last]), _planes(new[first:last])
        mixed = _mix(*strip, inner, luma / 100, chroma / 100, usual)
        target[top:bottom] = mixed.transpose(1, 2, 0)
    return out


@dataclass(frozen=True)
class _Usual:
    """What the difference of an image is usually like.

    Attributes:
        deviations: of the luma difference, float32, by brightness: 256 steps from black to white.
        white: the value of white.
        luma: standard deviation of the whole luma difference.
        chroma: that of the remainder's largest channel.
    """

    deviations: _Plane
    white: float
    luma: float
    chroma: float

    def at(self, luma: _Plane) -> _Plane:
        """Return the deviation that is usual where Y is ``luma``."""
        steps = luma * np.float32((_STEPS - 1) / self.white)
        steps = steps.clip(0, _STEPS - 1, out=steps).astype(np.uint8)
        usual: _Plane = self.deviations[steps]
        return usual


def _mix(
    old: _Plane,
    new: _Plane,
    inner: slice,
    luma: float,
    chroma: float,
    usual: _Usual,
) -> _Plane:
    """Return the rows ``inner`` of a strip (C, h, w), rounded for images of integers."""
    white = usual.white
    luma_old, luma_new = _luma(old), _luma(new)
    change = (luma_new - luma_old)[inner]
    weight: Any = min(luma, 1.0)
    if 0 < luma < 1:
        weight = _texture(luma_old, luma_new, usual)[inner]
        weight *= _TEXTURE_K - _NOISE_K
        weight += _NOISE_K
        weight *= 1 - luma
        weight += luma
        np.divide(luma, weight, out=weight)
    before = old[:, inner]
    out = before + weight * change
    if len(old) == 3:
        remainder = new[:, inner] - before
        remainder -= change
        part = min(chroma, 1.0)
        part /= part + _NOISE_K * (1 - part)
        out += remainder if part == 1 else part * remainder
    # Both steps are measured in the same room, so that neither takes the other's.
    steps = []
    if luma > 1:
        step = (luma - 1) * _saturated(change, np.abs(change), usual.luma)
        step *= _left_over(luma_old, luma_new)[inner]
        room = np.where(step > 0, white - out.max(0), out.min(0))
        steps.append(step * _share(room, np.abs(step)))
    if chroma > 1 and len(old) == 3:
        largest = np.abs(remainder).max(0)
        step = _GENTLE * (chroma - 1) * _saturated(remainder, largest, usual.chroma)
        room = np.where(step > 0, white - out, out)
        steps.append(step * _share(room, np.abs(step)).min(0))
    for step in steps:
        out += step
    if white != 1:
        np.rint(out, out=out)
        return out.clip(0, white, out=out)
    # Floating images with noise go beyond black and white, and may stay there.
    return np.clip(out, np.minimum(before, 0), np.maximum(before, 1), out=out)


def _saturated(change: _Plane, size: _Plane, deviation: float) -> _Plane:
    """Return ``change``, made smaller where its ``size`` is unusual."""
    limit = _SATURATION * deviation
    if limit == 0:
        return change
    share = size / limit
    share *= share
    share += 1
    saturated: _Plane = change / np.sqrt(share, out=share)
    return saturated


def _share(room: _Plane, size: _Plane) -> _Plane:
    """Return what share of a step of ``size`` to take, so that it uses a third of its ``room``."""
    share = np.maximum(room, _NOTHING)
    size *= 3
    size += share
    return np.divide(share, size, out=share)


def _texture(old: _Plane, new: _Plane, usual: _Usual) -> _Plane:
    """Tell how much the removed luma looks like texture, 0 to 1, from the luma before and after."""
    removed, kept = _single(old - new), _single(new)
    energy = _mean(removed * removed)
    expected = usual.at(kept)
    texture = _ramp(np.sqrt(energy) / expected, _ENERGY)
    # Correlated with structures that are weaker than noise, it tells nothing: what a model leaves
    # of noise follows what it removes.
    structure = kept - _mean(kept)
    norm = np.sqrt(energy * (_mean(structure * structure) + expected * expected))
    correlation = _mean(removed * structure) / (norm + _NOTHING)
    np.maximum(texture, _ramp(correlation, _CORRELATION), out=texture)
    return cv2.blur(texture, (_SMOOTHING, _SMOOTHING), borderType=cv2.BORDER_REFLECT).clip(0, 1)


def _left_over(old: _Plane, new: _Plane) -> _Plane:
    """Return what share of an extrapolated luma difference to apply: 1 where more of it is left."""
    removed, kept = _single(old - new), _single(new)
    kept = kept - _mean(kept)
    kept *= removed
    # What is left follows what was removed in this proportion; twice is all that is asked for.
    share = _mean(kept) / (_mean(removed * removed) + _NOTHING)
    share *= 2
    share.clip(0, 1, out=share)
    share *= 1 - _GENTLE
    share += _GENTLE
    return share


def _single(plane: _Plane) -> _Plane:
    return plane.astype(np.float32, copy=False)


def _mean(plane: _Plane) -> _Plane:
    return cv2.blur(plane, (_WINDOW, _WINDOW), borderType=cv2.BORDER_REFLECT)


def _ramp(value: _Plane, ends: tuple[float, float]) -> _Plane:
    return ((value - ends[0]) / (ends[1] - ends[0])).clip(0, 1)


def _survey(old: NDArray[Any], new: NDArray[Any], white: float) -> _Usual:
    """Measure what is usual, on the whole image or on sixteen parts of a large one."""
    levels, deviations, squares_luma, squares_chroma = [], [], 0.0, 0.0
    parts = _parts(*old.shape[:2])
    for area in parts:
        before, after = _planes(old[area]), _planes(new[area])
        kept = _single(_luma(after))
        change = kept - _single(_luma(before))
        levels.append(kept[::2, ::2].ravel())  # neighbours tell the same
        deviations.append(np.sqrt(_mean(change * change)[::2, ::2]).ravel())
        squares_luma += float(np.mean(change**2))
        if len(after) == 3:
            remainder = np.abs(after - before - change).max(0)
            squares_chroma += float(np.mean(remainder**2))
    level, deviation = np.concatenate(levels), np.concatenate(deviations)
    edges = np.quantile(level, np.linspace(0, 1, _CLASSES + 1))
    classes = np.searchsorted(edges[1:-1], level, side="right")
    centres, usual = [], []
    for index in range(_CLASSES):
        inside = classes == index
        if inside.any():
            centres.append(float(level[inside].mean()))
            usual.append(max(float(np.quantile(deviation[inside], _QUANTILE)), white / _FLOOR))
    table = np.interp(np.linspace(0, white, _STEPS), centres, usual).astype(np.float32)
    count = len(parts)
    return _Usual(table, white, math.sqrt(squares_luma / count), math.sqrt(squares_chroma / count))


def _parts(height: int, width: int) -> list[tuple[slice, slice]]:
    if height * width <= (_SAMPLES_PER_SIDE * _SAMPLE) ** 2:
        return [(slice(height), slice(width))]
    tops = np.linspace(0, max(height - _SAMPLE, 0), _SAMPLES_PER_SIDE, dtype=int)
    lefts = np.linspace(0, max(width - _SAMPLE, 0), _SAMPLES_PER_SIDE, dtype=int)
    return [(slice(y, y + _SAMPLE), slice(x, x + _SAMPLE)) for y in tops for x in lefts]


def _planes(pixels: NDArray[Any]) -> _Plane:
    """Return (h, w, C) as floating (C, h, w), in which one plane lies behind the other."""
    dtype = np.float64 if pixels.dtype == np.float64 else np.float32
    return np.array(pixels.transpose(2, 0, 1), dtype=dtype, order="C")


def _luma(planes: _Plane) -> _Plane:
    """Y of BT.601, (h, w)."""
    if len(planes) == 1:
        return planes[0]
    red, green, blue = (share * plane for share, plane in zip(_BT601, planes, strict=True))
    return red + green + blue
