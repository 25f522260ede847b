"""BM3D and CBM3D by the ``bm3d`` package, for denoising."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError
from vheatir.evaluation.methods import Method
from vheatir.tasks import Task


def bm3d_method(task: Task) -> Method:
    """Return BM3D for gray images and CBM3D for colour ones, with the true sigma given.

    Dabov et al., TIP 2007, in its authors' implementation (``pip install bm3d``; free for
    non-commercial use).

    Raises:
        VHeatIRError: the package is missing, or the task is no denoising.
    """
    if task.degradation != "noise":
        raise VHeatIRError(f"BM3D removes noise, not JPEG artifacts: task {task.name} has no BM3D")
    try:
        import bm3d
    except ImportError:
        raise VHeatIRError(
            "the BM3D row needs the bm3d package: pip install bm3d, or leave --bm3d out"
        ) from None

    def restore(image: NDArray[np.float32], level: float) -> NDArray[np.float32]:
        if level == 0:
            return image
        run = bm3d.bm3d if image.ndim == 2 else bm3d.bm3d_rgb
        return np.asarray(run(image.astype(np.float64), level / 255), dtype=np.float32)

    name = "CBM3D" if task.color == "rgb" else "BM3D"
    return Method(f"{name} (measured)", task.name, (0.0, 255.0), None, restore)
