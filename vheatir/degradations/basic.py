"""White Gaussian noise and JPEG compression."""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError, unknown_name

Subsampling = Literal["4:2:0", "4:2:2", "4:4:4"]

#: The phase of the JPEG grid is drawn from 16, since subsampled chroma blocks span 16 pixels.
JPEG_UNIT = 16

_SUBSAMPLING: dict[str, int] = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}


def add_noise(
    image: NDArray[np.float32], sigma: float, rng: np.random.Generator
) -> NDArray[np.float32]:
    """Add white Gaussian noise with zero mean.

    Args:
        image: ``float32`` in [0, 1], of any shape.
        sigma: standard deviation on the scale 0..255, at least 0.
        rng: random generator.

    Returns:
        ``float32`` of the same shape, neither clipped nor rounded.

    Example:
        >>> gray = np.full((100, 100), 0.5, np.float32)
        >>> noisy = add_noise(gray, 25, np.random.default_rng(0))
        >>> print(f"{255 * noisy.std():.1f}")
        24.9
    """
    _check_sigma(sigma)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    noise *= np.float32(sigma / 255)
    noise += image
    return noise


def benchmark_noise(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Add the noise of published denoising tables, identical in every call.

    NumPy's legacy generator is seeded with 0 for each image; values for colour images are drawn
    in OpenCV's B, G, R order (SwinIR's protocol). The global generator is not used.

    Args:
        image: ``float32`` in [0, 1], (H, W) or (H, W, 3) RGB.
        sigma: standard deviation on the scale 0..255, at least 0.

    Returns:
        ``float32`` of the same shape, RGB, neither clipped nor rounded.
    """
    _check_sigma(sigma)
    noise = np.random.RandomState(0).normal(0, sigma / 255, image.shape)
    if image.ndim == 3:
        noise = noise[..., ::-1]
    return (image + noise).astype(np.float32)


def jpeg_bytes(
    image: NDArray[np.uint8], quality: float, subsampling: Subsampling = "4:2:0"
) -> bytes:
    """Compress an image to a JPEG file in memory.

    Args:
        image: ``uint8``, (H, W) or (H, W, 3) RGB. The 8x8 blocks start at pixel (0, 0).
        quality: a whole number from 1 to 100.
        subsampling: chroma subsampling, ``"4:2:0"``, ``"4:2:2"`` or ``"4:4:4"``; no effect on gray
            images.

    Raises:
        VHeatIRError: invalid quality, subsampling or image.
    """
    if not 1 <= quality <= 100 or quality != int(quality):
        raise VHeatIRError(f"JPEG quality {quality} is invalid: give a whole number from 1 to 100")
    if subsampling not in _SUBSAMPLING:
        raise unknown_name("chroma subsampling", subsampling, _SUBSAMPLING)
    if image.dtype != np.uint8 or image.ndim not in (2, 3) or image.shape[2:] not in ((), (3,)):
        raise VHeatIRError(
            f"an image of {image.dtype} and shape {image.shape} cannot be compressed: "
            "give uint8 of shape (H, W) or (H, W, 3)"
        )
    options = [cv2.IMWRITE_JPEG_QUALITY, int(quality)]
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR).astype(np.uint8, copy=False)
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, _SUBSAMPLING[subsampling]]
    done, data = cv2.imencode(".jpg", image, options)
    if not done:
        raise VHeatIRError(f"an image of shape {image.shape} cannot be compressed as JPEG")
    return data.tobytes()


def jpeg_compress(
    image: NDArray[np.uint8], quality: float, subsampling: Subsampling = "4:2:0"
) -> NDArray[np.uint8]:
    """Compress an image as JPEG and decode it again.

    Args:
        image: see :func:`jpeg_bytes`, also for the other arguments.
        quality: a whole number from 1 to 100.
        subsampling: chroma subsampling.

    Returns:
        ``uint8`` of the same shape, RGB or gray.

    Example:
        >>> image = np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)
        >>> jpeg_compress(image, 10).shape
        (32, 48, 3)
    """
    data = np.frombuffer(jpeg_bytes(image, quality, subsampling), np.uint8)
    decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE if image.ndim == 2 else cv2.IMREAD_COLOR)
    assert decoded is not None  # encoded just above
    if image.ndim == 3:
        decoded = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return decoded.astype(np.uint8, copy=False)


def _check_sigma(sigma: float) -> None:
    if not sigma >= 0:
        raise VHeatIRError(f"noise level {sigma} is invalid: give a sigma of at least 0")
