"""Compared methods as functions from degraded to restored images.

Models; baselines: BM3D from the ``bm3d`` package, non-local means from scikit-image.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from vheatir import inference
from vheatir.data.restoration_dataset import to_tensor
from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath
from vheatir.inference.estimate import estimate_sigma
from vheatir.tasks import PAIRED_TASKS, ColorMode, Task, get_task
from vheatir.weights import LoadedModel, level_range

_JPEG_SIGMA = 3.0  # of non-local means, which does not model compression

Restore = Callable[[NDArray[np.float32], float | None], NDArray[np.float32]]


@dataclass(frozen=True)
class Method:
    """One row of a table.

    Attributes:
        name: name in tables.
        task: name of its task.
        level_range: lowest and highest supported level; None for a task without a level.
        params: number of parameters; None for methods without parameters.
        restore: takes the degraded image, ``float32`` in [0, 1] (noise may exceed it), (H, W) or
            (H, W, 3), and its level (None for a task without a level); returns the restored image
            in the same shape.
    """

    name: str
    task: str
    level_range: tuple[float, float] | None
    params: int | None
    restore: Restore

    def covers(self, level: float | None) -> bool:
        """Whether the method supports ``level`` (None for a task without a level)."""
        if level is None or self.level_range is None:
            return level is None and self.level_range is None
        return self.level_range[0] <= level <= self.level_range[1]


def model_method(
    model: LoadedModel,
    device: torch.device | str = "cpu",
    *,
    name: str | None = None,
    self_ensemble: bool = False,
    tile: int | None = None,
) -> Method:
    """Turn a loaded model into a method.

    Args:
        model: a model whose ``info`` names task and level.
        device: device to run on.
        name: name in tables; None for that of the model.
        self_ensemble: average over the eight flips and rotations; appends
            ``", self-ensemble"`` to the name.
        tile: largest tile side in pixels; None restores whole images, as in published tables.

    Raises:
        VHeatIRError: the file does not name task or level, or the number of channels does not
            match the task.
    """
    task = _task_of(model)
    network = model.network.to(device)
    channels = int(getattr(network, "in_chans", task.channels))
    if channels != task.channels:
        raise VHeatIRError(
            f"{model.path} takes {channels} channels, but {task.name} has {task.channels}: "
            "the file names the wrong task, export it again"
        )
    levels = level_range(model.info) if task.has_level else None
    if task.has_level and levels is None:
        raise VHeatIRError(
            f"{model.path} does not say for which level it is trained: "
            "give a file that training exported"
        )
    name = name or model.name
    return Method(
        name=f"{name}, self-ensemble" if self_ensemble else name,
        task=task.name,
        level_range=levels,
        params=sum(parameter.numel() for parameter in network.parameters()),
        restore=network_restorer(network, tile, self_ensemble),
    )


def _task_of(model: LoadedModel) -> Task:
    if "task" not in model.info:
        raise VHeatIRError(
            f"{model.path} does not say which task it is for: give a file that training exported"
        )
    if model.info["task"] is not None:
        return get_task(str(model.info["task"]))
    # Trained on pairs alone.
    by_channels: ColorMode = "rgb" if getattr(model.network, "in_chans", 3) == 3 else "gray"
    return PAIRED_TASKS.get(model.info.get("color", by_channels), PAIRED_TASKS[by_channels])


def network_restorer(
    network: torch.nn.Module, tile: int | None, self_ensemble: bool = False
) -> Restore:
    """Return the function that runs a network; see :class:`Method` and :func:`model_method`."""
    run = inference.self_ensemble if self_ensemble else inference.restore_tensor
    takes_level = bool(getattr(network, "takes_level", False))

    def restore(image: NDArray[np.float32], level: float | None) -> NDArray[np.float32]:
        x = to_tensor(image)[None]
        out = run(network, x, level if takes_level else None, tile=tile)[0].float().numpy()
        return out[0] if image.ndim == 2 else out.transpose(1, 2, 0)

    return restore


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


def tell_apart(methods: Sequence[tuple[Method, StrPath]]) -> list[Method]:
    """Append the file path to the names of methods with the same name and task."""
    counts = Counter((method.task, method.name) for method, _ in methods)
    return [
        replace(method, name=f"{method.name} ({os.fspath(path)})")
        if counts[method.task, method.name] > 1
        else method
        for method, path in methods
    ]
