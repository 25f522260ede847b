"""``vheatir export MODEL --format onnx|dtmodel|pth -o FILE``: models for other programs.

Formats:

- ``onnx``: a graph for ONNX Runtime and the programs that use it, see :mod:`vheatir.export.graph`.
- ``dtmodel``: that graph as a package for darktable, see :mod:`vheatir.export.darktable`.
- ``pth``: a checkpoint for BasicSR, HAT and spandrel, see :mod:`vheatir.export.checkpoint`.

docs/export.md describes the files and how they were compared with the network.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vheatir.cli import run_entry_point
from vheatir.errors import VHeatIRError, unknown_name

if TYPE_CHECKING:
    from vheatir.image_io import StrPath
    from vheatir.weights import LoadedModel

FORMATS = ("onnx", "dtmodel", "pth")


def export_model(
    model: StrPath | LoadedModel,
    path: StrPath,
    format: str | None = None,
    *,
    level: float | None = None,
    half: bool = False,
    licence: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a model in the format of another program.

    Args:
        model: name of a released model or of a task, a ``.safetensors`` or ``.pth`` file, or a
            loaded model, with a :class:`vheatir.archs.VHeatIR` or
            :class:`vheatir.archs.VHeatIRUNet`.
        path: output file. It is written completely or not at all.
        format: one of :data:`FORMATS`; by default that of the suffix of ``path``.
        level: sigma on 0..255 to build into an ONNX graph, which then has the image as its only
            input. By default the graph of a model that takes a level has a second input, ``sigma``.
        half: store the weights of an ONNX graph in float16, which halves the file. The graph
            converts them to float32, in which its input, output and arithmetic stay.
        licence: licence of the weights, such as ``"MIT"``, for a model that is not a released one.
        overwrite: whether to replace an existing file.

    Returns:
        ``path``.

    Raises:
        VHeatIRError: unknown model or format; a level for a blind model, or out of its range;
            a network that the format cannot hold, or a licence that forbids it; a package that is
            not installed; an existing file without ``overwrite``, or one that cannot be written.
    """
    target = Path(path)
    chosen = _choose_format(target, format)
    if target.is_dir():
        raise VHeatIRError(f"{target} is a folder: give a file, such as {target / 'model.onnx'}")
    if target.exists() and not overwrite:
        raise VHeatIRError(f"{target} exists: give another file, or --overwrite to replace it")
    if chosen != "pth":
        _require_onnx()

    from vheatir.image_io import write_output

    data = _encode(model, chosen, level, half, licence)
    write_output(target, data)
    return target


def _encode(
    model: StrPath | LoadedModel,
    format: str,
    level: float | None,
    half: bool,
    licence: str | None,
) -> bytes:
    """Return the contents of the file, see :func:`export_model`."""
    from vheatir.export import checkpoint, darktable, graph
    from vheatir.export.source import open_source

    source = open_source(model, licence)
    if format == "pth":
        if level is not None or half:
            raise VHeatIRError("--level and --float16 are for onnx and dtmodel: leave them out")
        if licence is not None:
            raise VHeatIRError("a .pth file holds no licence: leave --licence out")
        return checkpoint.to_checkpoint(source)
    if format == "dtmodel":
        return darktable.to_package(source, level, half)
    return graph.to_onnx(source, level, half)


def _choose_format(path: Path, format: str | None) -> str:
    chosen = path.suffix.lower().removeprefix(".") if format is None else format
    if chosen in FORMATS:
        return chosen
    if format is None:
        raise VHeatIRError(
            f"{path} does not tell the format: give --format, one of {', '.join(FORMATS)}"
        )
    raise unknown_name("format", format, FORMATS)


def _require_onnx() -> None:
    """Raise VHeatIRError unless the packages that write ONNX files are installed."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ModuleNotFoundError as error:
        raise VHeatIRError(
            f"export to ONNX needs the package {error.name!r}, which is not installed: "
            "pip install 'vheatir[onnx]'"
        ) from None


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir export",
        description="Write a model in the format of another program: onnx (ONNX Runtime, "
        "chaiNNer), dtmodel (darktable) or pth (BasicSR, HAT, spandrel).",
    )
    add = parser.add_argument
    add("model", metavar="MODEL", help="name of a released model, or a .safetensors or .pth file")
    add(
        "--format",
        metavar="|".join(FORMATS),
        help="format of the file (default: that of its suffix)",
    )
    add("-o", "--output", required=True, metavar="FILE", help="file to write")
    add(
        "--level",
        type=float,
        metavar="N",
        help="sigma of the noise on 0..255 to build into the graph, for programs that pass an "
        "image alone (default: a second input, sigma)",
    )
    add("--float16", action="store_true", help="store the weights in float16: half the size")
    add("--licence", metavar="NAME", help="licence of the weights, for a model of your own")
    add("--overwrite", action="store_true", help="replace an existing file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status."""
    arguments = parse_arguments(argv)
    return run_entry_point(lambda: _run(arguments), "no file was written")


def _run(arguments: argparse.Namespace) -> int:
    path = export_model(
        arguments.model,
        arguments.output,
        arguments.format,
        level=arguments.level,
        half=arguments.float16,
        licence=arguments.licence,
        overwrite=arguments.overwrite,
    )
    sys.stdout.write(f"{path}: {path.stat().st_size / 1e6:.1f} MB\n")
    return 0
