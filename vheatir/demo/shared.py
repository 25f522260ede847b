"""Shared by the tabs: errors as messages, images in gradio's cache, samples."""

from __future__ import annotations

import html
from abc import ABCMeta
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np
from gradio import processing_utils

from vheatir.bundled import heldout_photographs
from vheatir.demo.uploads import check_no_address, read_upload
from vheatir.errors import VHeatIRError
from vheatir.image_io import encode_image

Result = TypeVar("Result")

#: Photographs of scikit-image, by subject.
SAMPLES = {"Cat": "chelsea", "Coffee": "coffee"}


def reports_errors(function: Callable[..., Result]) -> Callable[..., Result]:
    """Show a VHeatIRError as a message on the page, without a traceback in the terminal."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Result:
        try:
            return function(*args, **kwargs)
        except VHeatIRError as error:
            # Messages are rendered as HTML, and may quote the name of an uploaded file.
            raise gr.Error(html.escape(str(error)), print_exception=False) from None

    return wrapped


def upload_image(label: str, elem_id: str, height: int = 300) -> gr.Image:
    """Return an image upload whose handlers get the path of the original file, undecoded."""
    return _Upload(
        label=label, type="filepath", image_mode=None, height=height,
        sources=["upload", "clipboard", "webcam"], elem_id=elem_id, buttons=[],
    )  # fmt: skip


def _path_of(self: gr.Image, file: Any) -> str | None:
    # The file as uploaded: handlers check its header before decoding it.
    return str(file.path) if file and file.path else None


async def _refuse_address(self: gr.Image, source: Any) -> str | None:
    check_no_address(source)
    moved: str | None = await gr.Image.async_move_resource_to_block_cache(self, source)
    return moved


# A class, since gradio recreates an upload from its class for the session after an event that may
# change it, and loses attributes of the instance. Gradio's metaclass is bypassed, as it would write
# a .pyi file beside this one. The name must be "Image": gradio finds the frontend component by it.
_Upload = ABCMeta.__new__(
    type(gr.Image),
    "Image",
    (gr.Image,),
    {
        "__module__": gr.Image.__module__,
        "async_move_resource_to_block_cache": _refuse_address,
        "preprocess": _path_of,
    },
)


def cached_file(data: bytes, name: str) -> str:
    """Write a file to gradio's cache, which gradio serves and empties (``delete_cache``)."""
    folder = processing_utils.utils.get_upload_folder()
    return processing_utils.save_bytes_to_cache(data, name, folder)


def cached_png(image: np.ndarray[Any, Any], name: str) -> str:
    """Write an image to gradio's cache as PNG."""
    return cached_file(encode_image(image, ".png"), name)


def sample(title: str | None) -> np.ndarray[Any, Any]:
    """Return a clean sample photograph, uint8 RGB."""
    return heldout_photographs()[SAMPLES.get(title or "", "chelsea")]


def load_image(path: str | None, title: str | None, max_pixels: int) -> np.ndarray[Any, Any]:
    """Return the upload, or the sample if there is none."""
    return read_upload(path, max_pixels).pixels if path else sample(title)


def stem_of(path: str | None, otherwise: str) -> str:
    """Return an upload's name without its folder and suffix."""
    return Path(path).stem if path else otherwise
