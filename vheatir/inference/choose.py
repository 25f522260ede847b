"""Automatic model choice: select a model and its noise level from the image alone.

The rule and its thresholds come from ``studies/automatic/table.py``, which evaluates every model on
every kind of degradation; the results are in docs/photographs.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vheatir.inference.estimate import (
    color_channels,
    color_share,
    estimate_blockiness,
    estimate_sigma,
    estimate_white_sigma,
    flat_share,
    luma_histogram,
)
from vheatir.inference.noise_estimate import NoiseEstimate, estimate_noise
from vheatir.tasks import TASKS

# In the channel differences, white noise of sigma 5 is estimated as at least 4.9; camera noise, and
# white noise after JPEG, as at most 3.
_WHITE = 4.0
# Gray images have no channel differences. Stride-1 details contain at least 0.78 of white noise.
_WHITE_GRAY = 7.0
_WHITE_SHARE = 0.75
# Channel differences underestimate clipped noise; single channels count texture as noise.
_MOST_OVER_DIFFERENCES = 1.15
_GOOD_QUALITY = 92
_CLEAR_BLOCKS = 1.2
# Drawings and text are flat between their lines and have few colours. Photographs are flat only
# after JPEG of low quality: they have block borders and more colours.
_FLAT = 0.5
_FEW_COLORS = 0.03
# White noise leaves no such share of an image flat, not even black, where it is clipped.
_FLAT_WITHOUT_NOISE = 0.9
# Dithered images have few levels of luma, far apart; noise would fill the gaps.
_FEW_LEVELS = 16
_FEW_OF_RANGE = 0.25
# Drawings and text after JPEG: most pixels have one of two colours, which dark photographs have
# too, but not the contrast; weak noise would make neighbours differ. At a good quality every model
# changes their edges more than the compression did.
_FLAT_AFTER_JPEG = 0.1
_TWO_LEVELS = 0.5
_CONTRAST = 100
_RARE = 1e-3
_GOOD_QUALITY_GRAPHICS = 80
# Stronger noise hides compression, and texture reads as noise: not looked for.
_MOST_NOISE = 3.0
# Weaker noise is not visible, and cannot be distinguished from texture.
_CLEAN_LUMA = 1.0
_CLEAN_CHROMA = 0.85


@dataclass(frozen=True)
class Choice:
    """The model chosen for an image, and the measurements behind the choice.

    Attributes:
        model: name of a task, whose best released model is used; None to leave the image unchanged.
        level: noise level (sigma on 0..255) for a model that takes a level, else None.
        message: the finding, such as ``"noise (luma 3.7, chroma 2.5, correlated)"``.
        estimate: the noise estimate.
        blockiness: see :func:`vheatir.inference.estimate.estimate_blockiness`.
        second: another task, whose result is mixed with that of ``model``; None for none.
        share: weight of the result of ``model``, 0.5 to 1; the rest is that of ``second``. None if
            only the results of both can tell, see
            :func:`vheatir.inference.restorer.compare_models`.
        if_compressed: the choice to make instead if the JPEG model's result shows that the image
            was compressed, as that function finds out; None if that is known, or not looked for.
    """

    model: str | None
    level: float | None
    message: str
    estimate: NoiseEstimate
    blockiness: float
    second: str | None = None
    share: float | None = 1.0
    if_compressed: Choice | None = None


def choose_model(
    image: NDArray[Any], quality: int | None = None, codec: str | None = None
) -> Choice:
    """Choose the model for an image.

    The first rule that applies decides:

    1. Few gray levels or colours, as in dithered images: left unchanged.
    2. White noise: the denoiser, at the estimated level.
    3. Screenshots, drawings and text, which are flat between their lines: left unchanged, as JPEG
       from quality 80 on.
    4. Compressed images (by JPEG, or by another codec): the JPEG model, that for ``photo``, or
       both, whose results are mixed; :func:`vheatir.inference.restorer.compare_models` decides.
       Graphics: the JPEG model.
    5. Almost no noise: left unchanged.
    6. Everything else: the model for the task ``photo``.

    An image that was resized after compression shows no blocks. If it has little noise, rules 5 and
    6 therefore name a choice by rule 4 too (``if_compressed``), between which
    :func:`vheatir.inference.restorer.compare_models` decides.

    Args:
        image: (H, W), (H, W, 3) RGB, or either with alpha (which is ignored), ``uint8`` or
            ``uint16``, or floating in [0, 1]. Gray stored as RGB counts as gray.
        quality: JPEG quality of the source file, see
            :func:`vheatir.inference.estimate.jpeg_quality`; None for other files.
        codec: the other codec that compressed the source file with loss, such as ``"WebP"``.

    Example:
        >>> import numpy as np
        >>> from vheatir.bundled import heldout_photographs
        >>> from vheatir.degradations import jpeg_compress
        >>> photograph = heldout_photographs()["coffee"]
        >>> choose_model(jpeg_compress(photograph, 20)).model
        'jpeg_color'
        >>> choose_model(np.zeros((64, 64), np.uint8)).message
        'no damage: flat areas without noise'
    """
    colors = color_channels(image)
    color = "gray" if colors.ndim == 2 else "color"
    estimate = estimate_noise(colors)
    blockiness = estimate_blockiness(colors)

    def left(message: str) -> Choice:
        return Choice(None, None, message, estimate, blockiness)

    levels, flat = luma_histogram(colors), flat_share(colors)
    flat_message = "no damage: flat areas without noise"
    if _has_few_levels(levels):
        return left(flat_message if flat >= _FLAT else "no damage: few colours")
    sigma = _white_sigma(colors, estimate)
    if sigma is not None and flat < _FLAT_WITHOUT_NOISE:
        level = min(sigma, (TASKS[f"denoise_{color}"].level_range or (0.0, sigma))[1])
        message = f"white noise of sigma {sigma:.1f}"
        return Choice(f"denoise_{color}", level, message, estimate, blockiness)
    low_quality = quality is not None and quality <= _GOOD_QUALITY
    # Other codecs do not flatten blocks of photographs.
    if not low_quality and flat >= _FLAT and (codec or _is_drawn(colors, blockiness)):
        return left(flat_message)
    source = f"JPEG of quality {quality}" if quality else f"{codec} compression" if codec else ""
    graphics = flat >= _FLAT_AFTER_JPEG and _has_two_levels(levels)
    if graphics and (codec or (quality is not None and quality >= _GOOD_QUALITY_GRAPHICS)):
        return left(f"graphics, {source}")

    def compressed(message: str) -> Choice:
        jpeg = f"jpeg_{color}"
        return Choice(jpeg, None, message, estimate, blockiness, second="photo", share=None)

    if graphics and low_quality:
        return Choice(f"jpeg_{color}", None, source, estimate, blockiness)
    if low_quality or codec or blockiness >= _CLEAR_BLOCKS:
        return compressed(source or f"JPEG blocks ({blockiness:.2f})")
    looked_for = estimate.luma <= _MOST_NOISE and not graphics
    hidden = compressed("compression artifacts") if looked_for else None
    if estimate.luma <= _CLEAN_LUMA and estimate.chroma <= _CLEAN_CHROMA:
        return replace(left("no damage"), if_compressed=hidden)
    message = f"noise ({estimate})" + (f", {source}" if source else "")
    return Choice("photo", None, message, estimate, blockiness, if_compressed=hidden)


def _white_sigma(colors: NDArray[Any], estimate: NoiseEstimate) -> float | None:
    """Return the sigma of white noise on 0..255; None if the noise is weak or not white."""
    if colors.ndim == 3:
        differences = estimate_white_sigma(colors)
        if differences < _WHITE:
            return None
        return min(estimate_sigma(colors), _MOST_OVER_DIFFERENCES * differences)
    # Both are 0 in small images, which are not measured, and on pages with blank areas.
    if estimate.luma_scales[0] <= _WHITE_SHARE * estimate.luma:
        return None
    sigma = estimate_sigma(colors)
    return sigma if sigma >= _WHITE_GRAY else None


def _has_few_levels(levels: NDArray[np.float64]) -> bool:
    """Whether a luma histogram has few levels, with gaps between them."""
    used = np.flatnonzero(levels)
    return 1 < used.size <= min(_FEW_LEVELS, _FEW_OF_RANGE * (used[-1] - used[0] + 1))


def _has_two_levels(levels: NDArray[np.float64]) -> bool:
    """Whether most pixels are near one of two levels of luma, in an image of high contrast."""
    used = np.flatnonzero(levels >= _RARE)
    near = np.convolve(levels, np.ones(5), "same")  # fraction of pixels within 2 of each level
    first = int(near.argmax())
    second = np.convolve(np.where(abs(np.arange(256) - first) > 2, levels, 0), np.ones(5)).max()
    return bool(near[first] + second >= _TWO_LEVELS and used[-1] - used[0] >= _CONTRAST)


def _is_drawn(colors: NDArray[Any], blockiness: float) -> bool:
    """Whether a flat image is a screenshot, a drawing or text, with nothing to restore."""
    if blockiness < _CLEAR_BLOCKS:
        return True
    # Gray photographs have few colours too.
    return colors.ndim == 3 and color_share(colors) <= _FEW_COLORS
