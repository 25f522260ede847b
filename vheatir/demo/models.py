"""The demo's models: the released ones, the quickstart's, and those given by flag."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from vheatir import _paths, zoo
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.hardware import pick_device
from vheatir.inference import Choice, Restorer
from vheatir.inference.restorer import compare_models, load_choice
from vheatir.renamed import MODELS, current_name
from vheatir.tasks import TASKS, Task, format_levels, get_task
from vheatir.weights import level_range, read_info

_KEPT_IN_MEMORY = 2
# Seconds per megapixel and million weights on two CPU cores, until a model has been timed here.
_CPU_SECONDS = 2.6


@dataclass(frozen=True)
class Entry:
    """An available model, described by its file's header; weights are loaded on first use.

    Attributes:
        label: name shown on the page, unique.
        task: what it restores.
        path: its weights file.
        level: smallest and largest trained level; None for a task without a level.
        level_text: the levels as text, such as ``"sigma 15"``; ``"blind"`` without a level.
        takes_level: whether it takes the level as an input.
        params: number of weights.
        network: type of its network, such as ``"VHeatIRUNet"``.
        commercial_use: whether a released model is free for any use; None for other files.
    """

    label: str
    task: Task
    path: Path
    level: tuple[float, float] | None
    level_text: str
    takes_level: bool
    params: int
    network: str
    commercial_use: bool | None = None

    @property
    def shown(self) -> str:
        """The label, and what a licence restricts."""
        return f"{self.label} · non-commercial" if self.commercial_use is False else self.label


class Catalogue:
    """All available models, of which a few are kept in memory.

    Args:
        weights: additional weight files.
        device: where to run them.

    Raises:
        VHeatIRError: one of ``weights`` is missing or is not a vHeatIR weights file, there is no
            model at all, or the device is not available.
    """

    def __init__(self, weights: Iterable[Path] = (), device: str = "auto") -> None:
        #: Weights given on the command line, which are listed first.
        self.given = [Path(path) for path in weights]
        picked = pick_device(device)  # now, since models are loaded on first use
        self._lock = threading.Lock()
        # by path and time of change: a training may replace the file
        self._load = lru_cache(_KEPT_IN_MEMORY)(lambda path, changed: Restorer(path, picked))
        self._speeds: dict[Path, float] = {}
        self.entries: dict[str, Entry] = {}
        self.refresh()

    def refresh(self) -> None:
        """Look for models again.

        Raises:
            VHeatIRError: as for the class; the models found before stay.
        """
        found = {path.resolve(): _read_entry(path) for path in self.given}
        released = {model.path: model.commercial_use for model in zoo.list_models()}
        for path in (*released, *_quickstart()):
            if path.resolve() not in found:
                # Not requested by name: a partly copied file must not stop the demo.
                with suppress(VHeatIRError):
                    found[path.resolve()] = _read_entry(path, released.get(path))
        if not found:
            raise VHeatIRError(
                "no model found, since the weight files of this copy are missing or damaged: "
                "reinstall vheatir, or give --weights FILE"
            )
        entries: dict[str, Entry] = {}
        for entry in found.values():
            label = entry.label
            if label in entries:
                label = f"{label}, {entry.path.parent.name}/{entry.path.name}"
            entries[label] = replace(entry, label=label)
        self.entries = entries

    def tasks(self) -> list[Task]:
        """Return the tasks for which there is a model."""
        return [t for t in TASKS.values() if any(e.task == t for e in self.entries.values())]

    def first(self) -> Entry:
        """Return the initial model: the first of the given ones, else for colour denoising."""
        wanted = [] if self.given else self.labels(TASKS["denoise_color"])
        return self.entries[next(iter([*wanted, *self.entries]))]

    def labels(self, task: Task) -> list[str]:
        """Return the labels of the models for ``task``."""
        return [label for label, entry in self.entries.items() if entry.task == task]

    def labels_to_explain(self) -> list[str]:
        """Return all labels, those first in whose networks heat alone mixes: the paper's.

        Models given on the command line come before all others.
        """
        entries = self.entries.values()
        own = {path.resolve() for path in self.given}
        flat = [e.label for e in entries if e.network == zoo.FLAT and e.path.resolve() not in own]
        given = [e.label for e in entries if e.path.resolve() in own]
        return list(dict.fromkeys([*given, *flat, self.first().label, *self.entries]))

    def choices(self, labels: Iterable[str]) -> list[tuple[str, str]]:
        """Return what a list of models shows, and the label it stands for."""
        shown = {label: entry.shown for label, entry in self.entries.items()}
        return [(shown.get(label, label), label) for label in labels]

    def entry(self, label: str | None) -> Entry:
        """Return the model called ``label``.

        Raises:
            VHeatIRError: there is none.
        """
        if label in (former := self.former_labels()):
            current_name(label.split(" ", 1)[0], MODELS)  # for the notice
            label = former[label]
        if label not in self.entries:
            raise unknown_name("model", label, self.entries)
        return self.entries[label]

    def former_labels(self) -> dict[str, str]:
        """Map the labels of release 0.1, which the API still accepts, to the current ones."""
        former = {new: old for old, new in MODELS.items()}
        return {
            former[name] + label.removeprefix(name): label
            for label in self.entries
            if (name := label.split(" ", 1)[0]) in former
        }

    def label_for(self, task: str) -> str:
        """Return the label of the first model for a task, given by name.

        Raises:
            VHeatIRError: there is none.
        """
        label = next(iter(self.labels(get_task(task))), None)
        if label is None:
            raise VHeatIRError(f"no model for {get_task(task).title} available: pick another task")
        return label

    def for_task(self, task: str) -> Restorer:
        """Return the first model for a task, loaded."""
        return self.restorer(self.label_for(task))

    def for_choice(self, choice: Choice, image: NDArray[Any]) -> tuple[Choice, Restorer | None]:
        """Return the final choice of Automatic, and its restorer; None to leave it unchanged."""
        final = compare_models(choice, self.for_task, image)
        return final, load_choice(final, self.for_task)

    def expected_seconds(self, label: str | None, pixels: int) -> float:
        """Estimate a model's time, from its last run here if there was one."""
        entry = self.entry(label)
        speed = self._speeds.get(entry.path, _CPU_SECONDS * entry.params / 1e6)
        return speed * pixels / 1e6

    def measured(self, label: str | None, pixels: int, seconds: float) -> None:
        """Record how long a model took."""
        self._speeds[self.entry(label).path] = seconds / pixels * 1e6

    def restorer(self, label: str | None) -> Restorer:
        """Return the model called ``label``, loaded; the last two used stay in memory."""
        with self._lock:  # so that two requests do not load it twice
            path = self.entry(label).path
            return self._load(path, path.stat().st_mtime_ns if path.exists() else None)


def _quickstart() -> list[Path]:
    """Return the weights trained by the quickstart, newest first."""
    folder = (_paths.checkout_root() or Path.cwd()) / "experiments" / "quickstart"
    return sorted(folder.rglob("*.safetensors"), key=lambda p: p.stat().st_mtime, reverse=True)


def _read_entry(path: Path, commercial_use: bool | None = None) -> Entry:
    """Read a weights file's header, not its weights."""
    info = read_info(path)
    takes_level = info["network"].get("level_scale") is not None
    try:
        task = TASKS[info["task"]]
        levels = level_range(info) if task.has_level else None
        if (task.has_level or takes_level) and levels is None:
            raise ValueError("a task or a network that takes a level, and no level")
    except (KeyError, TypeError, ValueError):
        raise VHeatIRError(
            f"{path} is not a vHeatIR weights file with a task and its level: "
            "give a file exported by a training"
        ) from None
    name, count = info.get("name") or path.stem, info["params"]
    text = "blind" if levels is None else f"{task.level_name} {format_levels(levels)}"
    size = f"{count / 1e6:.1f}M" if count >= 1e6 else f"{count / 1e3:.0f}k"
    label = f"{name} · {text} · {size} params"
    network = str(info["network"].get("type"))
    return Entry(label, task, path, levels, text, takes_level, count, network, commercial_use)
