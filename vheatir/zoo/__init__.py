"""Model zoo: released models with pretrained weights, verified before use.

``registry.json`` lists the models, the default of each task first. Each weight file has a model
card next to it.
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

#: Licence of the weight files that anyone may use for anything (NOTICE).
CLEAN_LICENCE = "Apache-2.0"
#: Appended to the name of a task, it names the best model with a restricted licence.
NON_COMMERCIAL = "_nc"
#: The paper's network, in which heat alone mixes distant pixels.
FLAT = "VHeatIR"


@dataclass(frozen=True)
class ModelEntry:
    """One released model.

    Attributes:
        name: model name, such as ``"denoise_color_medium"``.
        task: key of :data:`vheatir.tasks.TASKS`.
        network: its type, a key of :data:`vheatir.archs.ARCHS`.
        level: the only level of a model for a single one; None for models for all levels, and for
            tasks without a level.
        sha256: SHA-256 of the weight file.
        params: number of parameters.
        commercial_use: whether the licences of the training images leave the weights free for any
            use.
        licence: licence of the weight file: an SPDX identifier where nothing else restricts its
            use, or a sentence that names the training images with a restrictive licence.
    """

    name: str
    task: str
    network: str
    level: float | None
    sha256: str
    params: int
    commercial_use: bool
    licence: str

    @property
    def label(self) -> str:
        """Name in tables: the paper's network is marked as trained by this project."""
        return f"vHeatIR flat {self.name.rpartition('_')[2]}, ours" if self.is_flat else self.name

    @property
    def is_flat(self) -> bool:
        """Whether it is the paper's network."""
        return self.network == FLAT

    @property
    def path(self) -> Path:
        """Path of the weight file."""
        return FOLDER / f"{self.name}.safetensors"

    @property
    def card(self) -> Path:
        """Path of the model card, in Markdown."""
        return FOLDER / f"{self.name}.md"


def list_models(task: str | None = None) -> list[ModelEntry]:
    """Return the released models, the default of each task first.

    Those for a single level come last: they are used only when named.

    Args:
        task: return only the models for this task.

    Raises:
        VHeatIRError: unknown task.

    Example:
        >>> [entry.name for entry in list_models("photo")]
        ['photo_small_clean', 'photo_small']
    """
    if task is not None:
        get_task(task)
    entries = [ModelEntry(**entry) for entry in json.loads(REGISTRY.read_text(encoding="utf-8"))]
    entries.sort(key=lambda entry: entry.level is not None)
    return [entry for entry in entries if task in (None, entry.task)]


def model_to_explain() -> str:
    """Return the name of the model that shows best how heat spreads.

    That is the paper's network, if it is in the zoo, else a model for colour denoising.
    """
    return min(list_models(), key=lambda m: (not m.is_flat, m.task != "denoise_color")).name


def load_model(name: str, device: torch.device | str = "cpu") -> LoadedModel:
    """Load a released model.

    Args:
        name: name of a model, or of a task for its default model; ``_nc`` after a task, as in
            ``"denoise_color_nc"``, asks for its best model that is not for commercial use.
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
    entry = _find(name)
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


def released_entry(model: LoadedModel) -> ModelEntry | None:
    """Return the entry of a released model; None for others, also if the weights were changed."""
    from vheatir.weights import unchanged_file

    entry = next((each for each in list_models() if each.sha256 == model.sha256), None)
    return entry if entry is not None and unchanged_file(model) is not None else None


def _find(name: str) -> ModelEntry:
    """Return the model of this name, or the model for the task of this name."""
    named: dict[str, ModelEntry] = {}
    for entry in list_models():
        named[entry.name] = entry
        if entry.level is None:
            named.setdefault(entry.task, entry)
            if not entry.commercial_use:
                named.setdefault(entry.task + NON_COMMERCIAL, entry)
    if name not in named:
        raise unknown_name("model", name, named)
    return named[name]
