"""PSNR, SSIM and PSNR-B, as computed by SwinIR's test script.

Arrays are (H, W) or (H, W, C), ``uint8`` or floating point on the same scale 0..``data_range``; all
sums are in float64. The functions do not convert colours: the caller converts first, which makes
the convention explicit. :data:`CONVENTIONS` describes the convention of each task.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError

Image = NDArray[Any]

SSIM_WINDOW = 11
SSIM_SIGMA = 1.5

_OUTPUT = "every image measured is clipped to [0, 1] and rounded to 8 bits, no border cropped"
_SSIM = "SSIM with an 11x11 Gaussian window of sigma 1.5, valid region, mean over channels"
_NOISE = "Gaussian noise from seed 0 for each image, neither clipped nor rounded"
_PAIRS = f"input and reference as the set pairs them; {_OUTPUT}; {_SSIM}"
CONVENTIONS: dict[str, str] = {
    "denoise_gray": f"PSNR (dB) and SSIM on 8-bit gray; {_NOISE}; {_OUTPUT}; {_SSIM}.",
    "denoise_color": f"PSNR (dB) and SSIM over all of R, G and B; {_NOISE} (drawn in BGR order); "
    f"{_OUTPUT}; {_SSIM}.",
    "jpeg_gray": "PSNR, PSNR-B (dB) and SSIM on 8-bit luma, Y = 16 + (65.481 R + 128.553 G + "
    f"24.966 B) / 255 rounded (gray files as they are); Y compressed by libjpeg; {_OUTPUT}; "
    f"{_SSIM}; PSNR-B with 8x8 blocks.",
    "jpeg_color": "PSNR, PSNR-B (dB) and SSIM over all of R, G and B; compressed by libjpeg with "
    f"4:2:0 chroma; {_OUTPUT}; {_SSIM}; PSNR-B with 8x8 blocks, mean over channels.",
    "photo": "PSNR (dB) and SSIM over all of R, G and B, of whole images; input and reference as "
    "the set pairs them, or camera noise and JPEG made from a seed for each image where it has no "
    f"pairs; {_OUTPUT}; {_SSIM}.",
    "pairs": f"PSNR (dB) and SSIM over all of R, G and B, of whole images; {_PAIRS}.",
    "pairs_gray": f"PSNR (dB) and SSIM on 8-bit gray, of whole images; {_PAIRS}.",
    "pairs_luma": "PSNR (dB) and SSIM on 8-bit luma, Y = 16 + (65.481 R + 128.553 G + 24.966 B) / "
    f"255 rounded, of whole images; {_PAIRS}.",
}
"""Measurement convention of each task, by task name; printed with every table."""


def to_uint8(image: Image) -> NDArray[np.uint8]:
    """Quantise an image in [0, 1] to 8 bits: clip, scale by 255, round.

    Args:
        image: floating-point array of any shape; a ``uint8`` array is returned unchanged.

    Returns:
        ``uint8`` array of the same shape.

    Raises:
        TypeError: the dtype is neither ``uint8`` nor floating point.

    Example:
        >>> to_uint8(np.array([-0.1, 0.5, 1.2]))
        array([  0, 128, 255], dtype=uint8)
    """
    if image.dtype == np.uint8:
        return image
    if not np.issubdtype(image.dtype, np.floating):
        raise TypeError(f"to_uint8 takes floating-point images in [0, 1], not {image.dtype}")
    # float16 would round the product before it is rounded to 8 bits.
    exact = image.astype(np.float32) if image.dtype == np.float16 else image
    return np.rint(np.clip(exact, 0, 1) * 255).astype(np.uint8)


def psnr(image: Image, reference: Image, *, border: int = 0, data_range: float = 255) -> float:
    """Peak signal-to-noise ratio, with the squared error averaged over all pixels and channels.

    Args:
        image: (H, W) or (H, W, C).
        reference: the clean image, of the same shape.
        border: number of pixels to exclude at each edge.
        data_range: peak value: 255 for 8-bit images.

    Returns:
        PSNR in decibels; infinity for identical images.

    Raises:
        VHeatIRError: the shapes differ, or the border leaves nothing.

    Example:
        >>> clean = np.full((8, 8, 3), 100, np.uint8)
        >>> round(psnr(clean + np.uint8(5), clean), 2)
        34.15
    """
    a, b = _prepare(image, reference, border)
    return _decibels(float(np.mean((a - b) ** 2)), data_range)


def ssim(image: Image, reference: Image, *, border: int = 0, data_range: float = 255) -> float:
    """Structural similarity: Wang et al., "Image quality assessment", TIP 2004.

    11x11 Gaussian window of sigma 1.5, K1 = 0.01, K2 = 0.03, biased (co)variances; averaged over
    the valid region (window entirely inside the image), then over the channels.

    Args:
        image: (H, W) or (H, W, C), H and W at least 11 without the border.
        reference: the clean image, of the same shape.
        border: number of pixels to exclude at each edge.
        data_range: peak value: 255 for 8-bit images.

    Returns:
        Mean SSIM, at most 1.

    Raises:
        VHeatIRError: the shapes differ, or the image is smaller than the window.

    Example:
        >>> clean = np.random.default_rng(0).integers(0, 256, (32, 32), np.uint8)
        >>> ssim(clean, clean)
        1.0
    """
    a, b = _prepare(image, reference, border)
    if min(a.shape[:2]) < SSIM_WINDOW:
        raise VHeatIRError(
            f"SSIM needs images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, "
            f"these have {a.shape[0]}x{a.shape[1]}: use larger images"
        )
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    mean_a, mean_b = _window_mean(a), _window_mean(b)
    variance_a = _window_mean(a * a) - mean_a**2
    variance_b = _window_mean(b * b) - mean_b**2
    covariance = _window_mean(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1)
    structure = (2 * covariance + c2) / (variance_a + variance_b + c2)
    return float(np.mean(luminance * structure))


def psnrb(
    image: Image, reference: Image, *, border: int = 0, data_range: float = 255, block: int = 8
) -> float:
    """PSNR-B, a PSNR with a penalty for blocking artifacts.

    Yim and Bovik, "Quality assessment of deblocked images", TIP 2011. The blocking effect factor
    (BEF) of the restored image is added to the mean squared error of each channel; the decibels are
    averaged over the channels. The BEF measures by how much the squared differences across block
    boundaries exceed those elsewhere. As in QGAC's script, used by FBCNN and SwinIR,
    ``size // block - 1`` boundaries are counted in each direction. That is one too few if the size
    is not a multiple of the block size; it is kept for comparability with published numbers.

    Args:
        image: the restored image, (H, W) or (H, W, C), with a block grid that starts at (0, 0) of
            the image without the border.
        reference: the clean image, of the same shape.
        border: number of pixels to exclude at each edge; a multiple of ``block`` keeps the grid
            aligned.
        data_range: peak value: 255 for 8-bit images.
        block: side of a block in pixels.

    Returns:
        PSNR-B in decibels; infinity for identical images without blocking.

    Raises:
        VHeatIRError: the shapes differ, or the image has fewer than two blocks in both directions.
    """
    a, b = _prepare(image, reference, border)
    if min(a.shape[:2]) < 2 or max(a.shape[:2]) < 2 * block:
        raise VHeatIRError(
            f"PSNR-B needs two blocks of {block} pixels in one direction, "
            f"these images have {a.shape[0]}x{a.shape[1]} pixels: use larger images"
        )
    values = []
    for channel in range(a.shape[2]):
        error = float(np.mean((a[..., channel] - b[..., channel]) ** 2))
        values.append(_decibels(error + _blocking_effect(a[..., channel], block), data_range))
    return float(np.mean(values))


def _blocking_effect(image: NDArray[np.float64], block: int) -> float:
    """Return the blocking effect factor of one channel, in squared units of the image."""
    height, width = image.shape
    across_columns = np.sum(np.diff(image, axis=1) ** 2, axis=0)  # between columns j and j + 1
    across_rows = np.sum(np.diff(image, axis=0) ** 2, axis=1)
    edge = slice(block - 1, None, block)
    on_edges = float(across_columns[edge].sum() + across_rows[edge].sum())
    elsewhere = float(across_columns.sum() + across_rows.sum()) - on_edges
    edges = height * max(width // block - 1, 0) + width * max(height // block - 1, 0)
    others = height * (width - 1) + width * (height - 1) - edges
    excess = on_edges / edges - elsewhere / others
    weight = math.log2(block) / math.log2(min(height, width))
    return weight * max(excess, 0.0)


def _decibels(error: float, data_range: float) -> float:
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def _window_mean(image: NDArray[np.float64]) -> NDArray[np.float64]:
    """Gaussian window mean over the valid region; (H, W, C) to (H-10, W-10, C)."""
    kernel = cv2.getGaussianKernel(SSIM_WINDOW, SSIM_SIGMA, cv2.CV_64F)
    radius = SSIM_WINDOW // 2
    valid = (slice(radius, -radius), slice(radius, -radius))
    channels = [
        cv2.sepFilter2D(np.ascontiguousarray(image[..., c]), cv2.CV_64F, kernel, kernel)[valid]
        for c in range(image.shape[2])
    ]
    return np.stack(channels, axis=-1)


def _prepare(
    image: Image, reference: Image, border: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Validate two images and return them as float64 (H, W, C) without the border."""
    if image.shape != reference.shape or image.ndim not in (2, 3):
        raise VHeatIRError(
            f"images of shapes {image.shape} and {reference.shape} cannot be compared: "
            "use two of the same shape, (H, W) or (H, W, C)"
        )
    height, width = image.shape[:2]
    if border < 0 or 2 * border >= min(height, width):
        raise VHeatIRError(
            f"border {border} leaves nothing of {height}x{width} pixels: "
            f"use 0 to {max((min(height, width) - 1) // 2, 0)}"
        )
    inner = (slice(border, height - border), slice(border, width - border))
    a, b = image[inner].astype(np.float64), reference[inner].astype(np.float64)
    return np.atleast_3d(a), np.atleast_3d(b)
