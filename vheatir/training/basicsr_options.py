"""Translate the options of BasicSR, HAT and NAFNet to the names used here.

:func:`translate` runs on an option file before it is validated. It renames options, sets the
defaults of another ``model_type``, and removes the options of those projects that have no meaning
here. Everything else is left to :mod:`vheatir.training.schema`, which
refuses what it does not know.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from vheatir.errors import VHeatIRError, unknown_name

Key = tuple[str, ...]


def section_of(path: Key) -> Key:
    """Return the kind of a section: ``train_2`` is a training set, a metric has any name."""
    if path[:1] == ("val",):
        return path[:2]
    names = (name for name in path if not name.isdigit())  # not the indices of a list
    return tuple(n.partition("_")[0] if n.startswith(("train_", "val_")) else n for n in names)


class OptionError(VHeatIRError):
    """An option that cannot be translated.

    Attributes:
        key: the option, as it was written.
    """

    def __init__(self, key: Key, message: str) -> None:
        super().__init__(message)
        self.key = key


#: Names of options that :func:`translate` accepts besides those of the schema, by section.
STOCK_NAMES: dict[Key, tuple[str, ...]] = {
    (): ("tile",),
    ("datasets", "train"): ("use_hflip", "use_flip", "use_rot", "use_shuffle"),
    ("path",): ("param_key",),
    ("train",): ("mixup", "use_grad_clip"),
    ("train", "scheduler"): ("eta_min",),
}

# Where the defaults of BasicSR and torch differ from this package's.
_STOCK_DEFAULTS = (
    ("pixel_opt", "CharbonnierLoss", "eps", 1e-12), ("optim_g", "AdamW", "weight_decay", 0.01)
)  # fmt: skip
_STOCK_MODELS = ("SRModel", "SwinIRModel", "HATModel", "ImageRestorationModel")

# Real-ESRGAN's degradation and its discriminator's training have no counterpart here.
_KERNEL = (
    "blur_kernel_size", "kernel_list", "kernel_prob", "sinc_prob", "blur_sigma", "betag_range",
    "betap_range",
)  # fmt: skip
_DEGRADATION = (
    "resize_prob", "gaussian_noise_prob", "noise_range", "poisson_scale_range", "gray_noise_prob",
    "jpeg_range",
)  # fmt: skip
_IGNORED: dict[Key, tuple[str, ...]] = {
    (): (
        "queue_size", "gt_usm", "l1_gt_usm", "percep_gt_usm", "gan_gt_usm", "second_blur_prob",
        "network_d", *_DEGRADATION, *(f"{name}2" for name in _DEGRADATION), "resize_range2",
    ),
    ("datasets", "train"): (
        "prefetch_mode", "num_prefetch_queue", "meta_info", "final_sinc_prob", *_KERNEL,
        *(f"{name}2" for name in _KERNEL),
    ),
    ("datasets", "val"): (
        "prefetch_mode", "num_prefetch_queue", "pin_memory", "use_shuffle", "num_worker_per_gpu",
        "batch_size_per_gpu",
    ),
    ("path",): (
        "pretrain_network_d", "param_key_d", "strict_load_d", "ignore_resume_networks", "root",
        "results_root",
    ),
    ("train",): (
        "perceptual_opt", "gan_opt", "ldl_opt", "optim_d", "net_d_iters", "net_d_init_iters",
    ),
    ("val",): ("grids", "trans_num", "max_minibatch", "rgb2bgr"),
    ("val", "metrics"): ("input_order",),
}  # fmt: skip
# At the top level these belong to Real-ESRGAN only beside its ``queue_size``: alone they are
# options in the wrong place.
_OF_REAL_ESRGAN = ("gt_size", "resize_range")
_SCHEDULERS = {
    "MultiStepLR": "MultiStep",
    "MultiStepRestartLR": "MultiStep",
    "CosineAnnealingLR": "Cosine",
    "TrueCosineAnnealingLR": "Cosine",
    "CosineAnnealingRestartLR": "CosineRestart",
}
_NAFNET_GRAD_CLIP = 0.01
_BASICSR_GAMMA = 0.1


@dataclass
class Translation:
    """Result of :func:`translate`.

    Attributes:
        data: the options under the names used here.
        written: the option as it was written, for each that was renamed.
        ignored: options that are known, but have no meaning here.
    """

    data: dict[str, Any]
    written: dict[Key, Key] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)


def translate(data: dict[str, Any]) -> Translation:
    """Translate the options of a file, as read from YAML.

    Options under the names used here are left as they are, so a second translation changes
    nothing.

    Raises:
        OptionError: an option is given by two names, or asks for what is not available here.
    """
    result = Translation(copy.deepcopy(data))
    _ignore(result)
    for key, section in _sections(result.data):
        for name in STOCK_NAMES.get(section_of(key), ()):
            if name in section and section[name] is None:  # null is "not set"
                del section[name]
        if section_of(key) == ("datasets", "train"):
            _translate_training_set(result, key, section)
    _translate_train(result)
    _rename(result, ("path", "param_key"), ("path", "param_key_g"))
    val = section_in(result.data, "val")
    if isinstance(val.get("metrics"), dict):
        _rename(result, ("val", "metrics"), ("val", "named_metrics"))
    _translate_tile(result)
    return result


def _ignore(result: Translation) -> None:
    """Remove the options without a meaning here."""
    for key, section in _sections(result.data):
        names = _IGNORED.get(section_of(key), ())
        for name in names + (_OF_REAL_ESRGAN if not key and "queue_size" in section else ()):
            # null is "not set", which has nothing to ignore
            if name in section and section.pop(name) is not None:
                result.ignored.append(":".join((*key, name)))


def _translate_training_set(result: Translation, key: Key, section: dict[str, Any]) -> None:
    _rename(result, (*key, "use_flip"), (*key, "use_hflip"))
    if "use_hflip" in section or "use_rot" in section:
        given = [name for name in ("use_hflip", "use_rot") if name in section]
        if "augment" in section:
            raise _given_twice((*key, given[0]), (*key, "augment"))
        for name in given:
            _check_flag(result.written.get((*key, name), (*key, name)), section[name])
        kinds = {(True, True): True, (True, False): "flip", (False, True): "rotate"}
        # the defaults of BasicSR's function
        flips, turns = section.pop("use_hflip", True), section.pop("use_rot", True)
        section["augment"] = kinds.get((flips, turns), False)
        result.written[(*key, "augment")] = (*key, given[0])
    # Training samples are always shuffled, as in BasicSR, which does not read this option.
    if section.pop("use_shuffle", True) is not True:
        result.ignored.append(":".join((*key, "use_shuffle")))


def _check_flag(key: Key, value: object) -> None:
    if not isinstance(value, bool):
        shown = f"option {':'.join(key)!r} is {value!r}"
        raise OptionError(key, f"{shown}: it must be true or false")


def _translate_train(result: Translation) -> None:
    train = section_in(result.data, "train")
    model = result.data.get("model_type")
    if train.pop("mixup", False):
        raise OptionError(
            ("train", "mixup"), "option 'train:mixup': mixup is not available here, set it to false"
        )
    scheduler = section_in(train, "scheduler")
    _rename(result, ("train", "scheduler", "eta_min"), ("train", "scheduler", "lr_min"))
    clips = train.pop("use_grad_clip", model == "ImageRestorationModel")
    _check_flag(("train", "use_grad_clip"), clips)
    if clips:
        train.setdefault("grad_clip", _NAFNET_GRAD_CLIP)
    if model in _STOCK_MODELS:
        # the defaults of these models; NAFNet's has no average of the weights at all
        _set_default(train, "ema_decay", 0)
        for section, of_type, option, default in _STOCK_DEFAULTS:
            if section_in(train, section).get("type") == of_type:
                _set_default(section_in(train, section), option, default)
        if scheduler.get("type") in ("MultiStepLR", "MultiStepRestartLR"):
            _set_default(scheduler, "gamma", _BASICSR_GAMMA)
    kind = scheduler.get("type")
    if isinstance(kind, str):
        scheduler["type"] = _SCHEDULERS.get(kind, kind)


def _set_default(section: dict[str, Any], name: str, default: float) -> None:
    if section.get(name) is None:
        section[name] = default


def _translate_tile(result: Translation) -> None:
    """Translate HAT's tiles: ``tile_size`` pixels, with ``tile_pad`` more on each side."""
    tile = section_in(result.data, "tile")
    for name in tile:
        if name not in ("tile_size", "tile_pad"):
            known = unknown_name("option", name, ("tile_size", "tile_pad"))
            raise OptionError(("tile", name), f"tile: {known}")
    size, pad = tile.get("tile_size"), tile.get("tile_pad") or 0
    if size is not None:
        if not all(isinstance(each, int | float) for each in (size, pad)):
            raise OptionError(("tile",), f"option 'tile' is {tile}: it must have two numbers")
        if result.data.get("val") is None:
            result.data["val"] = {}
        val = result.data["val"]
        if section_in(result.data, "val").get("tile") is not None:
            raise _given_twice(("tile", "tile_size"), ("val", "tile"))
        if isinstance(val, dict):
            val["tile"] = size + 2 * pad
            result.written["val", "tile"] = ("tile", "tile_size")
    if tile:
        del result.data["tile"]


def _rename(result: Translation, old: Key, new: Key) -> None:
    """Give an option its name here."""
    section = result.data
    for part in old[:-1]:
        section = section_in(section, part)
    if old[-1] not in section:
        return
    if new[-1] in section:
        raise _given_twice(old, new)
    section[new[-1]] = section.pop(old[-1])
    result.written[new] = old


def _given_twice(one: Key, other: Key) -> OptionError:
    return OptionError(
        one,
        f"options {':'.join(one)!r} and {':'.join(other)!r} are two names of one thing: give one",
    )


def section_in(data: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a section; an empty one if it is missing or no section."""
    section = data.get(name)
    return section if isinstance(section, dict) else {}


def _sections(data: dict[str, Any], key: Key = ()) -> Iterator[tuple[Key, dict[str, Any]]]:
    """Yield the options and each section in them, with its path."""
    yield key, data
    for name, value in list(data.items()):
        if isinstance(value, dict):
            yield from _sections(value, (*key, name))
