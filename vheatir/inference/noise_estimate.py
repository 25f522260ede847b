"""How strong the noise of an image is where neighbouring pixels share it, as in photographs.

:func:`vheatir.inference.estimate.estimate_sigma` looks at the finest details alone. White noise is
as strong there as anywhere; the noise of a camera, after demosaicing, filtering and JPEG, has
almost nothing there. Here details of several scales are measured, luma and chroma apart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_CROP = 448
_CROPS_PER_SIDE = 3
_MIN_SIDE = 48

_BLUR = 3.0  # before the gradient is taken, in pixels
_SMOOTH = 0.4  # share of the blocks judged, those with the smallest gradient
_FEWEST = 0.05  # share of the blocks without black or white pixels; if fewer, all are judged
_PER_GROUP = 60  # blocks judged for each group of like brightness
_MOST_GROUPS = 5
_LARGEST_RATIO = 2.0  # of a group's noise to that of the quieter groups; above, it is texture

# The quantile of correlated noise is lower still, the more so the less the finest scale holds.
_CORRELATED_GAIN = 0.2

# Where the finest scale holds less than this share of the noise, neighbours share it.
_WHITE = 0.7
_VISIBLE = 0.5  # of 255; below, nobody needs to know how the noise is correlated


@dataclass(frozen=True)
class _Method:
    """How one kind of plane is measured.

    Attributes:
        step: of the rows and columns that are measured.
        strides: of the details, in pixels of the plane.
        block: side of the blocks, in pixels of the plane.
        quantile: of the energies of the blocks that is taken for that of the noise alone.
        largest_step: how much stronger the coarsest details may be than those before them.
        gain: by which the quantile is too low, on white noise.
    """

    step: int
    strides: tuple[int, int, int]
    block: int
    quantile: float
    largest_step: float
    gain: float


_STRIDES = (1, 2, 4)
_LUMA = _Method(1, _STRIDES, block=16, quantile=0.03, largest_step=1.75, gain=1.07)
# Every fourth row and column: filtered chroma noise is wide, and shows in wide details alone.
_CHROMA_STEP = 4
_CHROMA = _Method(_CHROMA_STEP, _STRIDES, block=8, quantile=0.15, largest_step=2.0, gain=1.05)


@dataclass(frozen=True)
class NoiseEstimate:
    """The noise of an image, on the scale 0..255.

    Attributes:
        luma: standard deviation of Y (BT.601) in smooth areas.
        chroma: the same for Cb and Cr, root mean square; 0 for gray images.
        correlated: whether neighbouring pixels share it, as after a camera's processing, a filter
            or JPEG; False for white noise, and where there is next to none.
        luma_scales: standard deviation of the luma details of strides 1, 2 and 4 pixels; equal for
            white noise, rising for correlated noise.
        chroma_scales: the same for chroma, of strides 4, 8 and 16.
    """

    luma: float
    chroma: float
    correlated: bool
    luma_scales: tuple[float, float, float]
    chroma_scales: tuple[float, float, float]

    def describe(self) -> str:
        """Return it for the user: ``"luma 3.7, chroma 2.5, correlated"``."""
        parts = [f"luma {self.luma:.1f}"]
        if self.chroma >= 0.05:  # a gray image stored as RGB has rounding alone
            parts.append(f"chroma {self.chroma:.1f}")
        if self.correlated:
            parts.append("correlated")
        return ", ".join(parts)

    __str__ = describe


def estimate_noise(image: NDArray[Any]) -> NoiseEstimate:
    """Estimate white and correlated noise, of luma and chroma apart.

    Second differences along rows and columns (Immerkær, "Fast noise variance estimation", 1996) of
    sub-images of stride 1, 2 and 4 (chroma: 4, 8 and 16) see the noise at three scales: what
    neighbours share is independent in a sub-image of large enough a stride. Their energies are
    taken over blocks, of which those count that are smooth when blurred and neither black nor
    white. Noise depends on brightness, so the blocks are grouped by it; a low quantile of each
    group is taken for noise alone, since texture only adds. The second stride gives the strength,
    and the third what it misses, as far as noise of cameras goes. Fine texture all over the
    image counts as noise. Images of more than nine crops of 448 x 448 are judged by these.

    Args:
        image: (H, W), (H, W, 1) or (H, W, 3) RGB, ``uint8`` or ``uint16``, or floating with black
            at 0 and white at 1; without alpha.

    Returns:
        All zero for an image of fewer than 48 pixels along a side.
    """
    if min(image.shape[:2]) < _MIN_SIDE:
        return NoiseEstimate(0.0, 0.0, False, (0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    white = np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1
    planes = _planes(_crops(image), 255 / white)
    luma, luma_scales = _strength([planes.luma], planes, _LUMA)
    chroma, chroma_scales = 0.0, (0.0, 0.0, 0.0)
    if planes.chroma:
        chroma, chroma_scales = _strength(planes.chroma, planes, _CHROMA)
    correlated = luma >= _VISIBLE and luma_scales[0] < _WHITE * luma
    return NoiseEstimate(luma, chroma, correlated, luma_scales, chroma_scales)


@dataclass(frozen=True)
class _Planes:
    """What is measured, each (crops, h, w)."""

    luma: NDArray[np.float32]
    chroma: tuple[NDArray[np.float32], ...]  # every fourth row and column; none for gray
    gradient: NDArray[np.float32]  # of the blurred luma
    clipped: NDArray[np.float32]  # 1 where a channel is black or white


def _crops(image: NDArray[Any]) -> list[NDArray[Any]]:
    """Return the image, or evenly spread crops of a large one, each (h, w, C) and of one shape."""
    channels = image if image.ndim == 3 else image[..., None]
    height, width = channels.shape[:2]
    if height * width <= (_CROP * _CROPS_PER_SIDE) ** 2:
        return [channels]
    tops = np.linspace(0, max(height - _CROP, 0), _CROPS_PER_SIDE, dtype=int)
    lefts = np.linspace(0, max(width - _CROP, 0), _CROPS_PER_SIDE, dtype=int)
    return [
        channels[y : y + _CROP, x : x + _CROP] for y in np.unique(tops) for x in np.unique(lefts)
    ]


def _planes(crops: Sequence[NDArray[Any]], scale: float) -> _Planes:
    lumas, gradients, clipped = [], [], []
    chroma: tuple[list[Any], ...] = ([], []) if crops[0].shape[2] == 3 else ()
    for crop in crops:
        pixels = np.array(crop, np.float32, order="C")
        pixels *= np.float32(scale)
        clipped.append(((pixels <= 0) | (pixels >= 255)).any(axis=2).astype(np.float32))
        if pixels.shape[2] == 3:
            luma, *differences = cv2.split(cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb))
            for planes, plane in zip(chroma, differences, strict=True):
                planes.append(plane[::_CHROMA_STEP, ::_CHROMA_STEP])
        else:
            luma = pixels[..., 0]
        lumas.append(luma)
        blurred = cv2.GaussianBlur(luma, (0, 0), _BLUR)
        rows, columns = cv2.Sobel(blurred, -1, 0, 1), cv2.Sobel(blurred, -1, 1, 0)
        gradients.append(cv2.magnitude(rows, columns))
    stacked = tuple(np.stack(planes) for planes in chroma)
    return _Planes(np.stack(lumas), stacked, np.stack(gradients), np.stack(clipped))


def _strength(
    measured: Sequence[NDArray[np.float32]], planes: _Planes, method: _Method
) -> tuple[float, tuple[float, float, float]]:
    """Return the standard deviation of the noise and of its scales, root mean square of planes."""
    blocks = _Blocks.of(measured[0].shape, method)
    groups, weights = _groups(
        blocks.means(planes.gradient, method.step),
        blocks.means(planes.clipped, method.step),
        blocks.means(planes.luma, method.step),
    )
    variances = np.zeros(len(method.strides))
    for plane in measured:
        for index, stride in enumerate(method.strides):
            energies = blocks.means(_energy(plane, stride), margin=blocks.margin - stride)
            quiet = np.array([np.quantile(energies[group], method.quantile) for group in groups])
            limit = _LARGEST_RATIO**2 * np.quantile(quiet, 0.2)
            variances[index] += weights @ np.minimum(quiet, limit) / len(measured)
    fine, middle, coarse = (float(value) for value in method.gain * np.sqrt(variances))
    strength = min(max(coarse, middle), method.largest_step * middle)
    if strength > 0:
        strength *= 1 + _CORRELATED_GAIN * max(1 - fine / strength, 0)
    return strength, (fine, middle, coarse)


@dataclass(frozen=True)
class _Blocks:
    """A grid of square blocks over planes (crops, h, w), so far inside that details reach them."""

    rows: int
    columns: int
    side: int
    margin: int

    @classmethod
    def of(cls, shape: tuple[int, ...], method: _Method) -> _Blocks:
        margin = method.strides[-1]
        height, width = (length - 2 * margin for length in shape[1:])
        side = min(method.block, height // 2, width // 2)
        return cls(height // side, width // side, side, margin)

    def means(
        self, plane: NDArray[np.float32], step: int = 1, margin: int | None = None
    ) -> NDArray[np.float32]:
        """Average each block; ``step`` is how much finer the plane is than the grid."""
        side = self.side * step
        start = (self.margin if margin is None else margin) * step
        rows, columns = self.rows * side, self.columns * side
        inside = plane[:, start : start + rows, start : start + columns]
        split = inside.reshape(len(plane), self.rows, side, self.columns, side)
        return np.asarray(split.sum(axis=4).mean(axis=2) / side).ravel()


def _energy(plane: NDArray[np.float32], stride: int) -> NDArray[np.float32]:
    """Return the squared second differences along both axes, for white noise its variance."""
    rows = plane[:, 2 * stride :] + plane[:, : -2 * stride]
    rows -= 2 * plane[:, stride:-stride]
    both = rows[..., 2 * stride :] + rows[..., : -2 * stride]
    both -= 2 * rows[..., stride:-stride]
    both *= np.float32(1 / 6)
    return np.square(both, out=both)


def _groups(
    gradient: NDArray[np.float32], clipped: NDArray[np.float32], luma: NDArray[np.float32]
) -> tuple[list[NDArray[np.intp]], NDArray[np.float64]]:
    """Choose smooth blocks; return groups of like brightness, and the share of each."""
    usable = np.flatnonzero(clipped == 0)
    if usable.size < _FEWEST * clipped.size:
        usable = np.arange(clipped.size)
    smooth = usable[gradient[usable] <= np.quantile(gradient[usable], _SMOOTH)]
    count = min(max(smooth.size // _PER_GROUP, 1), _MOST_GROUPS)
    groups = np.array_split(smooth[np.argsort(luma[smooth])], count)
    return groups, np.array([group.size / smooth.size for group in groups])
