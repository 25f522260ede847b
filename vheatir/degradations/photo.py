"""Degradation pipeline of the task ``photo``: from the lens to an upload.

Camera noise and other noise, resizing and JPEG compression, each with a probability, in random
order with JPEG usually last, similar to SCUNet (Zhang et al., arXiv 2203.13278) and BSRGAN (Zhang
et al., ICCV 2021). The clean target is resized too, so that input and target agree in colour,
brightness and position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.degradations._filters import FloatImage, blur, log_uniform, transform
from vheatir.degradations.basic import JPEG_UNIT, Subsampling, jpeg_compress
from vheatir.degradations.camera import CameraNoise, add_camera_noise
from vheatir.metrics import to_uint8

_SUBSAMPLINGS: tuple[Subsampling, ...] = ("4:2:0", "4:2:0", "4:4:4", "4:4:4", "4:2:2")
_INTERPOLATIONS = (cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC)
# Larger factors are for photographs as soft as a camera's files are at 100 %, whose noise is finer
# than their content: they are enlarged before anything else.
_MAX_NOISE_ENLARGEMENT = 1.5


@dataclass(frozen=True)
class PhotoDegradation:
    """Probabilities and ranges of the pipeline.

    Attributes:
        clean: fraction of samples without degradation.
        gray: fraction of gray samples (input and target).
        camera_noise: probability of camera noise, see :class:`CameraNoise`.
        white_noise: probability of Gaussian noise, independent in every pixel and channel.
        gray_noise: probability of Gaussian noise, equal in all channels.
        correlated_noise: probability of Gaussian noise that is correlated between channels.
        blurred_noise: probability of Gaussian noise blurred with a Gaussian of 0.4 to 1.5 pixels.
        poisson_noise: probability of noise with a variance proportional to the brightness.
        film_grain: probability of gray, slightly blurred noise that is strongest in the mid-tones.
        sigma: range of the standard deviation on 0..255 of all noise except camera noise;
            log-uniform.
        resize: probability that input and target are resized.
        resize_range: range of the resize factor; log-uniform. Enlargement by more than 1.5
            precedes all degradations; other resizing takes a random place among them.
        jpeg: probability of JPEG compression.
        second_jpeg: probability of a second compression, given the first.
        jpeg_last: probability that the last compression follows all other degradations.
        quality: range of the JPEG quality; uniform.
        low_quality: range of the JPEG quality of strong compressions; uniform.
        low_quality_share: fraction of strong compressions.
    """

    clean: float = 0.07
    gray: float = 0.08
    camera_noise: float = 0.55
    white_noise: float = 0.12
    gray_noise: float = 0.04
    correlated_noise: float = 0.04
    blurred_noise: float = 0.08
    poisson_noise: float = 0.05
    film_grain: float = 0.05
    sigma: tuple[float, float] = (1.5, 50.0)
    resize: float = 0.35
    resize_range: tuple[float, float] = (0.6, 4.0)
    jpeg: float = 0.75
    second_jpeg: float = 0.2
    jpeg_last: float = 0.85
    quality: tuple[int, int] = (70, 98)
    low_quality: tuple[int, int] = (15, 70)
    low_quality_share: float = 0.3


@dataclass
class _Sample:
    """Target and input in the pipeline: (H, W, 3), or (H, W) for gray."""

    target: FloatImage
    input: FloatImage
    scale: float
    what: PhotoDegradation
    rng: np.random.Generator

    def normal(self, *, gray: bool) -> FloatImage:
        """Return standard normal noise: gray, or independent in each channel of the input."""
        shape = self.input.shape[:2] if gray else self.input.shape
        return self.rng.standard_normal(shape, dtype=np.float32)

    def add(self, noise: FloatImage) -> None:
        """Add noise to the input; gray noise (H, W) to each of its channels."""
        if noise.ndim < self.input.ndim:
            noise = noise[..., None]
        self.input = self.input + noise

    def draw_sigma(self) -> np.float32:
        """Draw the standard deviation of noise, on 0..1."""
        return np.float32(log_uniform(self.rng, *self.what.sigma) / 255)


_Step = Callable[[_Sample], None]


def degrade_photo(
    clean: NDArray[np.uint8],
    size: int,
    what: PhotoDegradation,
    rng: np.random.Generator,
    scale: float = 1.0,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Generate one training pair: a degraded photograph and its target.

    Args:
        clean: (S, S, 3) ``uint8`` RGB, with S =
            :meth:`vheatir.degradations.DegradationRange.source_size`.
        size: side of the sample.
        what: probabilities and ranges.
        rng: random generator of this sample.
        scale: resize factor, see :meth:`vheatir.degradations.DegradationRange.draw_scale`.

    Returns:
        Input and target, both (size, size, 3) ``uint8``.
    """
    gray = rng.random() < what.gray
    source = cv2.cvtColor(clean, cv2.COLOR_RGB2GRAY) if gray else clean
    target = source.astype(np.float32)
    target /= np.float32(255)
    sample = _Sample(target, target, scale, what, rng)
    if rng.random() >= what.clean:
        for step in _draw_steps(sample):
            step(sample)
    elif scale != 1.0:
        _resize(sample)
    height, width = sample.target.shape[:2]
    top, left = (int(rng.integers(min(n - size, JPEG_UNIT - 1) + 1)) for n in (height, width))
    window = (slice(top, top + size), slice(left, left + size))
    pair = [to_uint8(image[window]) for image in (sample.input, sample.target)]
    lq, gt = (np.repeat(image[..., None], 3, axis=2) if gray else image for image in pair)
    return lq, gt


def _draw_steps(sample: _Sample) -> list[_Step]:
    """Draw the degradations of a sample, in order."""
    what, rng = sample.what, sample.rng
    kinds: list[tuple[float, _Step]] = [
        (what.camera_noise, _camera_noise),
        (what.white_noise, partial(_gaussian, kind="white")),
        (what.gray_noise, partial(_gaussian, kind="gray")),
        (what.correlated_noise, partial(_gaussian, kind="correlated")),
        (what.blurred_noise, partial(_gaussian, kind="blurred")),
        (what.poisson_noise, _poisson),
        (what.film_grain, _film_grain),
    ]
    first: list[_Step] = []
    steps = [step for probability, step in kinds if rng.random() < probability]
    last: list[_Step] = []
    if sample.scale != 1.0:
        (first if sample.scale > _MAX_NOISE_ENLARGEMENT else steps).append(_resize)
    if rng.random() < what.jpeg:
        (last if rng.random() < what.jpeg_last else steps).append(_jpeg)
        if rng.random() < what.second_jpeg:
            steps.append(_jpeg)
    order = rng.permutation(len(steps))
    return first + [steps[i] for i in order] + last


def _camera_noise(sample: _Sample) -> None:
    sample.input = add_camera_noise(sample.input, CameraNoise.draw(sample.rng), sample.rng)


def _gaussian(sample: _Sample, kind: str) -> None:
    noise = sample.normal(gray=kind == "gray")
    if kind == "correlated" and noise.ndim == 3:
        # Rows of unit norm: every channel keeps its standard deviation.
        mix = sample.rng.uniform(-1, 1, (3, 3)) + np.eye(3)
        mix /= np.linalg.norm(mix, axis=1, keepdims=True)
        noise = transform(noise, mix.astype(np.float32))
    if kind == "blurred":
        noise = _blurred(noise, float(sample.rng.uniform(0.4, 1.5)))
        noise *= np.float32(0.5)  # blotches are more visible than white noise of equal strength
    sample.add(noise * sample.draw_sigma())


def _poisson(sample: _Sample) -> None:
    noise = sample.normal(gray=sample.rng.random() < 0.4)
    # Gaussian approximation; sigma is the standard deviation at mid-gray.
    strength = np.sqrt(np.maximum(sample.input, 0) * np.float32(2))
    if noise.ndim < strength.ndim:
        strength = strength.mean(axis=2)
    sample.add(noise * strength * sample.draw_sigma())


def _film_grain(sample: _Sample) -> None:
    noise = _blurred(sample.normal(gray=True), float(sample.rng.uniform(0.3, 1.2)))
    luma = sample.input if sample.input.ndim == 2 else sample.input.mean(axis=2)
    inside = luma.clip(0.02, 0.98)
    strength = 2 * np.sqrt(inside * (1 - inside))
    sample.add(noise * (strength * min(sample.draw_sigma(), np.float32(20 / 255))))


def _blurred(noise: FloatImage, sigma: float) -> FloatImage:
    """Blur noise, and restore its standard deviation to 1."""
    noise = blur(noise, sigma)
    noise /= max(float(noise.std()), 1e-6)
    return noise


def _resize(sample: _Sample) -> None:
    """Resize target and input with the same interpolation."""
    side = [max(1, round(n * sample.scale)) for n in sample.target.shape[:2]]
    options: Any = _INTERPOLATIONS if sample.scale < 1 else _INTERPOLATIONS[1:]
    how = options[int(sample.rng.integers(len(options)))]
    same = sample.input is sample.target
    sample.target, resized = (
        np.asarray(cv2.resize(image, side[::-1], interpolation=how), np.float32)
        for image in (sample.target, sample.input)
    )
    sample.target = sample.target.clip(0, 1)
    sample.input = sample.target if same else resized


def _jpeg(sample: _Sample) -> None:
    """Compress the input, then crop, so that a later compression has another grid phase."""
    what, rng = sample.what, sample.rng
    low, high = what.low_quality if rng.random() < what.low_quality_share else what.quality
    quality = int(rng.integers(low, high + 1))
    subsampling = _SUBSAMPLINGS[int(rng.integers(len(_SUBSAMPLINGS)))]
    compressed = jpeg_compress(to_uint8(sample.input), quality, subsampling)
    top, left = (int(v) for v in rng.integers(JPEG_UNIT // 2, size=2))
    sample.input = compressed[top:, left:].astype(np.float32)
    sample.input /= np.float32(255)
    sample.target = sample.target[top:, left:]
