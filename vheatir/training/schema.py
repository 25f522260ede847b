"""The options of an option file, validated.

Every section is a frozen pydantic model that rejects unknown keys, so a typo is an error and never
a silent default. :mod:`vheatir.training.options` reads the files and formats the errors.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from vheatir.errors import unknown_name
from vheatir.tasks import TASKS, Task, get_task
from vheatir.training.sections import (
    Datasets,
    DistOptions,
    LoggerOptions,
    NetworkOptions,
    PathOptions,
    Section,
    TrainOptions,
    ValOptions,
    as_list,
)

Level = float | tuple[float, float]


def _check_level(value: Any) -> Any:
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    # bool is a subclass of int, but never a level
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ValueError("must be one number or a range [lowest, highest]")
    if len(numbers) == 2 and numbers[0] > numbers[1]:
        raise ValueError("must be a range [lowest, highest], in this order")
    return tuple(float(n) for n in numbers) if len(numbers) == 2 else float(numbers[0])


def _is_foreign(network_type: object) -> bool:
    from vheatir.archs import FOREIGN  # imports torch, needed only here

    return isinstance(network_type, str) and network_type in FOREIGN


class Options(Section):
    """A complete option file, resolved and validated.

    Attributes:
        name: name and folder of the experiment.
        task: key of :data:`vheatir.tasks.TASKS`.
        level: one level, or the range (lowest, highest) that the model is trained for; None for
            tasks without a level only.
        manual_seed: seed of all random generators.
        num_gpu: accepted for compatibility with BasicSR and ignored; the launcher decides.
        device: ``auto`` takes CUDA, else MPS, else the CPU.
        imports: the user's own modules, which register networks or losses; imported when the file
            is read: see :func:`vheatir.plugins.import_modules`.
    """

    name: str
    description: str | None = None
    model_type: Literal["RestorationModel"] = "RestorationModel"
    scale: Literal[1] = 1
    num_gpu: Literal["auto"] | Annotated[int, Field(ge=0)] = "auto"
    manual_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    task: str
    level: Annotated[Level | None, BeforeValidator(_check_level)] = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    imports: Annotated[list[str], BeforeValidator(as_list)] | None = None
    datasets: Datasets
    network_g: NetworkOptions
    path: PathOptions = PathOptions()
    train: TrainOptions
    val: ValOptions = ValOptions()
    logger: LoggerOptions = LoggerOptions()
    dist_params: DistOptions = DistOptions()
    find_unused_parameters: bool = False

    @field_validator("name")
    @classmethod
    def _check_name(cls, name: str) -> str:
        if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
            raise ValueError("must be a plain folder name: letters, digits and . _ + -")
        return name

    @field_validator("task")
    @classmethod
    def _check_task(cls, name: str) -> str:
        if name not in TASKS:
            raise ValueError(str(unknown_name("task", name, TASKS)))
        return name

    @model_validator(mode="before")
    @classmethod
    def _derive_network(cls, data: Any) -> Any:
        """Fill in what follows from the task: channels, and the scale of the level input.

        Only for the package's networks; one from elsewhere has arguments of its own.
        """
        if not isinstance(data, dict) or data.get("task") not in TASKS:
            return data
        network = data.get("network_g")
        if not isinstance(network, dict) or _is_foreign(network.get("type")):
            return data
        task = TASKS[data["task"]]
        derived: dict[str, Any] = {"in_chans": task.channels, "out_chans": task.channels}
        if task.kind == "denoise" and isinstance(data.get("level"), list | tuple):
            derived["level_scale"] = 255.0
        return {**data, "network_g": {**network, **{
            key: value for key, value in derived.items() if key not in network
        }}}  # fmt: skip

    @model_validator(mode="after")
    def _check_together(self) -> Options:
        task = self.task_info
        levels = [*(self.level_range or ())]
        for val_set in self.datasets.val_sets.values():
            levels += val_set.level or []
        if not task.has_level and levels:
            raise ValueError(f"task {task.name} has no level: leave level out")
        if task.has_level and self.level is None:
            raise ValueError(
                f"'level' is missing: give a {task.level_name} or a range [lowest, highest]"
            )
        low, high = (0.0, 255.0) if task.kind == "denoise" else (1.0, 100.0)
        for level in levels:
            if not low <= level <= high:
                raise ValueError(
                    f"level {level:g} is out of range: "
                    f"{task.level_name} of {task.name} lies in {low:g} to {high:g}"
                )
        for key in () if _is_foreign(self.network_g.type) else ("in_chans", "out_chans"):
            channels = self.network_g.kwargs.get(key)
            if channels != task.channels:
                raise ValueError(
                    f"network_g:{key} is {channels!r}, but images of task {task.name} have "
                    f"{task.channels} channel(s): leave {key} out, or set it to {task.channels}"
                )
        return self

    @property
    def task_info(self) -> Task:
        """The :class:`Task` called :attr:`task`."""
        return get_task(self.task)

    @property
    def level_range(self) -> tuple[float, float] | None:
        """Lowest and highest level (equal for a single level); None for a task without a level."""
        if self.level is None or isinstance(self.level, tuple):
            return self.level
        return self.level, self.level

    def dump(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings that load as equal options."""
        return self.model_dump(mode="json")
