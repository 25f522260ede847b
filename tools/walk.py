"""List the files of ``vheatir/`` that are entered on the way through it.

    python tools/walk.py photograph [IMAGE]  # vheatir restore: photograph in, photograph out
    python tools/walk.py training            # one training iteration: crop in, loss out

A file counts if one of its functions runs, in the order of the first call; code that runs while a
module is imported does not, nor do the networks (``archs``, ``ops``). Without IMAGE the photograph
is a bundled one with noise, saved as JPEG. Automatic chooses its model.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import numpy as np
import yaml
from PIL import Image
from skimage.data import chelsea

PACKAGE = f"{ROOT}/vheatir/"
UNCOUNTED = ("archs/", "ops/")

# The function of training/loop.py from a crop to its loss.
ITERATION = "forward_backward"

OPTIONS: dict[str, Any] = {
    "name": "walk",
    "task": "denoise_color",
    "level": [0, 55],
    "device": "cpu",
    "network_g": {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "downscale": 2},
    "datasets": {
        "train": {
            "dataroot_gt": "bundled", "gt_size": 32, "batch_size_per_gpu": 2,
            "num_worker_per_gpu": 0,
        }
    },
    "train": {
        "ema_decay": 0.9, "optim_g": {"type": "AdamW", "lr": 1e-3}, "total_iter": 1, "grad_clip": 1,
    },
    "logger": {"use_tb_logger": False},
}  # fmt: skip


class Walk:
    """Profile functions that record the files of the package.

    Args:
        within: name of a function of training/loop.py, below which calls count; None for all.

    Attributes:
        files: relative paths, in order of the first call.
    """

    def __init__(self, within: str | None = None) -> None:
        self.within = within
        self.files: dict[str, None] = {}

    @contextlib.contextmanager
    def recorded(self) -> Iterator[None]:
        """Record the calls inside the with block, of all threads."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: Any) -> None:
        path = frame.f_code.co_filename
        if event != "call" or not path.startswith(PACKAGE):
            return
        name = path.removeprefix(PACKAGE)
        if name not in self.files and not name.startswith(UNCOUNTED) and self._counts(frame):
            self.files[name] = None

    def _counts(self, frame: FrameType | None) -> bool:
        """Whether a call is not part of an import, and is below ``within``."""
        inside = self.within is None
        while frame is not None:
            code = frame.f_code
            if code.co_name == "<module>" and code.co_filename.startswith(PACKAGE):
                return False
            inside |= code.co_name == self.within and code.co_filename.endswith("loop.py")
            frame = frame.f_back
        return inside


def walk_photograph(folder: Path, image: Path | None = None) -> Walk:
    """Restore an image with the command ``vheatir restore``."""
    from vheatir.cli import main

    if image is None:
        clean = chelsea()[60:252, 90:282]
        noise = np.random.default_rng(0).normal(0, 12, clean.shape)
        image = folder / "photograph.jpg"
        noisy = Image.fromarray((clean + noise).clip(0, 255).astype(np.uint8))
        noisy.save(image, quality=95)
    walk = Walk()
    with walk.recorded():
        status = main(["restore", str(image), "-o", str(folder / "out.png")])
    assert status == 0 and (folder / "out.png").is_file()
    return walk


def walk_training(folder: Path) -> Walk:
    """Train a tiny network for one iteration with the command ``vheatir train``."""
    from vheatir.cli import main

    options = {**OPTIONS, "path": {"experiments_root": str(folder / "experiments")}}
    file = folder / "walk.yml"
    file.write_text(yaml.safe_dump(options), encoding="utf-8")
    walk = Walk(ITERATION)
    with contextlib.redirect_stdout(sys.stderr), walk.recorded():
        status = main(["train", "-opt", str(file)])
    assert status == 0
    return walk


def main() -> None:
    """Print the files of the walk named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("walk", choices=["photograph", "training"])
    parser.add_argument("image", type=Path, nargs="?")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if arguments.walk == "photograph":
            files = walk_photograph(folder, arguments.image).files
        else:
            files = walk_training(folder).files
    sys.stdout.write("\n".join([*files, f"{len(files)} files", ""]))


if __name__ == "__main__":
    main()
