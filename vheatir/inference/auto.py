"""``Restorer("auto")``: the model and its level are chosen for each image."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch

from vheatir.errors import VHeatIRError
from vheatir.hardware import pick_device
from vheatir.inference.choose import choose_model
from vheatir.inference.files import read_photograph_file
from vheatir.inference.images import unpack
from vheatir.inference.restorer import Restoration, Restorer
from vheatir.inference.tiled import Level, Progress


class AutoRestorer(Restorer):
    """Restores each image with the model that it needs; see :func:`choose_model`.

    Models are loaded when they are first needed, and kept. It is what ``Restorer("auto")`` makes.

    Args:
        model: ``"auto"``.
        device: as for :class:`Restorer`, as for ``precision``.
        precision: of every model.
        load: makes the restorer of a task; ``Restorer`` by default.
    """

    def __init__(
        self,
        model: str = "auto",
        device: str | torch.device = "auto",
        *,
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32",
        load: Callable[[str], Restorer] | None = None,
    ) -> None:
        self.device = pick_device(device)
        self._precision = precision
        self.info = {"name": "auto"}
        self.task = None
        self._takes_level = False
        self._load = load or (lambda task: Restorer(task, self.device, precision=precision))
        self._lock = threading.Lock()
        self._loaded: dict[str, Restorer] = {}

    def __getattr__(self, name: str) -> Any:
        """Refuse what only a restorer with one model has."""
        if name in ("model", "network", "precision"):
            raise VHeatIRError(
                f"Restorer('auto') has no {name} of its own: name a model, such as 'photo'"
            )
        raise AttributeError(name)

    def restore_detailed(
        self,
        image: Any,
        level: Level | Any = None,
        *,
        strength: float | tuple[float, float] = 100,
        tile: Literal["auto"] | int | None = "auto",
        self_ensemble: bool = False,
        progress: Progress | None = None,
    ) -> Restoration:
        """Choose a model for one image and restore it; ``Restoration.choice`` says which.

        Args and errors: as for :meth:`Restorer.restore`; a level, or a tensor of several images, is
        refused.
        """
        began = time.perf_counter()
        if level is not None:
            raise VHeatIRError("Restorer('auto') takes no level: name a model, or leave it out")
        quality = None
        if isinstance(image, (str, os.PathLike)):
            photograph = read_photograph_file(Path(image))
            image, quality = photograph.pixels, photograph.quality
        colors = unpack(image).colors
        if colors.shape[0] != 1:
            raise VHeatIRError(
                f"Restorer('auto') takes one image at a time, not {colors.shape[0]}: call it for "
                "each, or name a model"
            )
        choice = choose_model(colors[0].permute(1, 2, 0).cpu().numpy(), quality)
        if choice.model is None:
            seconds = time.perf_counter() - began
            return Restoration(image, None, False, None, seconds, False, choice)
        restorer = self.restorer(choice.model)
        result = restorer.restore_detailed(
            image,
            restorer.nearest_level(choice.level),
            strength=strength,
            tile=tile,
            self_ensemble=self_ensemble,
            progress=progress,
        )
        seconds = time.perf_counter() - began
        estimated = result.level is not None
        return replace(result, estimated=estimated, seconds=seconds, choice=choice)

    def restorer(self, task: str) -> Restorer:
        """Return the restorer of a task, loaded on first use."""
        with self._lock:
            if task not in self._loaded:
                self._loaded[task] = self._load(task)
            return self._loaded[task]
