"""The option file of a benchmark training, common to all candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vheatir.data.names import NameList
from vheatir.data.sources import BUNDLED
from vheatir.image_io import list_images
from vheatir.tasks import Task
from vheatir.training.paths import resolve_list

#: List of held-out photographs, never trained on.
HELD_OUT = "options/lists/heldout.txt"
_EVERY = 20


def split(roots: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the dataset options that separate training from validation.

    If ``roots`` contain photographs of the held-out list, these are the validation set, else every
    20th image of each folder. The bundled photographs have their own held-out part.
    """
    if list(roots) == [BUNDLED]:
        return {}, {}
    held = NameList([str(resolve_list(HELD_OUT))])
    if any(str(path) in held for root in roots for path in list_images(root)):
        return {"exclude": HELD_OUT}, {"include": HELD_OUT}
    return {"exclude_every": _EVERY}, {"holdout_every": _EVERY}


def resolve_roots(text: str) -> list[str]:
    """Return comma-separated folders as absolute paths; ``bundled`` is kept."""
    roots = text.split(",")
    return [root if root == BUNDLED else str(Path(root).resolve()) for root in roots]


def training_options(
    *,
    name: str,
    task: Task,
    level: Any,
    seed: int,
    device: str,
    network: Mapping[str, Any],
    roots: Sequence[str],
    validation_limit: int,
    test_set: Path | None,
    crop: int,
    batch: int,
    workers: int,
    rate: float,
    iterations: int,
    validations: int,
    reports: int,
    metrics: Sequence[str],
    experiments: Path,
    **train: Any,
) -> dict[str, Any]:
    """Return an option file for ``vheatir/train.py``: AdamW, warm-up, cosine decay to zero, EMA.

    ``validation_limit`` photographs of the validation split (see :func:`split`) are measured.
    ``train`` adds keys to the ``train`` section.
    """
    training, validation = split(roots)
    datasets: dict[str, Any] = {
        "train": {
            "name": "photographs",
            "dataroot_gt": list(roots),
            "cache": True,
            "gt_size": crop,
            "batch_size_per_gpu": batch,
            "num_worker_per_gpu": workers,
            "dataset_enlarge_ratio": 100,
            **training,
        },
        "val": {
            "name": "validation",
            "dataroot_gt": list(roots),
            **({**validation, "limit": validation_limit} if validation else {}),
        },
    }
    if test_set is not None:
        datasets["val_test"] = {"name": "test", "dataroot_gt": [str(test_set.resolve())]}
    return {
        "name": name,
        "task": task.name,
        "level": list(level) if isinstance(level, tuple) else level,
        "manual_seed": seed,
        "device": device,
        "network_g": dict(network),
        "datasets": datasets,
        "path": {"experiments_root": str(experiments)},
        "train": {
            "ema_decay": 0.999,
            "optim_g": {"type": "AdamW", "lr": rate, "weight_decay": 1e-4},
            "scheduler": {"type": "Cosine", "lr_min": 0},
            "warmup_iter": min(200, max(1, iterations // 10)),
            "total_iter": iterations,
            "pixel_opt": {"type": "L1Loss"},
            "precision": "auto",
            **train,
        },
        "val": {"val_freq": max(1, -(-iterations // validations)), "metrics": list(metrics)},
        "logger": {
            "print_freq": max(1, iterations // reports),
            "save_checkpoint_freq": max(1, min(500, iterations // 10)),
            "keep_last": 1,
            "use_tb_logger": False,
        },
    }
