"""Compare exported ONNX files with the networks, at ten sizes, on the CPU; needs ``onnxruntime``.

``python tools/integrations/onnx_parity.py [MODEL ...]`` prints a Markdown table, sizes as height x
width: the largest absolute difference between ONNX Runtime and PyTorch, both in float32, over all
pixels, levels and numbers of images. Each file is exported once. Images are a bundled photograph
with noise of sigma 25, continued by reflection. Sizes below 512 pixels are compared for N = 1 and
3, and, with the input ``sigma``, at the lowest, the highest and a varying level; larger ones for
N = 1, with a varying level, and not with a built-in one, which is the same graph with a constant.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
from collections.abc import Iterator

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.export.graph import to_onnx
from vheatir.export.source import Source, open_source
from vheatir.inference.tiled import restore_tensor
from vheatir.weights import level_range
from vheatir.zoo import list_models

SIZES = (
    (1, 1), (1, 7), (7, 300), (8, 8), (9, 17), (97, 101), (64, 48), (255, 257),
    (1024, 1024), (1000, 1500),
)  # fmt: skip
_LARGE = 512
_BUILT_IN = 15.0


def images(source: Source, count: int, height: int, width: int) -> Tensor:
    """Return noisy photographs, (count, C, height, width), float32."""
    color = source.task.color if source.task else "rgb"
    photograph = to_color_mode(heldout_photographs()["coffee"], color)
    photograph = photograph.reshape(*photograph.shape[:2], -1).astype(np.float32) / 255
    missing = max(0, height - photograph.shape[0]), max(0, width - photograph.shape[1])
    padding = [(0, missing[0]), (0, missing[1]), (0, 0)]
    padded = np.pad(photograph, padding, mode="symmetric")[:height, :width]
    noise = np.random.default_rng(0).normal(0, 25 / 255, (count, *padded.shape))
    return torch.from_numpy((padded + noise).astype(np.float32)).permute(0, 3, 1, 2).contiguous()


def levels(source: Source, x: Tensor) -> Iterator[Tensor]:
    """Yield level maps (N, 1, H, W) in units of sigma; for a large image only a varying one."""
    low, high = level_range(source.model.info) or (0.0, 55.0)
    shape = (len(x), 1, *x.shape[2:])
    generator = torch.Generator().manual_seed(0)
    yield low + (high - low) * torch.rand(shape, generator=generator)
    if max(x.shape[2:]) < _LARGE:
        yield torch.full(shape, low)
        yield torch.full(shape, high)


def differences(source: Source, data: bytes, level: float | None) -> dict[tuple[int, int], float]:
    """Return the largest difference at every size."""
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    network = source.model.network
    found = {}
    for height, width in SIZES:
        if level is not None and max(height, width) >= _LARGE:
            continue
        largest = 0.0
        for count in (1,) if max(height, width) >= _LARGE else (1, 3):
            x = images(source, count, height, width)
            feeds: list[tuple[dict[str, object], float | Tensor | None]] = []
            if source.takes_level and level is None:
                for sigma in levels(source, x):
                    feeds.append(({"sigma": (sigma / 255).numpy()}, sigma))
            else:
                feeds.append(({}, level))
            for extra, used in feeds:
                expected = restore_tensor(network, x, used)
                result = session.run(None, {"input": x.numpy(), **extra})[0]
                largest = max(largest, float(np.abs(result - expected.numpy()).max()))
        found[height, width] = largest
    return found


def half_precision(source: Source, data: bytes, level: float | None) -> str:
    """Return the PSNR of float16 weights against float32 ones, on one photograph."""
    x = images(source, 1, 255, 257)
    feeds = {"input": x.numpy()}
    if source.takes_level and level is None:
        feeds["sigma"] = np.full((1, 1, 255, 257), 25 / 255, np.float32)
    results = [
        onnxruntime.InferenceSession(each, providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for each in (data, to_onnx(source, level, half=True))
    ]
    error = float(np.mean((results[0] - results[1]) ** 2, dtype=np.float64))
    return "equal" if error == 0 else f"{-10 * np.log10(error):.1f} dB"


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help="default: every released model")
    names = parser.parse_args().models or [entry.name for entry in list_models()]
    write = sys.stdout.write
    write(f"PyTorch {torch.__version__}, ONNX Runtime {onnxruntime.__version__}\n\n")
    sizes = [f"{height}x{width}" for height, width in SIZES]
    write(f"| model | {' | '.join(sizes)} | float16 weights |\n{'|---' * (len(sizes) + 2)}|\n")
    for name in names:
        source = open_source(name)
        for level in (None, _BUILT_IN) if source.takes_level else (None,):
            data = to_onnx(source, level)
            found = differences(source, data, level)
            half = half_precision(source, data, level)
            form = "" if not source.takes_level else ", sigma" if level is None else f", {level:g}"
            cells = [f"{found[size]:.1e}" if size in found else "" for size in SIZES]
            write(f"| {name}{form} | {' | '.join(cells)} | {half} |\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
