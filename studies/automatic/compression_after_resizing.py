"""Does the JPEG model's result show that an image was compressed, if no blocks do?

``python studies/automatic/compression_after_resizing.py --photos FOLDER`` resizes photographs as
they are, with camera noise, and after JPEG compression, restores those that Automatic takes for
uncompressed with the JPEG model, and prints the quantiles of the evidence of compression, the
fraction of images in which it is found, and what the JPEG model gains. Photographs are those of
``options/lists/heldout_clean_licence.txt`` below the folders, center-cropped; by default the
bundled held-out ones.
"""

from __future__ import annotations

import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from benchmarks import report
from studies.automatic.table import Case, Pixels, camera, centre, open_photographs, resized
from vheatir.cli import run_entry_point
from vheatir.data.sources import BUNDLED
from vheatir.errors import unknown_name
from vheatir.inference import Restorer, choose_model
from vheatir.inference.mixed import COMPRESSED, compression_evidence
from vheatir.metrics import psnr

SCALES = (0.5, 0.75, 1.25, 1.5, 2.0, 2.5)
QUALITIES = (20, 40, 60, 80)
HEADER = ["degradation", "images", "evidence 10 %", "median", "90 %", "compressed", "gain in dB"]


#: The degradations: not compressed, then compressed.
CONDITIONS: dict[str, Callable[[Pixels, np.random.Generator], Case]] = {
    "none": lambda clean, rng: Case(clean, clean),
    **{f"resized by {scale:g}": resized(scale, None) for scale in SCALES},
    **{f"camera noise {strength}": camera(strength) for strength in (1, 2, 3)},
    **{
        f"JPEG {quality}, resized by {scale:g}": resized(scale, quality)
        for quality in QUALITIES
        for scale in SCALES
    },
}


def measure(case: Case, jpeg: Restorer, side: int) -> tuple[float, float | None] | None:
    """Return the evidence, and what the JPEG model gains in dB; None if nothing is looked for.

    The gain is None where the image is clean.
    """
    damaged, clean = centre(case.damaged, side), centre(case.clean, side)
    choice = choose_model(damaged)
    if choice.if_compressed is None:
        return None
    restored = jpeg.restore(damaged)
    evidence = compression_evidence(damaged[None], restored[None], choice.estimate.luma)
    is_clean = np.array_equal(damaged, clean)
    return evidence, None if is_clean else psnr(restored, clean) - psnr(damaged, clean)


def row(name: str, measured: Sequence[tuple[float, float | None]]) -> list[str]:
    """Return a row of the table."""
    if not measured:
        return [name, "0", *["-"] * 5]
    evidence = np.array([each for each, _ in measured])
    gains = [gain for _, gain in measured if gain is not None]
    quantiles = [f"{value:.2f}" for value in np.quantile(evidence, (0.1, 0.5, 0.9))]
    gain = f"{np.mean(gains):+.2f}" if gains else "-"
    found = 100 * float((evidence >= COMPRESSED).mean())
    return [name, str(len(measured)), *quantiles, f"{found:.0f} %", gain]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--photos", nargs="+", default=[BUNDLED], help="folders of photographs (bundled)")
    add("--conditions", nargs="+", help=f"degradations: {', '.join(CONDITIONS)} (all)")
    add("--side", type=int, default=160, help="side of the central crop in pixels (160)")
    add("--out", type=Path, default=Path("results/compression_after_resizing"), help="folder")
    arguments = parser.parse_args(argv)
    return run_entry_point(lambda: _run(arguments), "nothing was written")


def _run(arguments: argparse.Namespace) -> int:
    chosen = arguments.conditions or list(CONDITIONS)
    for name in chosen:
        if name not in CONDITIONS:
            raise unknown_name("condition", name, list(CONDITIONS))
    source = open_photographs(arguments.photos)
    # twice as large as needed, since they may be reduced by half
    photos = [centre(source[index], 2 * arguments.side) for index in range(len(source))]
    jpeg, table, values = Restorer("jpeg_color"), [], dict[str, Any]()
    for name in track(chosen, console=Console(stderr=True), transient=True):
        seen = [
            measure(CONDITIONS[name](photo, np.random.default_rng(index)), jpeg, arguments.side)
            for index, photo in enumerate(photos)
        ]
        values[name] = [each for each in seen if each is not None]
        table.append(row(name, values[name]))
    Console().print(report.text_table(f"{len(photos)} photographs", HEADER, table))
    report.write(
        arguments.out,
        "compression_after_resizing",
        values,
        {".md": report.markdown(HEADER, table)},
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
