"""Sections of an option file: BasicSR's option names, with types, ranges and defaults."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)

from vheatir.data.sources import BUNDLED
from vheatir.degradations import JpegGrid, PhotoDegradation, Subsampling
from vheatir.errors import unknown_name
from vheatir.training.paths import resolve_list, resolve_output, resolve_path

PositiveInt = Annotated[int, Field(ge=1)]
Fraction = Annotated[float, Field(ge=0, le=1)]
_Positive = Annotated[float, Field(gt=0)]
_Quality = Annotated[int, Field(ge=1, le=100)]


def as_list(value: Any) -> Any:
    """Return a single word or number as a list of one, and any other value as it is."""
    return [value] if isinstance(value, str | int | float) else value


def _resolve(path: str) -> str:
    return path if path == BUNDLED else str(resolve_path(path))


def _resolve_output(path: str) -> str:
    return str(resolve_output(path))


def _known_network(name: str) -> str:
    from vheatir.archs import ARCHS  # imports torch, needed only here
    from vheatir.plugins import registered_networks

    if name not in ARCHS:
        raise ValueError(
            f"{unknown_name('network type', name, ARCHS, registered_networks())}, and networks in "
            "BasicSR's registry ('imports' names modules that register more)"
        )
    return name


def _known_loss(name: str) -> str:
    if name not in _PIXEL_LOSSES:
        from vheatir.training.losses import loss_names  # imports BasicSR, needed only here

        if name not in loss_names():
            raise ValueError(str(unknown_name("loss type", name, loss_names())))
    return name


def _resolve_list(entry: str) -> str:
    return str(resolve_list(entry)) if entry.endswith(".txt") else entry


InputPath = Annotated[str, AfterValidator(_resolve)]
"""A file or folder to read; made absolute by ``resolve_path``."""

NameEntries = Annotated[
    list[Annotated[str, AfterValidator(_resolve_list)]], BeforeValidator(as_list)
]
"""File names, patterns and list files: see :class:`vheatir.data.names.NameList`."""

Roots = Annotated[list[InputPath], BeforeValidator(as_list), Field(min_length=1)]


class Section(BaseModel):
    """Base class of the option sections: read-only, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class IoBackend(Section):
    """How images are stored: single files or BasicSR's LMDB folders."""

    type: Literal["disk", "lmdb"] = "disk"


def _check_range(low_high: tuple[float, float]) -> tuple[float, float]:
    if low_high[0] > low_high[1]:
        raise ValueError("must be a range [lowest, highest], in this order")
    return low_high


_Range = Annotated[tuple[_Positive, _Positive], AfterValidator(_check_range)]
_Qualities = Annotated[tuple[_Quality, _Quality], AfterValidator(_check_range)]


class PhotoOptions(Section):
    """``photo``: probabilities and ranges of the task ``photo``.

    Names and defaults as in :class:`vheatir.degradations.PhotoDegradation`.
    """

    clean: Fraction = PhotoDegradation.clean
    gray: Fraction = PhotoDegradation.gray
    camera_noise: Fraction = PhotoDegradation.camera_noise
    white_noise: Fraction = PhotoDegradation.white_noise
    gray_noise: Fraction = PhotoDegradation.gray_noise
    correlated_noise: Fraction = PhotoDegradation.correlated_noise
    blurred_noise: Fraction = PhotoDegradation.blurred_noise
    poisson_noise: Fraction = PhotoDegradation.poisson_noise
    film_grain: Fraction = PhotoDegradation.film_grain
    sigma: _Range = PhotoDegradation.sigma
    resize: Fraction = PhotoDegradation.resize
    resize_range: _Range = PhotoDegradation.resize_range
    jpeg: Fraction = PhotoDegradation.jpeg
    second_jpeg: Fraction = PhotoDegradation.second_jpeg
    jpeg_last: Fraction = PhotoDegradation.jpeg_last
    quality: _Qualities = PhotoDegradation.quality
    low_quality: _Qualities = PhotoDegradation.low_quality
    low_quality_share: Fraction = PhotoDegradation.low_quality_share


class TrainSet(Section):
    """``datasets: train``: training images and how samples are cropped from them.

    Attributes:
        dataroot_gt: folders of clean images, read recursively, or ``bundled``: scikit-image's
            photographs, of which some are held out for validation.
        gt_size: side of the square crops in pixels.
        cache: decode each image once and keep its pixels in memory.
        augment: draw one of the eight flips and rotations.
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
        limit: use only the first ``limit`` images (None: all).
        exclude_every: hold out every n-th image for validation (None: none).
        include: use only these images: file names, patterns such as ``sunhays_*``, or ``.txt``
            files with one such entry per line (empty: all).
        exclude: do not use these images; entries as for ``include``.
    """

    name: str = "train"
    type: Literal["RestorationDataset"] = "RestorationDataset"
    dataroot_gt: Roots
    io_backend: IoBackend = IoBackend()
    gt_size: PositiveInt = 128
    cache: bool = False
    augment: bool = True
    recolor: Fraction = 0.0
    jpeg_grid: JpegGrid = "aligned"
    subsampling: Annotated[list[Subsampling], BeforeValidator(as_list), Field(min_length=1)] = [
        "4:2:0"
    ]
    double_compression: Fraction = 0.0
    photo: PhotoOptions = PhotoOptions()
    dataset_enlarge_ratio: PositiveInt = 1
    batch_size_per_gpu: PositiveInt = 8
    num_worker_per_gpu: Annotated[int, Field(ge=0)] = 2
    limit: PositiveInt | None = None
    exclude_every: Annotated[int, Field(ge=2)] | None = None
    include: NameEntries = []
    exclude: NameEntries = []


class ValSet(Section):
    """``datasets: val``, ``val_2`` and so on: a validation set.

    Attributes:
        dataroot_gt: as in :class:`TrainSet`; the training folders by default.
        level: levels to evaluate at (None: the model's level, or the benchmark levels of the task
            if the model covers a range; always None for a task without a level).
        limit: use only the first ``limit`` images.
        holdout_every: use only every n-th image of the folder: those that ``exclude_every`` with
            the same number holds out of the training.
        include: as in :class:`TrainSet`.
        exclude: as in :class:`TrainSet`.
    """

    name: str = "val"
    dataroot_gt: Roots
    level: Annotated[list[float], BeforeValidator(as_list), Field(min_length=1)] | None = None
    limit: PositiveInt | None = None
    holdout_every: Annotated[int, Field(ge=2)] | None = None
    include: NameEntries = []
    exclude: NameEntries = []


class Datasets(Section):
    """``datasets``: one training set and any number of validation sets (``val``, ``val_*``)."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, ValSet]

    train: TrainSet
    val: ValSet | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Reject unknown names; fill in the training folders for sets without their own."""
        if not isinstance(data, dict):
            return data
        for key in data:
            if key not in ("train", "val") and not str(key).startswith("val_"):
                raise ValueError(str(unknown_name("data set", key, ("train", "val", "val_2"))))
        train = data.get("train")
        roots = train.get("dataroot_gt") if isinstance(train, dict) else None
        return {
            key: {"dataroot_gt": roots, **value}
            if key != "train" and isinstance(value, dict) and roots is not None
            else value
            for key, value in data.items()
        }

    @property
    def val_sets(self) -> dict[str, ValSet]:
        """The validation sets by key, ``val`` first."""
        first = {} if self.val is None else {"val": self.val}
        return first | dict(self.__pydantic_extra__ or {})


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
        strict_load_g: require every weight to match.
        resume_state: training state to continue.
        experiments_root: folder of the experiments; None is ``experiments``. A relative path is
            resolved against the repository root, so that a run can be resumed from any working
            directory; for an installed package, against the working directory.
    """

    pretrain_network_g: InputPath | None = None
    strict_load_g: bool = True
    resume_state: InputPath | None = None
    experiments_root: Annotated[str, AfterValidator(_resolve_output)] | None = None


class OptimizerOptions(Section):
    """``optim_g``: an optimiser of ``torch.optim`` and its arguments."""

    type: Literal["Adam", "AdamW", "Adamax", "NAdam", "RAdam"] = "Adam"
    lr: Annotated[float, Field(gt=0)] = 2e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (
        0.9,
        0.999,
    )
    eps: Annotated[float, Field(gt=0)] = 1e-8


class SchedulerOptions(Section):
    """``scheduler``: the learning rate schedule.

    Attributes:
        type: ``MultiStep`` multiplies by ``gamma`` at each milestone; ``Cosine`` decays from
            ``lr`` to ``lr_min`` along half a cosine over the whole training.
        milestones: iterations, ascending (MultiStep).
        gamma: factor at a milestone (MultiStep).
        lr_min: learning rate at the end (Cosine; BasicSR's ``eta_min``).
    """

    type: Literal["MultiStep", "Cosine"] = "Cosine"
    milestones: list[PositiveInt] = []
    gamma: Annotated[float, Field(gt=0, le=1)] = 0.5
    lr_min: Annotated[float, Field(ge=0)] = 0.0

    @field_validator("type", mode="before")
    @classmethod
    def _accept_class_names(cls, value: Any) -> Any:
        names = {"MultiStepLR": "MultiStep", "CosineAnnealingLR": "Cosine"}
        return names.get(value, value) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check_milestones(self) -> SchedulerOptions:
        if self.type == "MultiStep" and not self.milestones:
            raise ValueError("MultiStep needs milestones: a list of iterations")
        if sorted(self.milestones) != self.milestones:
            raise ValueError("milestones must ascend")
        return self


#: BasicSR's pixel losses and NAFNet's, with the defaults of their options.
_PIXEL_LOSSES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        ("L1Loss", "MSELoss", "CharbonnierLoss"),
        {"loss_weight": 1.0, "reduction": "mean", "eps": 1e-9},
    ),
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
    loss_weight: Annotated[float, Field(gt=0)] | None = None
    reduction: Literal["mean", "sum"] | None = None
    eps: Annotated[float, Field(gt=0)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, data: Any) -> Any:
        """Fill in the defaults of the losses above; a loss from elsewhere has its own."""
        if not isinstance(data, dict):
            return data
        name = data.get("type", "L1Loss")
        return {**_PIXEL_LOSSES.get(name, {}), **data} if isinstance(name, str) else data

    @model_validator(mode="after")
    def _check_names(self) -> LossOptions:
        allowed = _PIXEL_LOSSES.get(self.type, self.__pydantic_extra__ or {})
        for key in self.__pydantic_extra__ or {}:
            if key not in allowed:
                raise ValueError(str(unknown_name("option", key, {"type", *allowed})))
        return self

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

    ema_decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    optim_g: OptimizerOptions = OptimizerOptions()
    scheduler: SchedulerOptions = SchedulerOptions()
    total_iter: PositiveInt
    max_minutes: Annotated[float, Field(gt=0)] | None = None
    warmup_iter: Annotated[int, Field(ge=-1)] = 0
    pixel_opt: LossOptions = LossOptions()
    grad_clip: Annotated[float, Field(gt=0)] | None = None
    accumulate: PositiveInt = 1
    skip_nonfinite: bool = False
    precision: Literal["float32", "bf16", "auto"] = "float32"
    compile: bool | Literal["default", "reduce-overhead", "max-autotune"] = False
    checkpointing: bool = False
    channels_last: bool = False
    data_on_device: bool = False
    stages: list[Stage] | None = None

    @field_validator("stages")
    @classmethod
    def _check_stages(cls, stages: list[Stage] | None) -> list[Stage] | None:
        ends = [stage.until for stage in stages or ()]
        if any(b <= a for a, b in zip(ends, ends[1:], strict=False)):
            raise ValueError("the stages' 'until' must ascend")
        return stages


class ValOptions(Section):
    """``val``: the validation.

    Attributes:
        val_freq: iterations between validations.
        save_img: save the restored images.
        suffix: appended to their names.
        tile: restore in tiles of at most this side in pixels (None: whole images).
        pbar: show a progress bar.
        metrics: metrics to compute.
    """

    val_freq: PositiveInt = 5000
    save_img: bool = False
    suffix: str | None = None
    tile: Annotated[int, Field(ge=16)] | None = None
    pbar: bool = False
    metrics: Annotated[
        list[Literal["psnr", "ssim", "psnrb"]], BeforeValidator(as_list), Field(min_length=1)
    ] = ["psnr", "ssim"]


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
    """``dist_params``: distributed training (``--launcher pytorch``)."""

    backend: Literal["auto", "nccl", "gloo"] = "auto"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
