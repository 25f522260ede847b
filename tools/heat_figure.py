"""Draw docs/heat.png: heat conduction with one diffusivity, on hot pixels and on a photograph."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import numpy as np
import torch
from matplotlib.figure import Figure

from vheatir.bundled import heldout_photographs
from vheatir.explain.figures import to_png
from vheatir.image_io import write_bytes_atomically
from vheatir.ops import heat_conduction

DIFFUSIVITIES = (0.5, 4, 32, 256)
SIDE = 176
HOT = ((88, 88), (4, 36), (128, 147))


def main() -> None:
    """Write docs/heat.png."""
    plate = torch.zeros(SIDE, SIDE)
    for row, column in HOT:
        plate[row, column] = 1
    photograph = heldout_photographs()["coffee"][80 : 80 + SIDE, 230 : 230 + SIDE]
    image = torch.from_numpy(photograph.astype(np.float32) / 255)
    figure = Figure(figsize=(7.3, 3.9), dpi=120, layout="constrained")
    axes = figure.subplots(2, len(DIFFUSIVITIES))
    for above, below, k in zip(*axes, DIFFUSIVITIES, strict=True):
        above.imshow(heat_conduction(plate, k), cmap="inferno")
        below.imshow(heat_conduction(image, k, (0, 1)).clamp(0, 1))
        above.set_title(f"k = {k:g}", fontsize=9)
        for axis in (above, below):
            axis.axis("off")
    write_bytes_atomically(ROOT / "docs/heat.png", to_png(figure))


if __name__ == "__main__":
    main()
