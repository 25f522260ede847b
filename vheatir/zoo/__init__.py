"""Model zoo: released models with pretrained weights, verified before use.

``registry.json`` lists the models, the best of each task first. Each weight file has a model card
next to it.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from vheatir.errors import VHeatIRError, unknown_name
from vheatir.renamed import MODELS, current_name
from vheatir.tasks import get_task

if TYPE_CHECKING:
    import torch

    from vheatir.weights import LoadedModel

FOLDER = Path(__file__).resolve().parent
REGISTRY = FOLDER / "registry.json"

#: Licence of the weight files that were trained on photographs with a clean licence alone (NOTICE).
CLEAN_LICENCE = "Apache-2.0"


@dataclass(frozen=True)
class ModelEntry:
    """One released model.

    Attributes:
        name: model name, such as ``"denoise_color_medium"``.
        task: key of :data:`vheatir.tasks.TASKS`.
        sha256: SHA-256 of the weight file.
        params: number of parameters.
        licence: licence of the weight file: an SPDX identifier where nothing else restricts its
            use, or a sentence that names the training images with a restrictive licence.
    """

    name: str
    task: str
    sha256: str
    params: int
    licence: str

    @property
    def has_clean_licence(self) -> bool:
        """Whether the licences of the training images leave the weights free to use."""
        return self.licence == CLEAN_LICENCE

    @property
    def path(self) -> Path:
        """Path of the weight file."""
        return FOLDER / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        """Path of the model card, in Markdown."""
        return FOLDER / f"{self.name}.md"


def list_models(task: str | None = None) -> list[ModelEntry]:
    """Return the released models, the best of each task first.

    Args:
        task: return only the models for this task.

    Raises:
        VHeatIRError: unknown task.

    Example:
        >>> [entry.name for entry in list_models("photo")]
        ['photo_small', 'photo_small_clean']
    """
    if task is not None:
        get_task(task)
    entries = [ModelEntry(**entry) for entry in json.loads(REGISTRY.read_text(encoding="utf-8"))]
    return [entry for entry in entries if task in (None, entry.task)]


def load_model(name: str, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a released model.

    Args:
        name: name of a model, or of a task for its best model.
        device: device for the weights.

    Raises:
        VHeatIRError: unknown model, or its file is missing or differs from the released one.

    Example:
        >>> model = load_model("denoise_gray")
        >>> model.name, model.info["level"]
        ('denoise_gray_medium', [0.0, 55.0])
    """
    from vheatir.weights import build_model

    if name in MODELS:
        name = current_name(name, MODELS)
    models = list_models()
    entry = next((m for m in models if name in (m.name, m.task)), None)
    if entry is None:
        raise unknown_name("model", name, {m.name for m in models} | {m.task for m in models})
    try:
        data = entry.path.read_bytes()
    except OSError as error:
        raise VHeatIRError(
            f"the weights of {entry.name} cannot be opened ({error.strerror}): reinstall vheatir"
        ) from None
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise VHeatIRError(
            f"the weights of {entry.name} are damaged or not the released ones: reinstall vheatir"
        )
    return build_model(entry.path, data, entry.sha256, device)
