"""Save and load training states; files are written atomically."""

from __future__ import annotations

import errno
import io
import logging
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from vheatir.errors import VHeatIRError, first_line
from vheatir.hardware import is_out_of_memory
from vheatir.image_io import remove_unfinished, write_bytes_atomically
from vheatir.weights import load_pickle

FORMAT = 1

log = logging.getLogger("vheatir")


class DamagedStateError(VHeatIRError):
    """A training state that is incomplete or not what was written."""


def save_checkpoint(folder: Path, state: Mapping[str, Any], keep_last: int | None) -> Path:
    """Save a training state as ``<iteration>.state`` and drop old ones.

    The file is written atomically. Older states are deleted only after the new one has been
    written and read back.

    Args:
        folder: the experiment's ``training_states`` folder.
        state: tensors, numbers, strings, lists and dicts; must contain ``iteration``.
        keep_last: number of states to keep; None keeps all.

    Raises:
        VHeatIRError: the state cannot be written; earlier states are left untouched.
    """
    path = folder / f"{state['iteration']}.state"
    buffer = io.BytesIO()
    torch.save({"format": FORMAT, **state, "rng": rng_state()}, buffer)
    data = buffer.getvalue()
    try:
        write_bytes_atomically(path, data)
        if path.read_bytes() != data:
            path.unlink()
            raise OSError(errno.EIO, "it reads back differently, the disk may be failing")
    except OSError as error:
        raise VHeatIRError(
            f"the training state {path} could not be saved ({error.strerror}): "
            "free some space and continue with --auto_resume"
        ) from error
    if keep_last is not None:
        for old in _newest_first(folder)[keep_last:]:
            if old != path:
                old.unlink(missing_ok=True)
    return path


def set_aside_newer(folder: Path, iteration: int) -> None:
    """Rename the states of iterations after ``iteration``, which a resumed run does not use.

    They are damaged or belong to an abandoned run. Left in place, the next resume would pick them
    up, and they would count towards ``keep_last``. Partially written files of a killed process are
    deleted.
    """
    for path in _newest_first(folder):
        if int(path.stem) > iteration:
            set_aside(path)
    remove_unfinished(folder, "*.state")


def set_aside(path: Path) -> None:
    """Rename a file that the run does not use to ``<name>.unused``, and say so in the log."""
    aside = path.with_name(path.name + ".unused")
    path.replace(aside)
    log.warning("%s is not used; renamed to %s", path.name, aside.name)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load a training state without executing any code in the file.

    Raises:
        DamagedStateError: the file is damaged.
        VHeatIRError: the file is missing, cannot be read or is in another format, or there is not
            enough memory for it.
    """
    try:
        state = load_pickle(path)
    except FileNotFoundError:
        raise VHeatIRError(f"training state {path} does not exist") from None
    except Exception as error:  # a damaged file may raise anything
        if is_out_of_memory(error):
            raise VHeatIRError(
                f"not enough memory to load the training state {path}: free some and try again"
            ) from None
        # Of a damaged file, a seek beyond its start or end is an invalid argument.
        if isinstance(error, OSError) and error.errno not in (None, errno.EINVAL):
            raise VHeatIRError(
                f"training state {path} cannot be read ({error.strerror}): change its permissions "
                "or check the disk"
            ) from None
        raise DamagedStateError(f"training state {path} is damaged: {first_line(error)}") from None
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise VHeatIRError(
            f"{path} is not a training state of this version: start a new run from weights"
        )
    return state


def newest_state(folder: Path) -> Path | None:
    """Return the path of the newest training state in a folder, without reading it."""
    return next(iter(_newest_first(folder)), None)


def newest_checkpoint(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest complete training state in a folder, skipping damaged ones.

    Raises:
        VHeatIRError: all states are damaged, or one cannot be loaded for another reason, see
            :func:`load_checkpoint`.
    """
    paths = _newest_first(folder)
    for path in paths:
        try:
            return path, load_checkpoint(path)
        except DamagedStateError as error:
            log.warning("%s; trying the previous one", error)
    if paths:
        raise VHeatIRError(
            f"all training states in {folder} are damaged: remove them to start from scratch, or "
            "leave --auto_resume out, which keeps the folder under another name"
        )
    return None


def rng_state() -> dict[str, Any]:
    """Return the states of all global random generators, in types that ``weights_only`` loads."""
    legacy: Any = np.random.get_state(legacy=True)
    kind, keys, position, has_gauss, cached = legacy
    version, internal, gauss = random.getstate()
    state: dict[str, Any] = {
        "torch": torch.get_rng_state(),
        "numpy": [kind, torch.from_numpy(keys.astype(np.int64)), position, has_gauss, cached],
        "python": [version, list(internal), gauss],
    }
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: Mapping[str, Any]) -> None:
    """Restore the random generators from the result of :func:`rng_state`."""
    torch.set_rng_state(state["torch"])
    kind, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), position, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    if "cuda" in state and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])


def _newest_first(folder: Path) -> list[Path]:
    states = [path for path in folder.glob("*.state") if path.stem.isdigit()]
    return sorted(states, key=lambda path: int(path.stem), reverse=True)
