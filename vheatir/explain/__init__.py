"""``vheatir explain IMAGE -o OUT/``: visualise the heat conduction; see ``--help``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir explain",
        description="Save three figures: the influence of one pixel on each stage of the network "
        "(influence.png), the learned thermal diffusivity (diffusivity.png), and SwinIR's windows "
        "for comparison (swinir_windows.png).",
    )
    add = parser.add_argument
    add("image", type=Path, metavar="IMAGE", help="image file")
    add("-o", "--output", type=Path, required=True, metavar="OUT", help="folder for the figures")
    add(
        "--point", nargs=2, type=int, metavar=("X", "Y"),
        help="column and row of the pixel to trace (default: the image centre)",
    )  # fmt: skip
    add(
        "--model", metavar="NAME|FILE",
        help="name of a released model or a .safetensors file (default: the paper's network if "
        "it is among the models, else the model for colour denoising)",
    )  # fmt: skip
    add("--level", type=float, help="sigma of the noise on 0..255 (default: estimated)")
    add("--device", default="auto", help="auto (CUDA, else MPS, else CPU), cpu, cuda, cuda:1, mps")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Save the figures and print their paths; return the exit status.

    Raises:
        VHeatIRError: the image, model, point or device is missing or invalid; ``vheatir explain``
            reports it.
    """
    arguments = parse_arguments(argv)
    # Imported after parsing, so that --help is fast.
    from vheatir.explain import figures
    from vheatir.explain.influence import diffusivities, pixels_for, trace_influence
    from vheatir.image_io import write_bytes_atomically
    from vheatir.inference import Restorer
    from vheatir.inference.files import read_photograph_file
    from vheatir.zoo import model_to_explain

    restorer = Restorer(arguments.model or model_to_explain(), arguments.device)
    pixels = read_photograph_file(arguments.image).pixels
    if arguments.model is None:
        pixels = pixels_for(restorer, pixels)
    column, row = arguments.point or (pixels.shape[1] // 2, pixels.shape[0] // 2)
    influence = trace_influence(restorer, pixels, (row, column), arguments.level)
    written = {
        "influence.png": figures.draw_influence(influence),
        "diffusivity.png": figures.draw_diffusivity(diffusivities(restorer.network)),
        "swinir_windows.png": figures.SWINIR_FIGURE.read_bytes(),
    }
    for name, data in written.items():
        write_bytes_atomically(arguments.output / name, data)
        sys.stdout.write(f"{arguments.output / name}\n")
    return 0
