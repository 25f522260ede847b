"""Run a ``.dtmodel`` package as darktable does, and compare its tiles with the whole image.

``python tools/integrations/darktable.py FILE.dtmodel`` prints the PSNR of tiles of 256 and 1024
against the whole image, on a bundled photograph with noise. The steps are those of darktable's
``src/ai/restore.c``; the code is not.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
import json
import zipfile
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from vheatir.bundled import heldout_photographs

Image = NDArray[np.float32]
OVERLAP = 64
TILES = (256, 1024)
#: What darktable passes as ``sigma``, whatever the photograph.
SIGMA = 25 / 255


@dataclass(frozen=True)
class Package:
    """An installed package: its ``config.json`` and its model."""

    config: dict[str, Any]
    session: onnxruntime.InferenceSession


def read_package(path: Path) -> Package:
    """Read a package as darktable finds it after unpacking: ``<id>/config.json`` names the model.

    Raises:
        ValueError: the package does not keep darktable's contract.
    """
    with zipfile.ZipFile(path) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    folders = {name.split("/")[0] for name in files}
    if len(folders) != 1:
        raise ValueError(f"{path} has the folders {folders}, not one")
    folder = folders.pop()
    config = json.loads(files[f"{folder}/config.json"])
    if config["id"] != folder or not config["name"] or config.get("backend", "onnx") != "onnx":
        raise ValueError(f"{path} has a config.json that darktable does not take: {config}")
    session = onnxruntime.InferenceSession(
        files[f"{folder}/model.onnx"], providers=["CPUExecutionProvider"]
    )
    if len(session.get_inputs()) != config.get("num_inputs", 1):
        raise ValueError(f"{path} has {len(session.get_inputs())} inputs: {config}")
    return Package(config, session)


def run_tile(package: Package, linear: Image) -> Image:
    """Restore one tile, (H, W, 3) in linear light, as (H, W, 3)."""
    srgb = to_srgb(linear).transpose(2, 0, 1)[None]
    names = [each.name for each in package.session.get_inputs()]
    feeds = {names[0]: np.ascontiguousarray(srgb)}
    if len(names) == 2:
        feeds[names[1]] = np.full((1, 1, *linear.shape[:2]), SIGMA, np.float32)
    output = package.session.run(None, feeds)[0]
    return to_linear(output[0].transpose(1, 2, 0))


def restore_in_tiles(package: Package, linear: Image, tile: int) -> Image:
    """Restore an image in tiles of ``tile`` pixels, mirrored at the border, without blending."""
    height, width = linear.shape[:2]
    step = tile - 2 * OVERLAP
    out = np.zeros_like(linear)
    for top in range(0, height, step):
        rows = mirror(np.arange(top - OVERLAP, top - OVERLAP + tile), height)
        for left in range(0, width, step):
            columns = mirror(np.arange(left - OVERLAP, left - OVERLAP + tile), width)
            restored = run_tile(package, linear[np.ix_(rows, columns)])
            inner = restored[OVERLAP : OVERLAP + step, OVERLAP : OVERLAP + step]
            part = out[top : top + step, left : left + step]
            part[:] = inner[: part.shape[0], : part.shape[1]]
    return out


def mirror(index: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Mirror indices at 0 and ``size - 1``, once; beyond that, take the border."""
    index = np.abs(index)
    return np.where(index >= size, 2 * size - 2 - index, index).clip(0, size - 1)


def to_srgb(linear: Image) -> Image:
    """Apply the transfer function of sRGB (IEC 61966-2-1) to values clipped to [0, 1]."""
    v = linear.clip(0, 1).astype(np.float32)
    curve = 1.055 * np.maximum(v, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(v <= 0.0031308, 12.92 * v, curve).astype(np.float32)


def to_linear(srgb: Image) -> Image:
    """Invert :func:`to_srgb`, on values clipped to [0, 1]."""
    v = srgb.clip(0, 1).astype(np.float32)
    return np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4).astype(np.float32)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("package", type=Path, metavar="FILE.dtmodel")
    package = read_package(parser.parse_args().package)
    clean = heldout_photographs()["coffee"].astype(np.float32) / 255
    noisy = clean + np.random.default_rng(0).normal(0, 15 / 255, clean.shape).astype(np.float32)
    linear = to_linear(noisy)
    whole = run_tile(package, linear)
    write = sys.stdout.write
    write(f"{json.dumps(package.config)}\nimage {clean.shape[1]} x {clean.shape[0]}\n")
    for tile in TILES:
        tiled = restore_in_tiles(package, linear, tile)
        error = float(np.mean((to_srgb(tiled) - to_srgb(whole)) ** 2, dtype=np.float64))
        write(f"tiles of {tile} against the whole image: {-10 * np.log10(error):.1f} dB (sRGB)\n")
    for name, image in (("noisy", linear), ("whole", whole)):
        error = float(np.mean((to_srgb(image) - clean) ** 2, dtype=np.float64))
        write(f"{name} against the clean image: {-10 * np.log10(error):.2f} dB (sRGB)\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
