"""Camera noise after in-camera processing.

Shot and read noise arise on the sensor's mosaic and pass through demosaicing, white balance, colour
matrix and tone curve, as in Brooks et al., "Unprocessing Images for Learned Raw Denoising" (CVPR
2019, arXiv 1811.11127). Then the camera filters luma and, much more strongly, chroma, and sharpens.
The remaining noise is blotchy and coloured, strongest in the dark tones, and stronger at edges,
which the camera's filters spare, than in smooth areas. Its strength is therefore drawn at the end
of the pipeline, not at the sensor, and luma and chroma are scaled to it.

The noise has zero mean everywhere: the tone curve is linearised (applied by its slope), so that the
noisy photograph keeps the brightness and colour of the clean one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.colors import BT601_YCC
from vheatir.degradations._filters import (
    FloatImage,
    blur,
    gradient_magnitude,
    log_uniform,
    stack,
    transform,
)
from vheatir.metrics import to_uint8

Demosaicing = Literal["none", "bilinear", "edge-aware", "malvar"]

#: Gray level, on 0..255, at which the noise has the drawn strength.
REFERENCE_GRAY = 96

_DEMOSAICINGS: tuple[Demosaicing, ...] = ("none", "bilinear", "edge-aware", "malvar")
# Probabilities of the four; "none" covers downscaled photographs and sensors without a mosaic.
_DEMOSAICING_PROBABILITIES = (0.15, 0.25, 0.35, 0.25)
# OpenCV names a mosaic by the second and third pixel of the second row.
_CODES = {
    (name, phase): getattr(cv2, f"COLOR_Bayer{mosaic}2RGB{suffix}")
    for name, suffix in (("bilinear", ""), ("edge-aware", "_EA"))
    for phase, mosaic in enumerate(("BG", "GB", "GR", "RG"))
}
# Raw values for OpenCV's 16-bit demosaicing: black and the distance from black to white.
_RAW_BLACK, _RAW_WHITE = 8192.0, 40960.0

_FROM_YCC = np.linalg.inv(BT601_YCC.astype(np.float64)).astype(np.float32)

# Tone curves are cached as tables, so their parameters are drawn from a grid.
_CONTRASTS = (0.5, 0.75, 1.0)
_SHOULDERS = (1.0, 1.5, 2.0, 3.0)
_MAX_RELATIVE = 2.0
_MAX_CHROMA_STD = 12.0

# Edges: the blur before the gradient, in pixels, and the slope that counts half, in gray levels per
# pixel. In three sets of real noise, the median image has 1.1 to 1.8 times the luma noise of smooth
# areas at slopes of 4 to 8, and 1.3 to 2.3 times at 8 to 16.
_EDGE_BLUR = 1.5
_EDGE_SLOPE = 8.0
_MAX_EDGE_GAIN = 2.0
# Above REFERENCE_GRAY, beyond what the tone curve explains. At gray levels of 160 to 192 the median
# image of the three sets has 0.36 to 0.63 of the luma noise at 64 to 96.
_MAX_HIGHLIGHT_LOSS = 1.2


@dataclass(frozen=True)
class CameraNoise:
    """Noise parameters of one camera at one sensitivity.

    Attributes:
        luma_std: standard deviation of the luma noise on smooth areas of gray level
            :data:`REFERENCE_GRAY`, after all processing, on 0..255.
        blue_ratio: ratio of the standard deviation of Cb to that of luma.
        red_ratio: the same for Cr.
        shot: variance of the shot noise on the sensor, relative to the signal (white is 1).
        read: variance of the read noise on the sensor.
        gains: white balance gains of red and blue relative to green.
        saturation: strength of the colour matrix; 0 is the identity.
        contrast: contrast of the tone curve, 0 (sRGB) to 1 (smoothstep of sRGB).
        shoulder: exponent of the tone curve, at least 1, that compresses the highlights.
        demosaicing: demosaicing algorithm.
        phase: position of the red pixel in the 2x2 mosaic, 0 to 3.
        luma_blur: standard deviation of the Gaussian filter of luma in pixels.
        luma_tail: weight of a luma filter four times as wide.
        chroma_blur: standard deviation of the Gaussian filter of chroma in pixels.
        chroma_tail: weight of a chroma filter three times as wide.
        sharpening: weight of an unsharp mask on luma.
        edge_gain: relative increase of the noise at strong edges, 0 for none.
        highlight_loss: exponent of the decrease of the noise above :data:`REFERENCE_GRAY`, with the
            inverse of the gray level; 0 for none.
    """

    luma_std: float
    blue_ratio: float
    red_ratio: float
    shot: float
    read: float
    gains: tuple[float, float]
    saturation: float
    contrast: float
    shoulder: float
    demosaicing: Demosaicing
    phase: int
    luma_blur: float
    luma_tail: float
    chroma_blur: float
    chroma_tail: float
    sharpening: float
    edge_gain: float
    highlight_loss: float

    @classmethod
    def draw(cls, rng: np.random.Generator, luma_std: float | None = None) -> CameraNoise:
        """Draw random parameters.

        Args:
            rng: random generator.
            luma_std: see the attribute; None to draw it log-uniformly from 0.7 to 14.
        """
        std = log_uniform(rng, 0.7, 14.0) if luma_std is None else luma_std
        # Cameras filter strong chroma noise out; stronger noise would hide coloured texture.
        ratio = min(log_uniform(rng, 0.35, 2.0), _MAX_CHROMA_STD / std)
        tilt = log_uniform(rng, 0.8, 1.25)
        shot = log_uniform(rng, 1e-4, 0.012)
        return cls(
            luma_std=std,
            blue_ratio=ratio * tilt,
            red_ratio=ratio / tilt,
            shot=shot,
            # Brooks et al., section 3.1
            read=math.exp(2.18 * math.log(shot) + 1.2 + 0.26 * float(rng.standard_normal())),
            gains=(float(rng.uniform(1.9, 2.4)), float(rng.uniform(1.5, 1.9))),
            saturation=float(rng.uniform(0.2, 0.9)),
            contrast=float(rng.choice(_CONTRASTS)),
            shoulder=float(rng.choice(_SHOULDERS)),
            demosaicing=_DEMOSAICINGS[int(rng.choice(4, p=_DEMOSAICING_PROBABILITIES))],
            phase=int(rng.integers(4)),
            luma_blur=float(rng.uniform(0.2, 0.95)),
            luma_tail=float(rng.uniform(0.05, 0.7)) if rng.random() < 0.35 else 0.0,
            chroma_blur=log_uniform(rng, 0.6, 4.0),
            chroma_tail=float(rng.uniform(0.0, 0.75)),
            sharpening=float(rng.uniform(0.1, 0.8)) if rng.random() < 0.35 else 0.0,
            edge_gain=float(rng.uniform(0.0, _MAX_EDGE_GAIN)),
            highlight_loss=float(rng.uniform(0.0, _MAX_HIGHLIGHT_LOSS)),
        )


def add_camera_noise(
    image: FloatImage, camera: CameraNoise, rng: np.random.Generator
) -> FloatImage:
    """Add the noise of a camera to a clean photograph.

    Args:
        image: ``float32`` in [0, 1], (H, W, 3) RGB; or (H, W) gray, which gets luma noise only.
        camera: noise parameters.
        rng: random generator.

    Returns:
        ``float32`` of the same shape, neither clipped nor rounded.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> photograph = np.full((64, 96, 3), 0.5, np.float32)
        >>> noisy = add_camera_noise(photograph, CameraNoise.draw(rng, luma_std=5), rng)
        >>> noisy.shape, noisy.dtype
        ((64, 96, 3), dtype('float32'))
    """
    gray = image.ndim == 2
    rgb = stack(image, image, image) if gray else image
    values = to_uint8(rgb)
    linear, slope = _tone_tables(camera.contrast, camera.shoulder)
    matrix = _color_matrix(camera.saturation)
    gains = np.array([camera.gains[0], 1.0, camera.gains[1]], np.float32)
    # To sensor values: invert tone curve, colour matrix and white balance.
    raw = transform(linear[values], np.linalg.inv(matrix).astype(np.float32))
    raw = np.maximum(raw, 0, out=raw)
    raw /= gains
    noise = _sensor_noise(raw, camera, rng)
    # Apply them again, to the noise alone.
    noise = transform(noise * gains, matrix.astype(np.float32))
    noise *= slope[values]
    noise = transform(noise, BT601_YCC)
    luma = _filter_luma(noise[..., 0], camera)
    # Normalise by the expected strength at the gray levels of this crop.
    relative = _relative_strength(linear, slope, camera)
    luma_values = cv2.cvtColor(values, cv2.COLOR_RGB2GRAY)
    expected = float(np.sqrt(np.mean(np.square(relative[luma_values]), dtype=np.float64)))
    target = camera.luma_std / 255 * expected
    luma *= _scale(luma, target)
    gain = _filter_gain(np.asarray(luma_values, np.float32), camera)
    luma *= gain
    if gray:
        return image + luma
    chroma = _filter_chroma(np.ascontiguousarray(noise[..., 1:]), camera)
    chroma[..., 0] *= _scale(chroma[..., 0], target * camera.blue_ratio)
    chroma[..., 1] *= _scale(chroma[..., 1], target * camera.red_ratio)
    chroma *= gain[..., None]
    colored = transform(stack(luma, chroma[..., 0], chroma[..., 1]), _FROM_YCC)
    colored += image
    return colored


def _sensor_noise(raw: FloatImage, camera: CameraNoise, rng: np.random.Generator) -> FloatImage:
    """Return shot and read noise of raw colours (H, W, 3) after demosaicing."""
    signal = raw if camera.demosaicing == "none" else _mosaic(raw, camera.phase)
    noise = rng.standard_normal(signal.shape, dtype=np.float32)
    noise *= np.sqrt(camera.shot * signal + np.float32(camera.read))
    if camera.demosaicing == "none":
        return noise
    if camera.demosaicing == "malvar":  # linear, so the noise can be demosaiced alone
        return _demosaic_malvar(noise, camera.phase)
    code = _CODES[camera.demosaicing, camera.phase]
    noisy, clean = (
        cv2.cvtColor(np.rint(m * _RAW_WHITE + _RAW_BLACK).clip(0, 65535).astype(np.uint16), code)
        for m in (signal + noise, signal)
    )
    difference = noisy.astype(np.float32)
    difference -= clean
    difference /= _RAW_WHITE
    return difference


def _mosaic(raw: FloatImage, phase: int) -> FloatImage:
    """Keep one colour per pixel; red is at (phase // 2, phase % 2) of each 2x2 cell."""
    top, left = divmod(phase, 2)
    mosaic = raw[..., 1].copy()
    mosaic[top::2, left::2] = raw[top::2, left::2, 0]
    mosaic[1 - top :: 2, 1 - left :: 2] = raw[1 - top :: 2, 1 - left :: 2, 2]
    return mosaic


# Malvar, He and Cutler, "High-quality linear interpolation for demosaicing of Bayer-patterned color
# images" (ICASSP 2004), figure 2: green at red and blue pixels; red or blue at green pixels whose
# neighbours in the row have that colour (transposed: in the column); red at blue and blue at red.
_MALVAR_GREEN = np.array(
    [[0, 0, -1, 0, 0], [0, 0, 2, 0, 0], [-1, 2, 4, 2, -1], [0, 0, 2, 0, 0], [0, 0, -1, 0, 0]],
    np.float32,
) / np.float32(8)
_MALVAR_ROW = np.array(
    [[0, 0, 0.5, 0, 0], [0, -1, 0, -1, 0], [-1, 4, 5, 4, -1], [0, -1, 0, -1, 0], [0, 0, 0.5, 0, 0]],
    np.float32,
) / np.float32(8)
_MALVAR_CROSS = np.array(
    [[0, 0, -1.5, 0, 0], [0, 2, 0, 2, 0], [-1.5, 0, 6, 0, -1.5], [0, 2, 0, 2, 0],
     [0, 0, -1.5, 0, 0]],
    np.float32,
) / np.float32(8)  # fmt: skip


def _demosaic_malvar(mosaic: FloatImage, phase: int) -> FloatImage:
    """Demosaic (H, W) to (H, W, 3) with the linear filters of Malvar, He and Cutler."""
    green, row, column, cross = (
        np.asarray(cv2.filter2D(mosaic, -1, kernel, borderType=cv2.BORDER_REFLECT_101), np.float32)
        for kernel in (_MALVAR_GREEN, _MALVAR_ROW, _MALVAR_ROW.T.copy(), _MALVAR_CROSS)
    )
    # Red, green and blue of the four pixels of each 2x2 cell, by their place relative to red.
    cell = {
        (0, 0): (mosaic, green, cross),
        (0, 1): (row, mosaic, column),
        (1, 0): (column, mosaic, row),
        (1, 1): (cross, green, mosaic),
    }
    top, left = divmod(phase, 2)
    out = np.empty((*mosaic.shape, 3), np.float32)
    for (down, right), colors in cell.items():
        place = (slice((top + down) % 2, None, 2), slice((left + right) % 2, None, 2))
        for channel, plane in enumerate(colors):
            out[(*place, channel)] = plane[place]
    return out


def _filter_luma(luma: FloatImage, camera: CameraNoise) -> FloatImage:
    """Filter and sharpen the luma noise (H, W)."""
    filtered = blur(luma, camera.luma_blur)
    if camera.luma_tail:
        # A filter four times as wide leaves a quarter of the standard deviation of noise.
        wide = blur(luma, 4 * max(camera.luma_blur, 0.5))
        filtered += np.float32(4 * camera.luma_tail) * wide
    if camera.sharpening:
        blurred = blur(filtered, 1.0)
        filtered += np.float32(camera.sharpening) * (filtered - blurred)
    return filtered


def _filter_chroma(chroma: FloatImage, camera: CameraNoise) -> FloatImage:
    """Filter the chroma noise (H, W, 2) with a narrow and a wide Gaussian."""
    narrow = blur(chroma, camera.chroma_blur)
    # A filter three times as wide leaves a third of the standard deviation of noise.
    wide = blur(narrow, math.sqrt(8) * camera.chroma_blur)
    return narrow + np.float32(3 * camera.chroma_tail) * wide


def _filter_gain(luma: FloatImage, camera: CameraNoise) -> FloatImage:
    """Return the factor of the noise at each pixel (H, W), for clean luma (H, W) on 0..255.

    1 on smooth areas up to :data:`REFERENCE_GRAY`, more at edges, less in highlights.
    """
    blurred = blur(luma, _EDGE_BLUR)
    slope = gradient_magnitude(blurred)
    slope /= slope + np.float32(_EDGE_SLOPE)
    gain = 1 + np.float32(camera.edge_gain) * slope
    relative = np.maximum(blurred, REFERENCE_GRAY) / np.float32(REFERENCE_GRAY)
    gain *= cv2.pow(relative, -camera.highlight_loss)
    return gain


def _scale(noise: FloatImage, std: float) -> np.float32:
    """Return the factor that scales the RMS of ``noise`` to ``std``."""
    own = float(cv2.norm(noise, cv2.NORM_L2)) / math.sqrt(max(noise.size, 1))
    return np.float32(std / own if own > 0 else 0.0)


def _relative_strength(linear: FloatImage, slope: FloatImage, camera: CameraNoise) -> FloatImage:
    """Return the noise at gray levels 0..255 relative to that at :data:`REFERENCE_GRAY`, (256,)."""
    # The raw channels of a gray pixel differ only by the gains; green represents all three.
    noise = slope * np.sqrt(camera.shot * linear + np.float32(camera.read))
    return np.minimum(noise / noise[REFERENCE_GRAY], np.float32(_MAX_RELATIVE))


@cache
def _tone_tables(contrast: float, shoulder: float) -> tuple[FloatImage, FloatImage]:
    """Return linear value and slope of a tone curve at the display values 0..255.

    The sRGB curve after a shoulder, blended with its smoothstep: as in cameras, highlights are
    compressed and contrast is raised.
    """
    linear = np.linspace(0, 1, 1 << 16)
    pushed = 1 - (1 - linear) ** shoulder
    srgb = np.where(pushed <= 0.0031308, 12.92 * pushed, 1.055 * pushed ** (1 / 2.4) - 0.055)
    display = (1 - contrast) * srgb + contrast * srgb**2 * (3 - 2 * srgb)
    at = np.arange(256) / 255
    slope = np.gradient(display, linear)
    inverse = np.interp(at, display, linear)
    return inverse.astype(np.float32), np.interp(at, display, slope).astype(np.float32)


def _color_matrix(saturation: float) -> NDArray[np.float64]:
    """Return a camera-to-sRGB matrix that keeps gray and subtracts the other channels."""
    others = np.array([[0, 0.75, 0.25], [0.35, 0, 0.65], [0.1, 0.9, 0]])
    return (1 + saturation) * np.eye(3) - saturation * others
