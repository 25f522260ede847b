"""Model cards with the metadata of the Hugging Face Hub, see :mod:`vheatir.hub`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from vheatir.errors import VHeatIRError
from vheatir.tasks import Task, format_levels, get_task
from vheatir.weights import LoadedModel, level_range
from vheatir.zoo import ModelEntry

_PIPELINE = "image-to-image"
_TAGS = {"denoise": ["denoising"], "jpeg": ["jpeg-artifact-removal"],
         "photo": ["denoising", "jpeg-artifact-removal"]}  # fmt: skip
#: Licences that the Hub knows by an identifier, of those common for weights.
_IDENTIFIERS = frozenset({
    "apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "gpl-3.0", "lgpl-3.0", "agpl-3.0",
    "mpl-2.0", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0",
})  # fmt: skip
#: Name of the licence of a released model whose training images restrict its use.
_RESTRICTED = "apache-2.0-with-restricted-training-images"

_USE = """
## Use

With vHeatIR installed:

```python
from vheatir import Restorer, from_pretrained

model = from_pretrained("this folder, or its org/name on the Hub")
restored = Restorer(model).restore("photo.jpg")
```

`config.json` holds the SHA-256 of `model.safetensors`, which is checked before it is loaded.
"""


def hub_card(
    model: LoadedModel,
    network: Mapping[str, Any],
    sha256: str,
    entry: ModelEntry | None = None,
    licence: str | None = None,
) -> str:
    """Return a model card in Markdown, with the Hub's metadata as YAML in front.

    Args:
        model: the model.
        network: its configuration, see :func:`vheatir.archs.network_config`.
        sha256: SHA-256 of the weight file.
        entry: its entry in the registry, if it is a released one: the text and the measured PSNR
            and SSIM are those of its card.
        licence: licence of the weights, if it is not a released one and the licence is known.
    """
    task = _task(model)
    metadata: dict[str, Any] = {
        **_licence(entry, licence),
        "library_name": "vheatir",
        "pipeline_tag": _PIPELINE,
        "tags": ["vheatir", "image-restoration", *_TAGS.get(task.kind if task else "", [])],
    }
    if entry is None:
        body = _describe(model, task, network, sha256)
    else:
        text = entry.card.read_text(encoding="utf-8")
        assert task is not None
        results = [_result(task, row) for row in _rows(text)]
        metadata["metrics"] = ["psnr", "ssim"]
        metadata["model-index"] = [{"name": entry.name, "results": results}]
        # the curve is a file of the project
        body = "".join(line for line in text.splitlines(True) if not line.startswith("- curve:"))
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{front}---\n\n{body}{_USE}"


def _task(model: LoadedModel) -> Task | None:
    try:
        return get_task(str(model.info.get("task")))
    except VHeatIRError:
        return None


def _licence(entry: ModelEntry | None, licence: str | None) -> dict[str, str]:
    """Return the metadata on the licence; none if it is not known."""
    if entry is not None and not entry.commercial_use:
        return {"license": "other", "license_name": _RESTRICTED}
    name = entry.licence if entry is not None else licence
    if name is None:
        return {}
    if name.lower() in _IDENTIFIERS:
        return {"license": name.lower()}
    return {"license": "other", "license_name": name}


def _rows(card: str) -> Iterator[dict[str, str]]:
    """Yield the rows of the table in the card of a released model, by its heading."""
    lines = [line.strip("|").split("|") for line in card.splitlines() if line.startswith("|")]
    head, _, *rows = ([cell.strip() for cell in line] for line in lines)
    for row in rows:
        yield dict(zip(head, row, strict=True))


def _result(task: Task, row: Mapping[str, str]) -> dict[str, Any]:
    """Return an entry of the Hub's ``model-index`` for a row of the table."""
    dataset: dict[str, Any] = {"name": row["data set"], "type": row["data set"]}
    if task.level_name is not None:
        level = row[task.level_name]
        dataset |= {"config": f"{task.level_name} {level}", "args": {task.level_name: int(level)}}
    return {
        "task": {"type": _PIPELINE, "name": task.heading},
        "dataset": dataset,
        "metrics": [
            {"type": name.lower(), "name": name, "value": float(row[name])}
            for name in ("PSNR", "SSIM")
        ],
    }


def _describe(
    model: LoadedModel, task: Task | None, network: Mapping[str, Any], sha256: str
) -> str:
    """Return the text of the card of a model that is not a released one."""
    params = sum(parameter.numel() for parameter in model.network.parameters())
    what = task.heading if task is not None else "Image restoration"
    if task is not None and task.level_name is not None:
        what += f", {task.level_name} {format_levels(level_range(model.info))}"
    lines = [f"# {model.name}", "", f"{what}; {params / 1e6:.2f} M parameters.", ""]
    if training := model.info.get("training"):
        lines += ["## Training", "", "```json", json.dumps(training, indent=1), "```", ""]
    lines += ["## Network", "", "```json", json.dumps(network), "```", ""]
    return "\n".join([*lines, f"SHA-256 `{sha256}`", ""])
