"""The options of an option file, validated.

Every section is a frozen pydantic model that rejects unknown keys, so a typo is an error and never
a silent default. :mod:`vheatir.training.options` reads the files and formats the errors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PrivateAttr,
    model_validator,
)

from vheatir.archs import FOREIGN
from vheatir.errors import unknown_name
from vheatir.tasks import PAIRED_TASKS, TASKS, Task, get_task
from vheatir.training.basicsr_options import section_in
from vheatir.training.sections import (
    Datasets,
    DistOptions,
    LoggerOptions,
    NetworkOptions,
    PathOptions,
    Section,
    Stage,
    TrainOptions,
    ValOptions,
    as_list,
    check_range,
)

Level = float | tuple[float, float]


def parse_level(value: Any) -> Any:
    """Return a level as a number, a range as a pair (lowest, highest), and None as it is.

    Raises:
        ValueError: it is none of these.
    """
    if value is None:
        return None
    numbers = value if isinstance(value, list | tuple) and len(value) == 2 else [value]
    # bool is a subclass of int, but never a level
    if any(isinstance(n, bool) or not isinstance(n, int | float) for n in numbers):
        raise ValueError("must be one number or a range [lowest, highest]")
    levels = [float(number) for number in numbers]
    return check_range((levels[0], levels[1])) if len(levels) == 2 else levels[0]


def check_levels(task: Task, levels: Sequence[float]) -> None:
    """Raise ValueError unless images can be degraded at these levels of a task."""
    if not task.has_level and levels:
        raise ValueError(f"task {task.name} has no level: leave level out")
    low, high = (0.0, 255.0) if task.kind == "denoise" else (1.0, 100.0)
    for level in levels:
        if not low <= level <= high:
            raise ValueError(
                f"level {level:g} is out of range: "
                f"{task.level_name} of {task.name} lies in {low:g} to {high:g}"
            )
        if task.kind == "jpeg" and level != int(level):
            raise ValueError(f"level {level:g}: a JPEG quality is a whole number")


def _check_name(name: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][\w.+-]*", name):
        raise ValueError("must be a plain folder name: letters, digits and . _ + -")
    return name


def _check_task(name: str) -> str:
    if name not in TASKS:
        raise ValueError(str(unknown_name("task", name, TASKS)))
    return name


def _check_scale(value: Any) -> Any:
    if isinstance(value, bool) or value != 1:
        raise ValueError(
            "must be 1: vHeatIR restores at scale 1 and does no super-resolution; "
            "set scale: 1 and give degraded images of the size of the clean ones"
        )
    return 1


# What networks call the number of their input channels.
_CHANNELS = ("in_chans", "num_in_ch", "in_channels", "inp_channels", "img_channel", "in_nc")


def _takes_gray(network: Mapping[str, Any]) -> bool:
    """Whether the arguments of a network say that its images have one channel."""
    given = [network[name] for name in _CHANNELS if network.get(name) is not None]
    return bool(given) and given[0] == 1


class Options(Section):
    """A complete option file, resolved and validated.

    Attributes:
        name: name and folder of the experiment.
        model_type: for compatibility with BasicSR, HAT and NAFNet; where their defaults differ,
            :mod:`vheatir.training.basicsr_options` sets those of the model type.
        task: key of :data:`vheatir.tasks.TASKS`; None if all images come in pairs.
        level: one level, or the range (lowest, highest) that the model is trained for; None for
            tasks without a level and for pairs only.
        manual_seed: seed of all random generators.
        num_gpu: accepted for compatibility with BasicSR and ignored; the launcher decides.
        device: ``auto`` takes CUDA, else MPS, else the CPU.
        print_network: log the modules of the network.
        imports: the user's own modules, which register networks or losses; imported when the file
            is read: see :func:`vheatir.plugins.import_modules`.
    """

    name: Annotated[str, AfterValidator(_check_name)]
    description: str | None = None
    model_type: Literal[
        "RestorationModel", "SRModel", "SwinIRModel", "HATModel", "ImageRestorationModel"
    ] = "RestorationModel"
    scale: Annotated[Literal[1], BeforeValidator(_check_scale)] = 1
    num_gpu: Literal["auto"] | NonNegativeInt = "auto"
    manual_seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    task: Annotated[str, AfterValidator(_check_task)] | None = None
    level: Annotated[Level | None, BeforeValidator(parse_level)] = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    print_network: bool = False
    imports: Annotated[list[str], BeforeValidator(as_list)] | None = None
    datasets: Datasets
    network_g: NetworkOptions
    path: PathOptions = PathOptions()
    train: TrainOptions
    val: ValOptions = ValOptions()
    logger: LoggerOptions = LoggerOptions()
    dist_params: DistOptions = DistOptions()
    find_unused_parameters: bool = False
    _ignored: tuple[str, ...] = PrivateAttr(())

    @model_validator(mode="before")
    @classmethod
    def _derive_network(cls, data: Any) -> Any:
        """Fill in what follows from the task: channels, and the scale of the level input.

        Only for the package's networks; a foreign one has arguments of its own.
        """
        if not isinstance(data, dict) or not isinstance(data.get("network_g"), dict):
            return data
        network, task = data["network_g"], TASKS.get(str(data.get("task")))
        if not isinstance(network.get("type"), str):
            return data  # reported with the other invalid options
        if network["type"] in FOREIGN or (task is None and data.get("task") is not None):
            return data
        is_luma = section_in(section_in(data, "datasets"), "train").get("color") == "y"
        channels = task.channels if task else 1 if is_luma or _takes_gray(network) else 3
        network = dict(network)
        for name in ("in_chans", "out_chans"):
            network.setdefault(name, channels)
        if task and task.kind == "denoise" and isinstance(data.get("level"), list | tuple):
            network.setdefault("level_scale", 255.0)
        return {**data, "network_g": network}

    @model_validator(mode="after")
    def _check_together(self) -> Options:
        self._check_pairs()
        task = self.task_info
        levels = [*(self.level_range or ())]
        for val_set in self.datasets.val_sets.values():
            levels += val_set.level or []
        check_levels(task, levels)
        made = not all(data.is_paired for data in self.datasets.image_sets.values())
        if task.has_level and self.level is None and made:
            raise ValueError(
                f"'level' is missing: give a {task.level_name} or a range [lowest, highest]"
            )
        for key in () if self.network_g.type in FOREIGN else ("in_chans", "out_chans"):
            channels = self.network_g.kwargs.get(key)
            if channels != task.channels:
                raise ValueError(
                    f"network_g:{key} is {channels!r}, but images of task {task.name} have "
                    f"{task.channels} channel(s): leave {key} out, or set it to {task.channels}"
                )
        return self

    def _check_pairs(self) -> None:
        """Refuse options that do not go together with pairs of images."""
        sets = self.datasets.image_sets
        made = [key for key, data in sets.items() if not data.is_paired]
        paired = [key for key, data in sets.items() if data.is_paired]
        if self.task is None and made:
            raise ValueError(
                f"option 'task' is missing: add it, since datasets:{made[0]} is degraded by it "
                "(a PairedImageDataset needs none)"
            )
        if self.task is None and self.level is not None:
            raise ValueError("'level' goes with a 'task': pairs have none, leave it out")
        if paired and self.network_g.kwargs.get("level_scale") is not None:
            raise ValueError(
                f"the network takes a level, which the pairs of datasets:{paired[0]} do not have: "
                "set network_g:level_scale=null for a network without a level"
            )
        wrong = [key for key, data in sets.items() if data.color and self.task_info.color != "luma"]
        if wrong:
            raise ValueError(
                f"datasets:{wrong[0]}:color is y, but the images of datasets:train are "
                f"{self.task_info.color}: give all sets the same color"
            )

    @property
    def ignored(self) -> tuple[str, ...]:
        """Options of the file that are known from BasicSR, but have no meaning here."""
        return self._ignored

    @property
    def stages(self) -> list[Stage]:
        """Crop and batch sizes over the whole training, those of ``datasets: train`` at the end."""
        stages, data = self.train.stages or [], self.datasets.train
        if stages and stages[-1].until == 1:
            return stages
        last = Stage(until=1, gt_size=data.gt_size, batch_size=data.batch_size_per_gpu)
        return [*stages, last]

    @property
    def task_info(self) -> Task:
        """The :class:`Task` called :attr:`task`, or that of pairs of images."""
        if self.task is not None:
            return get_task(self.task)
        if self.datasets.train.color == "y":
            return PAIRED_TASKS["luma"]
        return PAIRED_TASKS["gray" if _takes_gray(self.network_g.kwargs) else "rgb"]

    @property
    def level_range(self) -> tuple[float, float] | None:
        """Lowest and highest level (equal for a single level); None for a task without a level."""
        if self.level is None or isinstance(self.level, tuple):
            return self.level
        return self.level, self.level

    def dump(self) -> dict[str, Any]:
        """Return plain dicts, lists, numbers and strings that load as equal options."""
        return self.model_dump(mode="json")
