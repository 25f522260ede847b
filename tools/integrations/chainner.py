"""Run chaiNNer's ONNX code on an exported model.

``python tools/integrations/chainner.py CLONE [MODEL] [--level N]``, with CLONE a checkout of
github.com/chaiNNer-org/chaiNNer; needs ``onnxruntime`` and ``google-re2``, which chaiNNer imports.
It exports the model in the form with one input. ``impl/onnx/load.py`` deduces the size rule and the
scale, with ``update_model_dims.py``. ``impl/onnx/session.py`` and ``impl/onnx/auto_split.py`` run
it as the node "Upscale Image" does, whole and in tiles of 256. The result of the whole image is
compared with PyTorch's on the same padded input.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from tools.integrations.clones import commit_of
from vheatir.bundled import heldout_photographs
from vheatir.cli import report_error
from vheatir.errors import VHeatIRError
from vheatir.export.graph import to_onnx
from vheatir.export.source import Source, open_source

_TILE = 256


def main() -> int:
    """Run the command line; return the exit status: 1 if chaiNNer or the result disagrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clone", type=Path, metavar="CLONE")
    parser.add_argument("model", nargs="?", default="denoise_color_small", metavar="MODEL")
    parser.add_argument("--level", type=float, default=15.0, help="sigma (default: %(default)s)")
    arguments = parser.parse_args()
    backend = arguments.clone / "backend" / "src"
    if not backend.is_dir():
        return report_error(f"{arguments.clone} is not a checkout of chaiNNer: no backend/src")
    sys.path.insert(1, str(backend))
    try:
        source = open_source(arguments.model)
    except VHeatIRError as error:
        return report_error(error)
    level = arguments.level if source.takes_level else None
    return compare(source, level, commit_of(arguments.clone))


def compare(source: Source, level: float | None, commit: str) -> int:
    """Load and run the model with chaiNNer's code, and print what it found."""
    from nodes.impl.onnx.auto_split import onnx_auto_split
    from nodes.impl.onnx.load import load_onnx_model
    from nodes.impl.onnx.session import create_inference_session, get_input_shape
    from nodes.impl.upscale.auto_split_tiles import NO_TILING, TileSize, parse_tile_size_input
    from nodes.impl.upscale.convenient_upscale import convenient_upscale

    write = sys.stdout.write
    write(f"chaiNNer {commit}, onnx {onnx.__version__}, ONNX Runtime {onnxruntime.__version__}\n")
    model = load_onnx_model(onnx.load_model_from_string(to_onnx(source, level)))
    info = model.info
    rule = info.size_req
    write(
        f"{source.name}: {model.sub_type}, {info.dtype}, opset {info.opset}, scale "
        f"{info.scale_width} x {info.scale_height}, multiple of {rule.multiple_of}, at least "
        f"{rule.minimum}\n"
    )
    session = create_inference_session(model, 0, "CPUExecutionProvider")
    layout, channels, width, height = get_input_shape(session)
    write(f"input {layout}, {channels} channels, fixed size: {width} x {height}\n")

    def restore(image: NDArray[np.float32], tile: int) -> Any:
        tiler = parse_tile_size_input(TileSize(tile), lambda: None)
        return convenient_upscale(
            image,
            channels,
            channels,
            lambda i, _: onnx_auto_split(i, session, layout == "BHWC", tiler, rule),
        )

    clean = heldout_photographs()["coffee"][:389, :577].astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, 15 / 255, clean.shape)
    image = (clean + noise).clip(0, 1).astype(np.float32)
    if channels == 1:
        image = image.mean(2, keepdims=True)
    whole = restore(image[:, :, ::-1], NO_TILING)[:, :, ::-1]  # chaiNNer's images are B, G, R
    tiled = restore(image[:, :, ::-1], _TILE)[:, :, ::-1]
    expected = run_pytorch(source, image, level, rule.multiple_of)
    difference = float(np.abs(whole - expected).max())
    error = float(np.mean((tiled - whole) ** 2, dtype=np.float64))
    write(f"image {image.shape[1]} x {image.shape[0]}\n")
    write(f"whole image against PyTorch on the same padded input: {difference:.1e}\n")
    write(f"tiles of {_TILE} against the whole image: {-10 * np.log10(error):.1f} dB\n")
    agrees = info.scale_width == info.scale_height == 1 and difference <= 1e-5
    return 0 if agrees else 1


def run_pytorch(
    source: Source, image: NDArray[np.float32], level: float | None, multiple: int
) -> NDArray[np.float32]:
    """Restore an image (H, W, C) that is padded by reflection at the bottom and right; clipped."""
    height, width = image.shape[:2]
    padding = [(0, -height % multiple), (0, -width % multiple), (0, 0)]
    padded = np.pad(image, padding, "reflect").transpose(2, 0, 1)[None]
    with torch.no_grad():
        result = source.model.network(torch.from_numpy(padded), level)
    return result[0].permute(1, 2, 0).numpy()[:height, :width].clip(0, 1)


if __name__ == "__main__":
    sys.exit(main())
