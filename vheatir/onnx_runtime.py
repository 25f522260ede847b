"""Restore images with ONNX files of ``vheatir export``: ONNX Runtime in place of PyTorch.

``vheatir-onnx MODEL.onnx IN -o OUT``. This module and those it imports need NumPy, Pillow and
``onnxruntime`` alone. They are the whole of the distribution ``vheatir-onnx`` (packaging/onnx).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vheatir.colors import RGB_PER_MATLAB_LUMA, matlab_luma
from vheatir.errors import VHeatIRError, first_line, unknown_name
from vheatir.image_io import StrPath, read_file, write_output
from vheatir.inference.estimate import color_channels, estimate_sigma
from vheatir.inference.files import FORMAT_OF_SUFFIX, encode_photograph, read_photograph_file
from vheatir.tasks import TASKS, format_levels
from vheatir.tiles import AUTO_TILE, cover

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

_Array = NDArray[Any]


@dataclass(frozen=True)
class _Model:
    """What an ONNX file of ``vheatir export`` says of itself.

    Attributes:
        session: the session that runs it.
        channels: channels of input and output, 1 or 3.
        is_luma: whether the one channel is Y of MATLAB's ``rgb2ycbcr``.
        takes_level: whether it has the input ``sigma``.
        level_name: what the level is: ``sigma`` on 0..255, or ``quality`` of JPEG.
        level_range: smallest and largest level.
    """

    session: InferenceSession
    channels: int
    is_luma: bool
    takes_level: bool
    level_name: str
    level_range: tuple[float, float]


def open_session(path: StrPath) -> InferenceSession:
    """Open an ONNX file of ``vheatir export`` on the CPU.

    Raises:
        VHeatIRError: ``onnxruntime`` is not installed, or the file cannot be read.
    """
    try:
        import onnxruntime
    except ModuleNotFoundError:
        raise VHeatIRError("onnxruntime is not installed: pip install onnxruntime") from None
    data = read_file(path, repr(str(path)))
    try:
        return onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises exceptions of many types
        raise VHeatIRError(
            f"{str(path)!r} is not an ONNX file that can be run ({first_line(error)}): "
            "write one with 'vheatir export'"
        ) from None


def restore(
    session: InferenceSession,
    image: _Array,
    level: float | None = None,
    tile: int | None = AUTO_TILE,
) -> _Array:
    """Restore one image, as :meth:`vheatir.Restorer.restore` does at strength 100.

    Args:
        session: of a file of ``vheatir export``; see :func:`open_session`.
        image: ``uint8`` or ``uint16``, (H, W) or (H, W, C), C = 1 to 4 for gray, gray and alpha,
            RGB, RGBA. Alpha is kept unchanged; gray stored as RGB is treated as gray.
        level: sigma of the noise on 0..255, for a file with the input ``sigma``; None to estimate
            it from the image. The quality, for a model that was trained with that of JPEG.
        tile: largest side of the tiles in pixels; None for the whole image at once.

    Returns:
        A new array of the same shape and dtype.

    Raises:
        VHeatIRError: an image, level or tile that the model does not support, a model that was not
            exported by ``vheatir export``, or one that cannot be run.
    """
    model = _describe(session)
    fits = image.ndim == 2 or (image.ndim == 3 and image.shape[2] <= 4)
    if image.dtype not in (np.uint8, np.uint16) or not fits or image.size == 0:
        raise VHeatIRError(
            f"an array of {image.dtype} {image.shape} cannot be restored: give uint8 or uint16, "
            "(H, W) or (H, W, C), C = 1 to 4"
        )
    white = np.float32(np.iinfo(image.dtype).max)
    colors = np.atleast_3d(color_channels(image)).astype(np.float32) / white
    used = _level(model, level, colors)
    planes = _to_network_channels(model, colors)
    restored = _run_in_tiles(model, planes, used, tile)
    if restored.shape != colors.shape:
        if colors.shape[2] == 1:
            restored = restored.mean(axis=2, keepdims=True)
        else:
            restored = colors + (restored - planes) * RGB_PER_MATLAB_LUMA
    result = np.atleast_3d(image).copy()
    count = 3 if result.shape[2] >= 3 else 1
    result[..., :count] = np.rint(restored.clip(0, 1) * white)
    return result.reshape(image.shape)


def restore_file(
    session: InferenceSession,
    source: StrPath,
    target: StrPath,
    level: float | None = None,
    tile: int | None = AUTO_TILE,
) -> None:
    """Restore an image file: upright, with its colour profile, metadata and transparency.

    Args:
        session: see :func:`restore`.
        source: the file.
        target: the output file, written completely or not at all; its suffix gives the format.
        level: see :func:`restore`.
        tile: see :func:`restore`.

    Raises:
        VHeatIRError: see :func:`restore`; an unsupported or unreadable file, such as one of 16
            bits without OpenCV; or a TIFF of 16-bit colours without tifffile.
    """
    suffix = Path(target).suffix.lower()
    if suffix not in FORMAT_OF_SUFFIX:
        raise unknown_name("suffix", suffix, FORMAT_OF_SUFFIX)
    photo = read_photograph_file(source)
    pixels = restore(session, photo.pixels, level, tile)
    try:
        data = encode_photograph(pixels, FORMAT_OF_SUFFIX[suffix], photo.metadata)
    except ModuleNotFoundError as error:
        if error.name != "tifffile":
            raise
        raise VHeatIRError(
            "a TIFF of 16-bit colours needs tifffile, which is not installed: "
            "run 'pip install tifffile', or write PNG"
        ) from None
    write_output(target, data)


def _describe(session: InferenceSession) -> _Model:
    inputs = {each.name: each.shape for each in session.get_inputs()}
    shape = inputs.get("input", ())
    fields = session.get_modelmeta().custom_metadata_map
    # Any network may have an input of this name: the metadata tells.
    is_own = inputs.keys() - {"sigma"} == {"input"} and {"licence", "weights"} <= fields.keys()
    if not is_own or len(shape) != 4 or shape[1] not in (1, 3):
        raise VHeatIRError("not a model of this package: write one with 'vheatir export'")
    task = TASKS.get(fields.get("task", ""))
    low, _, high = fields.get("level_range", "").partition(" to ")
    trained = (float(low), float(high)) if high else (0.0, float("inf"))
    is_luma = (task.color if task else fields.get("color")) == "luma"
    level_name = fields.get("level_name", "sigma")
    return _Model(session, shape[1], is_luma, "sigma" in inputs, level_name, trained)


def _level(model: _Model, level: float | None, colors: _Array) -> float | None:
    """Return the level to run the model with; None for a model without the input ``sigma``."""
    low, high = model.level_range
    if not model.takes_level:
        if level is not None:
            raise VHeatIRError("this model takes no level, or has one built in: omit the level")
        return None
    if level is None:
        if model.level_name != "sigma":
            raise VHeatIRError("this model needs the JPEG quality: give a level, 1 to 100")
        return min(max(estimate_sigma(colors), low), high)
    if not low <= level <= high:  # also rejects NaN
        name = model.level_name
        raise VHeatIRError(
            f"{name} {level:g}: this model is trained for {name} {format_levels((low, high))}"
        )
    return level


def _to_network_channels(model: _Model, colors: _Array) -> _Array:
    if colors.shape[2] == model.channels:
        return colors
    if model.channels == 3:
        return colors.repeat(3, axis=2)
    if model.is_luma:
        luma: _Array = matlab_luma(colors * np.float32(255))[..., None] / 255
        return luma.astype(np.float32)
    raise VHeatIRError(
        "this model restores gray images, but the image is in colour: "
        "use a model for colour images, or convert the image to gray"
    )


def _run_in_tiles(model: _Model, planes: _Array, level: float | None, tile: int | None) -> _Array:
    """Run the model on (H, W, C) in [0, 1] and blend the tiles."""
    height, width = planes.shape[:2]
    out = np.zeros_like(planes)
    for (row, across), (column, down) in product(*cover(height, width, tile)):
        part = np.ascontiguousarray(planes[row, column].transpose(2, 0, 1)[None])
        feeds = {"input": part}
        if level is not None:
            feeds["sigma"] = np.full((1, 1, *part.shape[2:]), level / 255, np.float32)
        try:
            (result,) = model.session.run(["output"], feeds)
        except Exception as error:  # onnxruntime raises exceptions of many types
            raise VHeatIRError(
                f"the model cannot be run ({first_line(error)}): if memory is short, "
                "give a smaller tile"
            ) from None
        if not np.isfinite(result).all():
            raise VHeatIRError(
                "the model returned NaN or infinite pixels: its weights are damaged, "
                "so use another file"
            )
        weights = np.outer(across, down).astype(np.float32)[..., None]
        out[row, column] += result[0].transpose(1, 2, 0) * weights
    return out


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir-onnx",
        description="Restore an image with an ONNX file of 'vheatir export'. EXIF orientation is "
        "applied; ICC profile, EXIF and transparency are kept.",
    )
    add = parser.add_argument
    add("model", metavar="MODEL.onnx", help="file written by 'vheatir export'")
    add("input", metavar="IN", help="image of 8 bits: PNG, JPEG, BMP, TIFF, WebP or PNM")
    add("-o", "--output", required=True, metavar="OUT", help="file to write")
    add(
        "--level",
        type=float,
        metavar="N",
        help="sigma of the noise on 0..255, for models that take it (default: estimated)",
    )
    add(
        "--tile",
        type=int,
        default=AUTO_TILE,
        metavar="N",
        help="process in tiles of at most N x N pixels (default: %(default)s)",
    )
    add("--overwrite", action="store_true", help="replace an existing file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return the exit status: 0, or 2 for an error that the user can fix."""
    arguments = parse_arguments(argv)
    try:
        target = Path(arguments.output)
        if target.exists() and not arguments.overwrite:
            raise VHeatIRError(f"{target} exists: give another file, or --overwrite to replace it")
        session = open_session(arguments.model)
        restore_file(session, arguments.input, target, arguments.level, arguments.tile)
    except VHeatIRError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return 0
