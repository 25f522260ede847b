"""Packages for darktable: a ``.dtmodel`` is a zip of ``<id>/config.json`` and ``<id>/model.onnx``.

Contract: darktable's ``src/ai/README.md`` and ``src/ai/restore.c``, and ``package.py``,
``convert.py`` and ``validate.py`` of darktable-ai. darktable passes tiles of a developed
photograph, RGB in sRGB, (1, 3, H, W) in [0, 1]. To a model with ``num_inputs`` 2 it also passes
``sigma`` (1, 1, H, W); it has no control for it, and always passes 25 / 255.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping
from typing import Any

import vheatir
from vheatir.errors import VHeatIRError
from vheatir.export.graph import to_onnx
from vheatir.export.source import Source

# A fixed date, so that equal models give equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


def to_package(source: Source, level: float | None = None, half: bool = False) -> bytes:
    """Return a model as the contents of a ``.dtmodel`` file.

    Args:
        source: a model for colour images, for the task ``photo`` or a denoiser, whose licence is
            known and lets anyone use it.
        level: level to build in; None for the input ``sigma``, if the model takes a level.
        half: whether to store the weights in float16.

    Raises:
        VHeatIRError: a model for another task, or with another licence.
    """
    identifier, config = manifest(source, level)
    return pack(identifier, config, to_onnx(source, level, half))


def manifest(source: Source, level: float | None = None) -> tuple[str, dict[str, Any]]:
    """Return the identifier of a package and the content of its ``config.json``.

    Arguments and errors as in :func:`to_package`.
    """
    task = source.task
    if task is None or task.kind not in ("denoise", "photo") or task.color != "rgb":
        shown = task.title if task else "an unknown task"
        raise VHeatIRError(
            f"{source.name} is for {shown}: darktable takes models for denoise_color and photo"
        )
    if source.entry is not None and not source.entry.commercial_use:
        raise VHeatIRError(
            f"the licence of {source.name} does not allow a package for darktable "
            f"({source.licence}): take one of those for any use, which vheatir models lists"
        )
    if not source.licence:
        raise VHeatIRError(
            f"the licence of {source.name} is not known: give --licence, compatible with GPL-3.0"
        )
    identifier = f"denoise-vheatir-{_slug(source.name)}"
    title = f"denoise vheatir {source.name.replace('_', ' ')}"
    description = f"Heat conduction network for {task.title}"
    if level is not None:
        identifier += f"-sigma{_slug(f'{level:g}')}"
        title += f", sigma {level:g}"
        description += f", sigma {level:g}"
    config = {
        "id": identifier,
        "name": title,
        "description": f"{description}; licence: {source.licence}",
        "task": "denoise",
        "arch": "generic",
        "backend": "onnx",
        "version": vheatir.__version__,
        "tiling": True,
        "num_inputs": 2 if source.takes_level and level is None else 1,
    }
    return identifier, config


def pack(identifier: str, config: Mapping[str, Any], model: bytes) -> bytes:
    """Return the contents of a package.

    Args:
        identifier: name of the folder in it.
        config: see :func:`manifest`.
        model: contents of the ONNX file.
    """
    files = {
        "config.json": (json.dumps(config, indent=4) + "\n").encode(),
        "model.onnx": model,
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(f"{identifier}/{name}", _DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            archive.writestr(entry, data)
    return buffer.getvalue()


def _slug(text: str) -> str:
    """Return a name in lower case, with hyphens for all but letters and digits."""
    kept = "".join(letter if letter.isalnum() and letter.isascii() else " " for letter in text)
    return "-".join(kept.lower().split())
