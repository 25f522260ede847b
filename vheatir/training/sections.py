"""Sections of an option file: BasicSR's option names, with types, ranges and defaults."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    create_model,
    model_validator,
)

from vheatir.archs import ARCHS
from vheatir.data.sources import BUNDLED
from vheatir.degradations import JpegGrid, PhotoDegradation, Subsampling
from vheatir.errors import unknown_name
from vheatir.plugins import registered_networks
from vheatir.training.basicsr_options import section_in
from vheatir.training.paths import resolve_list, resolve_output, resolve_path

Fraction = Annotated[float, Field(ge=0, le=1)]
_Decay = Annotated[float, Field(ge=0, lt=1)]
_Quality = Annotated[int, Field(ge=1, le=100)]


def as_list(value: Any) -> Any:
    """Return a single word or number as a list of one, and any other value as it is."""
    return [value] if isinstance(value, str | int | float) else value


def _resolve(path: str) -> str:
    return path if path == BUNDLED else str(resolve_path(path))


def _known_network(name: str) -> str:
    if name not in ARCHS:
        raise ValueError(
            f"{unknown_name('network type', name, ARCHS, registered_networks())}, and networks in "
            "BasicSR's registry ('imports' names modules that register more)"
        )
    return name


def _known_loss(name: str) -> str:
    if name not in _PIXEL_LOSSES:
        from vheatir.training.losses import known_losses  # imports BasicSR, needed only here

        if name not in known_losses():
            raise ValueError(str(unknown_name("loss type", name, known_losses())))
    return name


def _resolve_list(entry: str) -> str:
    return str(resolve_list(entry)) if entry.endswith(".txt") else entry


InputPath = Annotated[str, AfterValidator(_resolve)]
"""A file or folder to read; made absolute by ``resolve_path``."""

_OutputPath = Annotated[str, AfterValidator(lambda path: str(resolve_output(path)))]

_NameEntry = Annotated[str, AfterValidator(_resolve_list)]

NameEntries = Annotated[list[_NameEntry], BeforeValidator(as_list)]
"""File names, patterns and list files: see :class:`vheatir.data.names.NameList`."""

_T = TypeVar("_T")
OneOrMore = Annotated[list[_T], BeforeValidator(as_list), Field(min_length=1)]
"""A list of at least one item, which may be given alone."""


class Section(BaseModel):
    """Base class of the option sections: read-only, without unknown keys.

    null stands for the default of an option that cannot be None, and a boolean is no number.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    @model_validator(mode="before")
    @classmethod
    def _refine(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        refined = {}
        for key, value in data.items():
            field = cls.model_fields.get(key)
            types = [*_types_in(field.annotation)] if field else []
            can_be_null = field is None or field.is_required() or type(None) in types
            if value is not None or can_be_null:
                is_number = bool not in types and (int in types or float in types)
                refined[key] = _without_booleans(value) if is_number else value
        return refined


def _types_in(annotation: Any) -> Iterator[Any]:
    yield annotation
    for argument in get_args(annotation):
        yield from _types_in(argument)


def _without_booleans(value: Any) -> Any:
    """Return booleans as words: pydantic takes true for the number 1, but refuses 'true'."""
    if isinstance(value, list | tuple):
        return [_without_booleans(item) for item in value]
    return str(value).lower() if isinstance(value, bool) else value


class IoBackend(Section):
    """How images are stored: single files or BasicSR's LMDB folders."""

    type: Literal["disk", "lmdb"] = "disk"


def check_range(low_high: tuple[float, float]) -> tuple[float, float]:
    """Return a range, or raise ValueError if its ends are in the wrong order."""
    if low_high[0] > low_high[1]:
        raise ValueError("must be a range [lowest, highest], in this order")
    return low_high


_Range = Annotated[tuple[PositiveFloat, PositiveFloat], AfterValidator(check_range)]
_Qualities = Annotated[tuple[_Quality, _Quality], AfterValidator(check_range)]


# Types of the parameters that are no fractions.
_PHOTO_RANGES = {
    "sigma": _Range, "resize_range": _Range, "quality": _Qualities, "low_quality": _Qualities,
}  # fmt: skip
_PHOTO_FIELDS: dict[str, Any] = {
    f.name: (_PHOTO_RANGES.get(f.name, Fraction), f.default) for f in fields(PhotoDegradation)
}
_Photo: Any = create_model("_Photo", __base__=Section, **_PHOTO_FIELDS)


class PhotoOptions(_Photo):
    """``photo``: probabilities and ranges of the task ``photo``.

    Names and defaults are those of :class:`vheatir.degradations.PhotoDegradation`.
    """


def _check_template(template: str) -> str:
    try:
        is_valid = template.format("0") != template
    except (ValueError, LookupError):
        is_valid = False
    if not is_valid:
        raise ValueError("must contain {}, which stands for the name of the clean image")
    return template


class ImageSet(Section):
    """What training and validation sets have in common.

    Attributes:
        type: ``RestorationDataset`` degrades clean images; ``PairedImageDataset`` takes pairs of
            degraded and clean images, as in BasicSR.
        dataroot_gt: folders of clean images, read recursively, or ``bundled``: scikit-image's
            photographs, of which some are held out for validation.
        dataroot_lq: folders of their degraded images, in the same order (pairs only).
        filename_tmpl: name of the degraded image, in which ``{}`` stands for that of the clean one
            (pairs only; None: the same name).
        meta_info_file: list of the clean images, as BasicSR writes it (pairs only; None: all).
        color: ``y`` takes the luma of the images (pairs without a ``task`` only).
        io_backend: see :class:`IoBackend`.
        limit: use only the first ``limit`` images (None: all).
        include: use only these images: file names, patterns such as ``sunhays_*``, or ``.txt``
            files with one such entry per line (empty: all).
        exclude: do not use these images; entries as for ``include``.
    """

    type: Literal["RestorationDataset", "PairedImageDataset"] = "RestorationDataset"
    dataroot_gt: OneOrMore[InputPath]
    dataroot_lq: OneOrMore[InputPath] | None = None
    filename_tmpl: Annotated[str, AfterValidator(_check_template)] | None = None
    meta_info_file: InputPath | None = None
    color: Literal["y"] | None = None
    io_backend: IoBackend = IoBackend()
    limit: PositiveInt | None = None
    include: NameEntries = []
    exclude: NameEntries = []

    @property
    def is_paired(self) -> bool:
        """Whether the set has degraded images of its own."""
        return self.type == "PairedImageDataset"

    @model_validator(mode="after")
    def _check_pairs(self) -> ImageSet:
        if not self.is_paired:
            for name in ("dataroot_lq", "filename_tmpl", "meta_info_file", "color"):
                if getattr(self, name) is not None:
                    raise ValueError(f"{name} is for pairs: set type: PairedImageDataset too")
        elif self.dataroot_lq is None:
            raise ValueError("dataroot_lq is missing: a PairedImageDataset needs it")
        elif len(self.dataroot_lq) != len(self.dataroot_gt):
            raise ValueError(
                f"dataroot_lq has {len(self.dataroot_lq)} folder(s), dataroot_gt "
                f"{len(self.dataroot_gt)}: give as many of each"
            )
        for root in (*self.dataroot_gt, *(self.dataroot_lq or ())):
            if self.io_backend.type == "lmdb" and not root.endswith(".lmdb"):
                raise ValueError(
                    f"io_backend type lmdb, but {root!r} does not end in .lmdb: give an LMDB "
                    "folder written by BasicSR, or set io_backend:type=disk"
                )
        return self


class TrainSet(ImageSet):
    """``datasets: train``, ``train_2`` and so on: a training set and its crops.

    Attributes:
        phase: set by the section's name.
        weight: share of the samples that come from this set, relative to the other sets.
        gt_size: side of the square crops in pixels.
        cache: decode each image once and keep its pixels in memory.
        augment: draw one of the eight flips and rotations; ``flip`` and ``rotate``: only those of
            BasicSR's ``use_hflip`` or ``use_rot``.
        recolor: share of samples with changed colours: channels permuted, saturation scaled by
            0.5 to 2, each channel scaled down to no less than 0.2 (colour tasks only).
        jpeg_grid: phase of the JPEG 8x8 grid relative to the crop's corner; ``half`` aligns every
            other sample.
        subsampling: chroma subsamplings to draw from (colour JPEG only).
        double_compression: share of samples that are compressed twice.
        photo: parameters of the degradation (task ``photo`` only).
        dataset_enlarge_ratio: crops per image and epoch.
        batch_size_per_gpu: images per iteration and process.
        num_worker_per_gpu: data loader workers per training process.
        pin_memory: copy batches to page-locked memory, for a GPU (None: with CUDA).
        exclude_every: hold out every n-th image for validation (None: none).
    """

    phase: Literal["train"] = "train"
    name: str = "train"
    weight: PositiveFloat = 1.0
    gt_size: PositiveInt = 128
    cache: bool = False
    augment: bool | Literal["flip", "rotate"] = True
    recolor: Fraction = 0.0
    jpeg_grid: JpegGrid = "aligned"
    subsampling: OneOrMore[Subsampling] = ["4:2:0"]
    double_compression: Fraction = 0.0
    photo: PhotoOptions = PhotoOptions()
    dataset_enlarge_ratio: PositiveInt = 1
    batch_size_per_gpu: PositiveInt = 8
    num_worker_per_gpu: NonNegativeInt = 2
    pin_memory: bool | None = None
    exclude_every: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _check_degradation(self) -> TrainSet:
        made = ("recolor", "jpeg_grid", "subsampling", "double_compression", "photo")
        for name in made if self.is_paired else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(
                    f"{name} is for a RestorationDataset: pairs are degraded already, leave it out"
                )
        return self


class ValSet(ImageSet):
    """``datasets: val``, ``val_2`` and so on: a validation set.

    Without images of its own (``dataroot_gt``) it takes those of ``datasets: train``.

    Attributes:
        phase: set by the section's name.
        level: levels to evaluate at (None: the model's level, or the benchmark levels of the task
            if the model covers a range; always None for pairs and a task without a level).
        cache: decode each image once and keep its pixels in memory; otherwise at each validation.
        holdout_every: use only every n-th image of the folder: those that ``exclude_every`` with
            the same number holds out of the training.
    """

    phase: Literal["val"] = "val"
    name: str = "val"
    cache: bool = True
    level: OneOrMore[float] | None = None
    holdout_every: Annotated[int, Field(ge=2)] | None = None

    @model_validator(mode="after")
    def _check_level(self) -> ValSet:
        if self.is_paired and self.level is not None:
            raise ValueError("level is for a RestorationDataset: pairs have none, leave it out")
        return self


class Datasets(Section):
    """``datasets``: training sets (``train``, ``train_*``), validation sets (``val``, ``val_*``).

    Several training sets are mixed by weight; crop size, batch size and workers are those of
    ``train``.
    """

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Annotated[TrainSet | ValSet, Field(discriminator="phase")]]

    train: TrainSet
    val: ValSet | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Reject unknown names; fill in what further sets take from ``train``."""
        if not isinstance(data, dict):
            return data
        first = section_in(data, "train")
        completed = {}
        for key, value in data.items():
            phase = str(key).partition("_")[0]
            if key not in ("train", "val") and not str(key).startswith(("train_", "val_")):
                names = ("train", "train_2", "val", "val_2")
                raise ValueError(str(unknown_name("data set", key, names)))
            if value is None and key != "train":
                continue
            if isinstance(value, dict):
                shared: Sequence[str] = _SHARED if phase == "train" else _IMAGES
                if phase == "val" and value.get("dataroot_gt") is not None:
                    shared = ()
                taken = {name: first[name] for name in shared if name in first}
                given = {k: v for k, v in value.items() if v is not None or k not in shared}
                value = {"name": str(key), **taken, **given, "phase": phase}
            completed[key] = value
        return completed

    @model_validator(mode="after")
    def _check_shared(self) -> Datasets:
        for key, data in self.train_sets.items():
            for name in _SHARED:
                if getattr(data, name) != getattr(self.train, name):
                    raise ValueError(f"{key}:{name} is taken from train: leave it out")
        names = [data.name for data in self.val_sets.values()]
        if len(set(names)) < len(names):
            raise ValueError("two validation sets have the same name: give each a name of its own")
        every = self.train.exclude_every
        for key, val_set in self.val_sets.items():
            of_train = val_set.dataroot_gt == self.train.dataroot_gt != [BUNDLED]
            split = every or val_set.holdout_every
            if split and of_train and not val_set.include and val_set.holdout_every != every:
                raise ValueError(
                    f"{key} would contain images of train: set train:exclude_every and "
                    f"{key}:holdout_every to {split}"
                )
        return self

    @property
    def train_sets(self) -> dict[str, TrainSet]:
        """The training sets by key, ``train`` first."""
        return {key: each for key, each in self if isinstance(each, TrainSet)}

    @property
    def val_sets(self) -> dict[str, ValSet]:
        """The validation sets by key, ``val`` first."""
        return {key: each for key, each in self if isinstance(each, ValSet)}

    @property
    def image_sets(self) -> dict[str, ImageSet]:
        """All sets by key."""
        return {**self.train_sets, **self.val_sets}


# What further training sets share with the first one, and where a validation set finds its images
# if it names none.
_SHARED = ("gt_size", "batch_size_per_gpu", "num_worker_per_gpu", "pin_memory")
_IMAGES = ("type", "dataroot_gt", "dataroot_lq", "filename_tmpl", "meta_info_file", "io_backend",
           "color")  # fmt: skip


class NetworkOptions(Section):
    """``network_g``: ``type`` and keyword arguments of a network.

    ``type`` is a key of :data:`vheatir.archs.ARCHS`. :func:`vheatir.training.options.load_options`
    adds the network that an option file names in BasicSR's ``ARCH_REGISTRY``.
    """

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, AfterValidator(_known_network)]

    @property
    def kwargs(self) -> dict[str, Any]:
        """The constructor's keyword arguments."""
        return dict(self.__pydantic_extra__ or {})

    def config(self) -> dict[str, Any]:
        """Return ``{"type": ..., **kwargs}``, as ``vheatir.archs.build_network`` takes it."""
        return {"type": self.type, **self.kwargs}


class PathOptions(Section):
    """``path``: weights to start from, state to resume, where experiments are written.

    Attributes:
        pretrain_network_g: weight file to start from.
        param_key_g: entry of a ``.pth`` file to read, such as ``params`` (None: ``params_ema`` if
            there is one).
        strict_load_g: require every weight to match.
        resume_state: training state to continue.
        experiments_root: folder of the experiments; None is ``experiments``. A relative path is
            resolved against the repository root, so that a run can be resumed from any working
            directory; for an installed package, against the working directory.
    """

    pretrain_network_g: InputPath | None = None
    param_key_g: str | None = None
    strict_load_g: bool = True
    resume_state: InputPath | None = None
    experiments_root: _OutputPath | None = None


class OptimizerOptions(Section):
    """``optim_g``: an optimiser of ``torch.optim`` and its arguments."""

    type: Literal["Adam", "AdamW", "Adamax", "NAdam", "RAdam"] = "Adam"
    lr: PositiveFloat = 2e-4
    weight_decay: NonNegativeFloat = 0.0
    betas: tuple[_Decay, _Decay] = (0.9, 0.999)
    eps: PositiveFloat = 1e-8


class SchedulerOptions(Section):
    """``scheduler``: the learning rate schedule.

    Attributes:
        type: ``MultiStep`` multiplies by ``gamma`` at each milestone; ``Cosine`` decays from
            ``lr`` to ``lr_min`` along half a cosine over the whole training; ``CosineRestart``
            starts anew after each of ``periods`` (BasicSR's ``CosineAnnealingRestartLR``).
        milestones: iterations, ascending (MultiStep).
        gamma: factor at a milestone (MultiStep).
        lr_min: learning rate at the end (Cosine, CosineRestart; BasicSR's ``eta_min``).
        T_max: iterations of the half cosine, after which the learning rate rises again, as
            ``torch``'s ``CosineAnnealingLR`` does (Cosine; None: the whole training).
        periods: iterations of each half cosine (CosineRestart).
        restart_weights: factor of ``lr - lr_min`` in each of them (CosineRestart).
    """

    type: Literal["MultiStep", "Cosine", "CosineRestart"] = "Cosine"
    milestones: list[PositiveInt] = []
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    lr_min: NonNegativeFloat = 0.0
    T_max: PositiveInt | None = None
    periods: list[PositiveInt] | None = None
    restart_weights: list[PositiveFloat] | None = None

    @model_validator(mode="after")
    def _check_together(self) -> SchedulerOptions:
        if self.type == "MultiStep" and not self.milestones:
            raise ValueError("MultiStep needs milestones: a list of iterations")
        if sorted(self.milestones) != self.milestones:
            raise ValueError("milestones must ascend")
        if self.type == "CosineRestart":
            if not self.periods:
                raise ValueError("CosineRestart needs periods: a list of numbers of iterations")
            if len(self.restart_weights or [1]) != len(self.periods):
                raise ValueError("restart_weights and periods must have the same length")
        return self


_OF_BASICSR = {"loss_weight": 1.0, "reduction": "mean", "eps": 1e-9}
#: BasicSR's pixel losses and NAFNet's, with the defaults of their options.
_PIXEL_LOSSES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("L1Loss", "MSELoss", "CharbonnierLoss"), _OF_BASICSR),
    "PSNRLoss": {"loss_weight": 1.0, "reduction": "mean", "toY": False},
}


class LossOptions(Section):
    """``pixel_opt``: the pixel loss between output and clean image.

    Attributes:
        type: one of BasicSR's pixel losses, ``PSNRLoss``, or any loss in BasicSR's
            ``LOSS_REGISTRY`` that is called as ``loss(pred, target)``; further options are keyword
            arguments of its class.
        loss_weight: factor of the loss.
        reduction: over the pixels of a batch.
        eps: Charbonnier only: ``mean(sqrt(d^2 + eps))``, with eps not squared, as in BasicSR and
            KAIR.
    """

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, AfterValidator(_known_loss)] = "L1Loss"
    loss_weight: PositiveFloat | None = None
    reduction: Literal["mean", "sum"] | None = None
    eps: PositiveFloat | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Check the names and fill in the defaults of the losses above, not of foreign ones."""
        name = data.get("type", "L1Loss") if isinstance(data, dict) else None
        if not isinstance(name, str) or name not in _PIXEL_LOSSES:
            return data
        known = {"type", *_PIXEL_LOSSES[name]}
        for key in data:
            if key not in known and key not in cls.model_fields:
                raise ValueError(str(unknown_name("option", key, known)))
        return {**_PIXEL_LOSSES[name], **data}

    def config(self) -> dict[str, Any]:
        """Return ``{"type": ..., **keyword arguments}`` of the loss."""
        given = {key: value for key, value in self.model_dump().items() if value is not None}
        if self.type in ("L1Loss", "MSELoss"):
            given.pop("eps", None)
        return given


class Stage(Section):
    """One stage of ``train: stages``.

    Attributes:
        until: fraction of the training, 0 to 1, at which the stage ends.
        gt_size: side of the square crops in pixels.
        batch_size: images per iteration and process.
    """

    until: Annotated[float, Field(gt=0, le=1)]
    gt_size: PositiveInt
    batch_size: PositiveInt


def _check_stages(stages: list[Stage]) -> list[Stage]:
    if any(after.until <= before.until for before, after in pairwise(stages)):
        raise ValueError("the stages' 'until' must ascend")
    return stages


class TrainOptions(Section):
    """``train``: the optimisation.

    Attributes:
        ema_decay: decay of the exponential moving average (EMA) of the weights; 0 disables it.
        total_iter: iterations (optimiser steps).
        max_minutes: end after this many minutes if that comes first; the schedule follows
            whichever of iterations and minutes is further along.
        warmup_iter: iterations of linear warm-up (0, or BasicSR's -1: none).
        grad_clip: gradient clipping: largest norm of the gradient.
        accumulate: number of batches per optimiser step (gradient accumulation).
        skip_nonfinite: skip and count iterations with a non-finite loss or gradient instead of
            stopping; the check synchronises with the GPU at every iteration.
        precision: ``bf16`` is autocast; ``auto`` is bf16 if the hardware has native bf16.
        compile: ``torch.compile`` the network; true, or one of its modes: ``reduce-overhead`` and
            ``max-autotune`` replay CUDA graphs, which removes Python overhead from small networks.
        checkpointing: recompute the activations of the blocks in the backward pass: the same
            gradients, far less memory, about 25 % more time.
        channels_last: use the channels-last memory layout.
        data_on_device: keep the decoded training set on the device and crop there.
        stages: crop and batch sizes over time; after the last stage, those of ``datasets: train``.
    """

    ema_decay: _Decay = 0.999
    optim_g: OptimizerOptions = OptimizerOptions()
    scheduler: SchedulerOptions = SchedulerOptions()
    total_iter: PositiveInt
    max_minutes: PositiveFloat | None = None
    warmup_iter: Annotated[int, Field(ge=-1)] = 0
    pixel_opt: LossOptions = LossOptions()
    grad_clip: PositiveFloat | None = None
    accumulate: PositiveInt = 1
    skip_nonfinite: bool = False
    precision: Literal["float32", "bf16", "auto"] = "float32"
    compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = False
    checkpointing: bool = False
    channels_last: bool = False
    data_on_device: bool = False
    stages: Annotated[list[Stage], AfterValidator(_check_stages)] | None = None

    @model_validator(mode="after")
    def _check_periods(self) -> TrainOptions:
        periods = self.scheduler.periods if self.scheduler.type == "CosineRestart" else None
        if periods is not None and sum(periods) < self.total_iter:
            raise ValueError(
                f"scheduler:periods end after {sum(periods)} iterations, before total_iter "
                f"{self.total_iter}: add a period, or lower total_iter"
            )
        return self


class MetricOptions(Section):
    """A metric of ``val: named_metrics``.

    Attributes:
        type: BasicSR's ``calculate_psnr`` or ``calculate_ssim``.
        crop_border: pixels to leave out at each edge.
        test_y_channel: measure on the luma of colour images.
        better: which values are better, for the best one in the log.
    """

    type: Literal["calculate_psnr", "calculate_ssim"]
    crop_border: NonNegativeInt = 0
    test_y_channel: bool = False
    better: Literal["higher", "lower"] = "higher"


class ValOptions(Section):
    """``val``: the validation.

    Attributes:
        val_freq: iterations between validations.
        save_img: save the restored images.
        suffix: appended to their names.
        tile: restore in tiles of at most this side in pixels (None: whole images).
        pbar: show a progress bar.
        metrics: metrics to compute.
        named_metrics: metrics to compute instead, by name: BasicSR's form of ``metrics``.
        use_image: compute these from 8-bit images; false: from the output as it is, neither clipped
            nor rounded (NAFNet's option).
    """

    val_freq: PositiveInt = 5000
    save_img: bool = False
    suffix: str | None = None
    tile: Annotated[int, Field(ge=16)] | None = None
    pbar: bool = False
    metrics: OneOrMore[Literal["psnr", "ssim", "psnrb"]] = ["psnr", "ssim"]
    named_metrics: Annotated[dict[str, MetricOptions], Field(min_length=1)] | None = None
    use_image: bool = True

    @model_validator(mode="after")
    def _check_use_image(self) -> ValOptions:
        if not self.use_image and self.named_metrics is None:
            raise ValueError(
                "use_image: false is for metrics with names, as in BasicSR: name them "
                "(metrics: {psnr: {type: calculate_psnr}}), or leave use_image out"
            )
        return self

    def column(self, kind: Literal["psnr", "ssim"]) -> str:
        """Return the name of the first metric of a kind; ``kind`` itself if there is none."""
        named = (self.named_metrics or {}).items()
        return next((name for name, m in named if m.type == f"calculate_{kind}"), kind)


class WandbOptions(Section):
    """``wandb``: a Weights & Biases project, as in BasicSR."""

    project: str | None = None
    resume_id: str | None = None


class LoggerOptions(Section):
    """``logger``: logging and checkpoint intervals.

    Attributes:
        print_freq: iterations between progress lines.
        save_checkpoint_freq: iterations between saved training states.
        keep_last: training states to keep (None: all).
        use_tb_logger: write TensorBoard logs.
        wandb: see :class:`WandbOptions`.
    """

    print_freq: PositiveInt = 100
    save_checkpoint_freq: PositiveInt = 5000
    keep_last: PositiveInt | None = 3
    use_tb_logger: bool = True
    wandb: WandbOptions | None = None


class DistOptions(Section):
    """``dist_params``: distributed training (``--launcher pytorch``).

    Attributes:
        backend: of torch.distributed; ``auto`` is ``nccl`` on a GPU, else ``gloo``.
        port: ignored, for compatibility with BasicSR; ``torchrun --master-port`` sets it.
    """

    backend: Literal["auto", "nccl", "gloo"] = "auto"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
