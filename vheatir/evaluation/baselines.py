"""Baselines: BM3D from the ``bm3d`` package, non-local means from scikit-image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError
from vheatir.evaluation.methods import Method
from vheatir.inference.estimate import estimate_sigma
from vheatir.tasks import Task

_JPEG_SIGMA = 3.0


def bm3d_method(task: Task) -> Method:
    """Return BM3D for gray images or CBM3D for colour images, with the true sigma given.

    Dabov et al., TIP 2007, in its authors' implementation (``pip install bm3d``; free for
    non-commercial use).

    Raises:
        VHeatIRError: the package is missing, or the task is not white noise removal.
    """
    if task.kind == "jpeg":
        raise VHeatIRError(f"BM3D removes noise, not JPEG artifacts: task {task.name} has no BM3D")
    if task.kind != "denoise":
        raise VHeatIRError(f"BM3D needs a sigma: task {task.name} has none, so no BM3D")
    try:
        import bm3d
    except ImportError:
        raise VHeatIRError(
            "the BM3D row needs the bm3d package: pip install bm3d, or leave --bm3d out"
        ) from None

    def restore(image: NDArray[np.float32], level: float | None) -> NDArray[np.float32]:
        if not level:
            return image
        run = bm3d.bm3d if image.ndim == 2 else bm3d.bm3d_rgb
        return np.asarray(run(image.astype(np.float64), level / 255), dtype=np.float32)

    name = "CBM3D" if task.color == "rgb" else "BM3D"
    return Method(f"{name} (measured)", task.name, (0.0, 255.0), None, restore)


def nlm_method(task: Task) -> Method:
    """Return non-local means (Buades et al., CVPR 2005) from scikit-image, with common settings.

    For noise the true sigma is given. Otherwise it is estimated from the image, with a minimum of
    3, because non-local means does not model compression.
    """
    from skimage.restoration import denoise_nl_means

    def restore(image: NDArray[np.float32], level: float | None) -> NDArray[np.float32]:
        if level is not None and task.kind == "denoise":
            sigma = level / 255
        else:
            sigma = max(estimate_sigma(image), _JPEG_SIGMA) / 255
        restored = denoise_nl_means(
            image, patch_size=5, patch_distance=6, h=0.8 * sigma, sigma=sigma, fast_mode=True,
            channel_axis=2 if image.ndim == 3 else None,
        )  # fmt: skip
        return np.asarray(restored, dtype=np.float32)

    level_range = (0.0, 255.0) if task.has_level else None
    return Method("non-local means", task.name, level_range, None, restore)
