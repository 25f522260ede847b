"""Draw docs/network.png: the two networks, and the block that conducts heat."""

from __future__ import annotations

import io
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.patches import FancyBboxPatch

from vheatir.image_io import write_bytes_atomically

PLAIN, CONV, HEAT = "#eeeeee", "#cfe0f2", "#f7c7a3"


def box(axes: Axes, x: float, y: float, width: float, text: str, color: str = PLAIN) -> None:
    """Draw a box of height 0.6 whose lower left corner is (x, y), with a text."""
    style = "round,pad=0,rounding_size=0.08"
    axes.add_patch(FancyBboxPatch((x, y), width, 0.6, boxstyle=style, fc=color, ec="#555", lw=0.8))
    axes.text(x + width / 2, y + 0.3, text, ha="center", va="center", fontsize=7)


def arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    """Draw an arrow between two points."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "lw": 0.8, "color": "#555"})


def chain(axes: Axes, y: float, boxes: list[tuple[str, float, str]], x: float = 0.0) -> float:
    """Draw boxes (text, width, colour) from left to right, joined by arrows; return the end."""
    for index, (text, width, color) in enumerate(boxes):
        if index:
            arrow(axes, (x, y + 0.3), (x + 0.25, y + 0.3))
            x += 0.25
        box(axes, x, y, width, text, color)
        x += width
    return x


def main() -> None:
    """Draw the figure."""
    figure, axes = plt.subplots(figsize=(9, 4.1), dpi=130)
    axes.set_xlim(-0.1, 11.6)
    axes.set_ylim(-0.15, 5.3)
    axes.axis("off")

    title = {"fontsize": 9, "fontweight": "bold"}
    axes.text(0, 5.05, "VHeatIR: the paper's flat network (SwinIR's, heat for attention)", **title)
    group = "group of HCO blocks\n+ conv, residual"
    chain(
        axes, 4.2,
        [("image (+ level)", 1.5, PLAIN), ("conv 3x3", 1.0, CONV), (group, 2.1, HEAT),
         ("...", 0.5, PLAIN), (group, 2.1, HEAT), ("conv 3x3", 1.0, CONV), ("+ image", 0.9, PLAIN)],
    )  # fmt: skip

    axes.text(0, 3.65, "VHeatIRUNet: the released models", **title)
    chain(
        axes, 2.8,
        [("image (+ level)", 1.5, PLAIN), ("unshuffle, conv", 1.5, CONV),
         ("conv blocks", 1.3, CONV)],
    )  # fmt: skip
    box(axes, 7.4, 2.8, 1.3, "conv blocks", CONV)
    chain(axes, 2.8, [("conv, shuffle", 1.3, CONV), ("+ image", 0.9, PLAIN)], 8.95)
    arrow(axes, (8.7, 3.1), (8.95, 3.1))
    arrow(axes, (4.8, 3.1), (7.4, 3.1))
    box(axes, 4.0, 1.9, 1.3, "conv blocks", CONV)
    box(axes, 6.9, 1.9, 1.3, "conv blocks", CONV)
    arrow(axes, (5.3, 2.2), (6.9, 2.2))
    box(axes, 4.7, 1.0, 2.8, "conv blocks, then HCO", HEAT)
    for start, end in (
        ((4.1, 2.8), (4.5, 2.5)), ((4.7, 1.9), (5.3, 1.6)),
        ((6.9, 1.6), (7.5, 1.9)), ((7.6, 2.5), (8.0, 2.8)),
    ):  # fmt: skip
        arrow(axes, start, end)
    axes.text(6.1, 3.2, "skip", ha="center", fontsize=7)
    axes.text(6.1, 2.3, "skip", ha="center", fontsize=7)

    axes.text(0, 0.72, "HCO", **title)
    chain(
        axes, 0.0,
        [("depthwise 3x3, linear", 2.1, PLAIN), ("DCT", 0.7, HEAT),
         (r"$\times\; \exp(-k(\omega_x^2 + \omega_y^2))$", 2.0, HEAT), ("inverse DCT", 1.25, HEAT),
         ("LayerNorm", 1.15, PLAIN), (r"$\times$ SiLU(gate)", 1.3, PLAIN), ("linear", 0.7, PLAIN)],
    )  # fmt: skip
    out = io.BytesIO()
    figure.savefig(out, format="png", bbox_inches="tight", pad_inches=0.05)
    write_bytes_atomically(ROOT / "docs" / "network.png", out.getvalue())


if __name__ == "__main__":
    main()
