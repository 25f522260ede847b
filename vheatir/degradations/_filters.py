"""What several degradations need: typed OpenCV filters for float32 images, a random number."""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]


def blur(image: FloatImage, sigma: float) -> FloatImage:
    """Apply a Gaussian blur with a standard deviation of ``sigma`` pixels to (H, W[, C])."""
    return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)


def gradient_magnitude(plane: FloatImage) -> FloatImage:
    """Return the length of the gradient of (H, W) by Sobel's filters, per pixel."""
    across, down = (cv2.Sobel(plane, -1, x, 1 - x, scale=1 / 8) for x in (1, 0))
    return np.asarray(cv2.magnitude(across, down), np.float32)


def transform(image: FloatImage, matrix: FloatImage) -> FloatImage:
    """Multiply the colours of (H, W, C) by a matrix (C', C): (H, W, C'), or (H, W) for C' = 1."""
    return np.asarray(cv2.transform(image, matrix), np.float32).reshape(
        *image.shape[:2], *((len(matrix),) if len(matrix) > 1 else ())
    )


def stack(*planes: FloatImage) -> FloatImage:
    """Stack planes (H, W) into an image (H, W, C)."""
    return np.asarray(cv2.merge(planes), np.float32)


def log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """Draw a number whose logarithm is uniform between those of ``low`` and ``high``."""
    return math.exp(rng.uniform(math.log(low), math.log(high)))
