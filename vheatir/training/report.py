"""Report of a finished run: curves, a table, before/after images."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import uniform_filter1d

from vheatir.image_io import write_bytes_atomically, write_image
from vheatir.training.loop import Trainer


def write_report(trainer: Trainer) -> list[Path]:
    """Write curves.png, table.md and before/after images; return the paths."""
    results = trainer.experiment.results
    curves = results / "curves.png"
    psnr = trainer.options.val.column("psnr")
    written = [draw_curves(curves, trainer.options.name, trainer.losses, trainer.scores, psnr)]
    if trainer.scores:
        table = results / "table.md"
        write_bytes_atomically(table, scores_table(trainer).encode())
        written += [table, *_before_after(trainer, results)]
    return written


def scores_table(trainer: Trainer) -> str:
    """Return the last validation as a Markdown table."""
    iteration, minutes, scores = trainer.scores[-1]
    lines = [
        f"# {trainer.options.name}: validation after {iteration} iterations, {minutes:.1f} minutes",
        "",
        "| set, level | input PSNR | restored PSNR | gain | SSIM |",
        "|---|---|---|---|---|",
    ]
    psnr, ssim_name = (trainer.options.val.column(kind) for kind in ("psnr", "ssim"))
    for name, values in scores.items():
        before, after = values["input_psnr"], values.get(psnr, float("nan"))
        cells = [(before, ".2f"), (after, ".2f"), (after - before, "+.2f"),
                 (values.get(ssim_name, float("nan")), ".4f")]  # fmt: skip
        lines.append(f"| {name} | {' | '.join(_cell(*each) for each in cells)} |")
    return "\n".join(lines) + "\n"


def _cell(value: float, form: str) -> str:
    # not measured, or the infinite PSNR of equal images
    return f"{value:{form}}" if math.isfinite(value) else "-"


def draw_curves(
    path: Path,
    name: str,
    losses: list[list[float]],
    scores: list[list[Any]],
    psnr: str = "psnr",
) -> Path:
    """Plot loss and PSNR over iterations.

    Args:
        path: image file to write.
        name: title of the plot.
        losses: [iteration, minutes, loss, learning rate] each.
        scores: [iteration, minutes, :data:`vheatir.training.validation.Scores`] each.
        psnr: name of the metric to plot.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    scale = "log"
    if losses:
        iterations, _, values, _ = zip(*losses, strict=True)
        scale = "log" if min(values) > 0 else "linear"  # PSNRLoss is negative
        left.plot(iterations, values, color="0.8", linewidth=0.8)
        window = max(1, len(values) // 25)
        left.plot(iterations, uniform_filter1d(values, window, mode="nearest"), color="tab:red")
    left.set(xlabel="iteration", ylabel="loss", title=name, yscale=scale)
    for key in scores[-1][2] if scores else ():
        # history.json has null for an infinite PSNR
        points = [(at, s[key][psnr]) for at, _, s in scores if s.get(key, {}).get(psnr) is not None]
        if points:
            right.plot(*zip(*points, strict=True), marker=".", label=key)
    right.set(xlabel="iteration", ylabel="PSNR [dB]", title="validation")
    if right.has_data():
        right.legend()
    for axes in (left, right):
        axes.grid(alpha=0.3)
    figure.savefig(path, dpi=110)
    return path


def _before_after(trainer: Trainer, results: Path) -> list[Path]:
    """Write degraded | restored | clean for the first image of each set, at its middle level."""
    written = []
    assert trainer.validator is not None
    for test_set, levels in trainer.validator.sets:
        level = levels[len(levels) // 2]
        shown = next(trainer.validator.images(trainer.model.net_g_ema, test_set.first(1), level))
        gap = np.full((shown.clean.shape[0], 8, *shown.clean.shape[2:]), 255, np.uint8)
        path = results / f"before_after_{test_set.name}.png"
        parts = [shown.degraded, gap, shown.output, gap, shown.clean]
        write_image(path, np.concatenate(parts, axis=1))
        written.append(path)
    return written
