"""Deprecated names of release 0.1: still accepted, with one log warning per name."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

_TASKS = ("denoise_gray", "denoise_color", "jpeg_gray", "jpeg_color")

#: Released models, old name to new.
MODELS = {
    f"{task}_{old}": f"{task}_{new}"
    for task in _TASKS
    for old, new in (("fast", "small"), ("light", "medium"))
}
#: Sizes of ``VHeatIR``, old name to new.
SIZES = {"fast": "mini"}

log = logging.getLogger(__name__)


def current_name(name: str, renamed: Mapping[str, str]) -> str:
    """Return the new name of ``name``, or ``name`` itself if it was not renamed.

    Args:
        name: a name given by the user.
        renamed: :data:`MODELS` or :data:`SIZES`.
    """
    if name not in renamed:
        return name
    _warn_renamed(name, renamed[name])
    return renamed[name]


def current_file(path: Path) -> Path:
    """Return the renamed file of a missing ``path`` with the old name of a released model."""
    name = path.stem
    if path.suffix != ".safetensors" or name not in MODELS:
        return path
    renamed = path.with_stem(MODELS[name])
    if not renamed.exists():
        return path
    _warn_renamed(name, MODELS[name])
    return renamed


@cache  # once per name
def _warn_renamed(old: str, new: str) -> None:
    log.warning("%s is now called %s; the old name will stop working in the next release", old, new)
