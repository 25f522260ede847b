"""White Gaussian noise, JPEG compression, and conversion to the colour mode of a task."""

from __future__ import annotations

from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from vheatir.color import MATLAB_LUMA
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.tasks import ColorMode

Subsampling = Literal["4:2:0", "4:2:2", "4:4:4"]

_SUBSAMPLING: dict[str, int] = {
    "4:2:0": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420,
    "4:2:2": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_422,
    "4:4:4": cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
}
_LUMA = np.array(MATLAB_LUMA) / 255


def to_color_mode(image: NDArray[Any], mode: ColorMode) -> NDArray[np.uint8]:
    """Convert a decoded image to the colour mode of a task.

    Args:
        image: ``uint8`` or ``uint16``, (H, W), (H, W, 3) RGB or (H, W, 4) RGBA. Alpha is dropped;
            16 bits are rounded to 8.
        mode: ``"gray"``, OpenCV's gray (0.299 R + 0.587 G + 0.114 B); ``"luma"``, Y of MATLAB's
            ``rgb2ycbcr`` (16..235), rounded; or ``"rgb"``. A gray image is unchanged in ``"luma"``,
            as is usual for classic5, and repeated three times in ``"rgb"``.

    Returns:
        ``uint8`` of shape (H, W), or (H, W, 3) for ``"rgb"``; the input itself, not a copy, if
        nothing changes.

    Raises:
        VHeatIRError: unsupported dtype or shape, or unknown mode.
    """
    if mode not in ("gray", "luma", "rgb"):
        raise unknown_name("colour mode", mode, ("gray", "luma", "rgb"))
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise VHeatIRError(
            f"an image of {image.dtype} cannot be used: 8- and 16-bit integers are allowed, "
            "so convert the file"
        )
    if image.ndim == 2:
        return image if mode != "rgb" else np.repeat(image[..., None], 3, axis=2)
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise VHeatIRError(
            f"an image of shape {image.shape} cannot be used: (H, W), (H, W, 3) and (H, W, 4) are"
        )
    rgb = image[..., :3]
    if mode == "gray":
        return cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2GRAY).astype(np.uint8)
    if mode == "luma":
        return np.rint(rgb @ _LUMA + 16).astype(np.uint8)
    return rgb


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


def jpeg_bytes(image: NDArray[np.uint8], quality: int, subsampling: Subsampling = "4:2:0") -> bytes:
    """Compress an image to a JPEG file in memory.

    Args:
        image: ``uint8``, (H, W) or (H, W, 3) RGB. The 8x8 blocks start at pixel (0, 0).
        quality: 1 to 100.
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
    image: NDArray[np.uint8], quality: int, subsampling: Subsampling = "4:2:0"
) -> NDArray[np.uint8]:
    """Compress an image as JPEG and decode it again.

    Args:
        image: see :func:`jpeg_bytes`, also for the other arguments.
        quality: 1 to 100.
        subsampling: chroma subsampling.

    Returns:
        ``uint8`` of the same shape, RGB or gray.
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
