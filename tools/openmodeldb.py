"""Write entries of OpenModelDB for the released models.

``python tools/openmodeldb.py CHECKOUT --base-url URL``, with CHECKOUT a checkout of
github.com/OpenModelDB/open-model-database, and URL the address of the folder in which the files of
the models are published. Writes ``data/models/1x-vHeatIR-*.json``, one per model, and adds the
architecture with its tag and the author to the lists in ``data/``. There, ``npm ci`` and
``npm run validate-db`` check the result.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import argparse
import hashlib
import json
from collections.abc import Sequence
from datetime import date
from typing import Any

from vheatir.archs import VHeatIR, VHeatIRUNet
from vheatir.cli import run_entry_point
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically
from vheatir.tasks import TASKS, format_levels
from vheatir.weights import level_range, read_info
from vheatir.zoo import ModelEntry, list_models

ARCHITECTURE = "vheatir"
AUTHOR = "the-vheatir-authors"
_LISTS = ("architectures", "users", "tags", "tag-categories")
_SIZES = (*VHeatIR.SIZES, *VHeatIRUNet.SIZES)
_TAGS = {
    "denoise": ["denoise", "photo", "restoration"],
    "jpeg": ["compression-removal", "jpeg", "photo", "restoration"],
    "photo": ["compression-removal", "denoise", "jpeg", "photo", "restoration"],
}
_COLORS = {"rgb": "colour images", "gray": "gray images", "luma": "Y of MATLAB's rgb2ycbcr"}


def model_entry(
    entry: ModelEntry, base_url: str, published: str, exported: Path | None = None
) -> dict[str, Any]:
    """Return the entry of a released model, by OpenModelDB's ``src/lib/schema.ts``.

    Args:
        entry: the model.
        base_url: address of the folder in which its files are published, without a slash at the
            end.
        published: date of publication, ``yyyy-mm-dd``.
        exported: folder with files of ``vheatir export``, ``NAME.onnx`` and ``NAME.pth``, that are
            published as well.
    """
    info = read_info(entry.path)
    network = info["network"]
    files = [(entry.path, "safetensors", "pytorch")]
    for suffix, platform in (("pth", "pytorch"), ("onnx", "onnx")):
        if exported is not None and (file := exported / f"{entry.name}.{suffix}").is_file():
            files.append((file, suffix, platform))
    return {
        "name": f"vHeatIR {entry.name.replace('_', ' ')}",
        "author": AUTHOR,
        # an SPDX identifier, or null where the licences of training images restrict the use
        "license": entry.licence if entry.commercial_use else None,
        "tags": _TAGS[TASKS[entry.task].kind],
        "description": _description(entry, info),
        "date": published,
        "architecture": ARCHITECTURE,
        "size": [size for size in _SIZES if size in entry.name.split("_")],
        "scale": 1,
        "inputChannels": network["in_chans"],
        "outputChannels": network["out_chans"],
        "resources": [_resource(base_url, *file) for file in files],
        "images": [],
    }


def _description(entry: ModelEntry, info: dict[str, Any]) -> str:
    task = TASKS[entry.task]
    levels = format_levels(level_range(info))
    only = None if entry.level is None else f"For this {task.level_name} alone."
    what = {
        "denoise": f"Removes white Gaussian noise of sigma {levels} from {_COLORS[task.color]}. "
        + (only or "The sigma is an input of the model."),
        "jpeg": f"Removes JPEG artifacts of quality {levels} from {_COLORS[task.color]}. "
        + (only or "The model finds the quality itself."),
        "photo": "Removes noise and JPEG artifacts from photographs. The model finds their "
        "strength itself.",
    }[task.kind]
    size = f"of {entry.params / 1e6:.2f} M parameters"
    network = (
        f"A flat network {size}, in which heat conduction takes the place of attention."
        if entry.is_flat
        else f"A U-shaped network {size}, with heat conduction at its coarsest scale."
    )
    return (
        f"{what}\n\n{network} It takes images of any size.\n\n"
        "spandrel reads the PyTorch files after `vheatir.spandrel.install()`, of the Python "
        "package vheatir. chaiNNer needs an ONNX file, as `vheatir export` writes it.\n\n"
        f"Licence: {entry.licence}."
    )


def _resource(base_url: str, file: Path, type_: str, platform: str) -> dict[str, Any]:
    data = file.read_bytes()
    return {
        "platform": platform,
        "type": type_,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "urls": [f"{base_url}/{file.name}"],
    }


def _extend(lists: dict[str, Any]) -> None:
    """Add the architecture, its tag and the author to OpenModelDB's lists."""
    name, tag = "vHeatIR", f"arch:{ARCHITECTURE}"
    lists["architectures"][ARCHITECTURE] = {
        "name": name,
        "input": "image",
        "compatiblePlatforms": ["pytorch", "onnx"],
    }
    lists["users"][AUTHOR] = {"name": "the vHeatIR authors"}
    for key in ("architectures", "users"):
        lists[key] = dict(sorted(lists[key].items()))
    if tag not in lists["tags"]:  # the tags of architectures stand together
        tags = list(lists["tags"].items())
        last = max((i for i, (id_, _) in enumerate(tags) if id_.startswith("arch:")), default=-1)
        tags.insert(last + 1, (tag, {"name": name, "description": ""}))
        lists["tags"] = dict(tags)
    category = lists["tag-categories"]["architecture"]["tags"]
    if tag not in category:
        category.append(tag)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("checkout", type=Path, metavar="CHECKOUT", help="checkout of OpenModelDB")
    add("--base-url", required=True, metavar="URL", help="where the files are published")
    add("--exported", type=Path, metavar="FOLDER", help="NAME.onnx and NAME.pth published as well")
    add("--date", default=date.today().isoformat(), help="of publication (default: today)")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    arguments = parse_arguments(argv)
    return run_entry_point(lambda: _run(arguments), "run it again")


def _run(arguments: argparse.Namespace) -> int:
    url = arguments.base_url.rstrip("/")
    if not url.startswith(("https://", "http://")):
        raise VHeatIRError(f"--base-url {arguments.base_url}: give an address with https://")
    try:
        published = date.fromisoformat(arguments.date).isoformat()
    except ValueError:
        raise VHeatIRError(f"--date {arguments.date}: give year-month-day") from None
    if arguments.exported is not None and not arguments.exported.is_dir():
        raise VHeatIRError(f"--exported {arguments.exported}: there is no such folder")
    data = arguments.checkout / "data"
    if not (data / "models").is_dir():
        raise VHeatIRError(f"{arguments.checkout} is not a checkout of OpenModelDB: no data/models")
    files: dict[Path, Any] = {}
    for entry in list_models():
        name = f"1x-vHeatIR-{entry.name.replace('_', '-')}.json"
        files[data / "models" / name] = model_entry(entry, url, published, arguments.exported)
    lists = {key: json.loads((data / f"{key}.json").read_text("utf-8")) for key in _LISTS}
    _extend(lists)
    files |= {data / f"{key}.json": content for key, content in lists.items()}
    for path, content in files.items():
        # as JSON.stringify writes it
        write_bytes_atomically(path, json.dumps(content, indent=4, ensure_ascii=False).encode())
        sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
