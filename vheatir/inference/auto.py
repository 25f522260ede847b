"""``Restorer("auto")``: choose the model and its level for each image."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache, partial
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
from vheatir.plugins import import_modules


class AutoRestorer(Restorer):
    """Restore each image with the model chosen by :func:`choose_model`.

    Returned by ``Restorer("auto")``. Models are loaded on first use and cached.

    Args:
        model: ``"auto"``.
        device: see :class:`Restorer`.
        precision: precision of every model; see :class:`Restorer`.
        imports: modules to import; the released models need none.
        load: factory of the restorer for a task; ``Restorer`` by default.
    """

    def __init__(
        self,
        model: str = "auto",
        device: str | torch.device = "auto",
        *,
        precision: Literal["auto", "float32", "bfloat16", "float16"] = "float32",
        imports: Sequence[str] = (),
        load: Callable[[str], Restorer] | None = None,
    ) -> None:
        if imports:
            import_modules(imports)
        self.device = pick_device(device)
        self.info = {"name": "auto"}
        self.task = None
        self._takes_level = False
        self._load = cache(load or partial(Restorer, device=self.device, precision=precision))
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        """Raise a clear error for attributes that only a single-model restorer has."""
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
        """Choose a model for one image and restore it; the choice is in ``Restoration.choice``.

        Arguments and errors as in :meth:`Restorer.restore`. A level or a batch of several images
        raises an error.
        """
        began = time.perf_counter()
        if level is not None:
            raise VHeatIRError("Restorer('auto') takes no level: name a model, or omit the level")
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
        """Return the restorer for a task, loaded on first use."""
        with self._lock:  # so that two threads do not load it twice
            return self._load(task)


Restorer.KINDS["auto"] = AutoRestorer
