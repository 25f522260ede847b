"""Figures of :mod:`vheatir.explain`, drawn with matplotlib without global state."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from vheatir.explain.influence import Diffusivity, Influence, StageMap

#: Figure of SwinIR's window pattern, created by ``tools/swinir_windows.py``.
SWINIR_FIGURE = Path(__file__).with_name("swinir_windows.png")

_PANEL_COLUMNS = 4
_DECADES = 4


def draw_influence(influence: Influence) -> bytes:
    """Draw the response after each stage and the effective receptive field on a log scale.

    Returns:
        The figure as PNG.
    """
    panels = [*influence.stages, influence.receptive_field]
    rows = -(-(len(panels) + 1) // _PANEL_COLUMNS)
    figure = Figure(figsize=(2.6 * _PANEL_COLUMNS, 3.0 * rows), dpi=110)
    figure.subplots_adjust(0.01, 0.01, 0.99, 0.92, wspace=0.05, hspace=0.2)
    axes = list(figure.subplots(rows, _PANEL_COLUMNS, squeeze=False).flat)
    for axis in axes:
        axis.axis("off")
    row, column = influence.point
    image = influence.image
    shown = image.squeeze(2) if image.shape[2] == 1 else image.clip(0, 1)
    axes[0].imshow(shown, cmap="gray", vmin=0, vmax=1)
    axes[0].plot(column, row, "o", mfc="none", mec="#ff6a00", ms=12, mew=2)
    axes[0].set_title("traced pixel", fontsize=9)
    for axis, panel in zip(axes[1:], panels, strict=False):
        draw_map(axis, panel, image.shape[:2])
    return to_png(figure)


def draw_map(axis: Any, panel: StageMap, size: tuple[int, ...]) -> None:
    """Draw one map on a matplotlib axis in image pixels, on a log scale of four decades."""
    height, width = (n * panel.pixel for n in panel.values.shape)
    values = np.log10(np.maximum(panel.values / max(float(panel.values.max()), 1e-30), 1e-9))
    axis.imshow(
        values, cmap="inferno", vmin=-_DECADES, vmax=0, interpolation="nearest",
        extent=(-0.5, width - 0.5, height - 0.5, -0.5),
    )  # fmt: skip
    axis.set_xlim(-0.5, size[1] - 0.5)
    axis.set_ylim(size[0] - 0.5, -0.5)
    axis.set_title(f"{panel.title}\n90 % within {panel.radius:.0f} px", fontsize=9)


def draw_diffusivity(found: list[Diffusivity]) -> bytes:
    """Draw k over frequency and channel, and the resulting decay, for each heat operator.

    Returns:
        The figure as PNG.
    """
    rows = max(1, len(found))
    figure = Figure(figsize=(9, 3.4 * rows), layout="constrained", dpi=110)
    axes = figure.subplots(rows, 2, squeeze=False)
    for (left, right), each in zip(axes, found, strict=False):
        n = each.k.shape[0]
        frequency = np.arange(n) / n  # over pi
        k = (each.k[0] + each.k[:, 0]) / 2  # mean along rows and columns, (n, C)
        order = np.argsort(each.k[0, 0])
        shown = np.log10(np.maximum(k[:, order].T, 1e-3))
        heatmap = left.imshow(
            shown, aspect="auto", origin="lower", cmap="inferno",
            extent=(0, (n - 1) / n, 0, shown.shape[0]),
        )  # fmt: skip
        figure.colorbar(heatmap, ax=left, label="log10 k (tokens squared)")
        left.set(xlabel="frequency / pi", ylabel="channel, sorted by k at 0")
        left.set_title(f"{each.title}: learned diffusivity", fontsize=9)
        for quantile in (0.1, 0.5, 0.9):
            channel = order[int(quantile * (len(order) - 1))]
            label = f"{quantile:.0%} channel: {each.spread[channel]:.1f} px"
            right.plot(frequency, np.exp(-k[:, channel] * (np.pi * frequency) ** 2), label=label)
        right.set(xlabel="frequency / pi", ylabel="decay exp(-k w²)", ylim=(-0.03, 1.03))
        right.set_title("decay of three channels, with the spread at zero frequency", fontsize=9)
        right.legend(fontsize=8)
    if not found:
        for axis in axes.flat:
            axis.axis("off")
        axes[0, 0].text(0.05, 0.5, "This network has no global heat conduction.")
    return to_png(figure)


def to_png(figure: Figure) -> bytes:
    """Encode a figure as PNG."""
    out = io.BytesIO()
    figure.savefig(out, format="png")
    return out.getvalue()
