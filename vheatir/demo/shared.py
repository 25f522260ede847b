"""Shared by the tabs: errors as messages, images in gradio's cache, samples."""

from __future__ import annotations

import html
import secrets
from abc import ABCMeta
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import gradio as gr
import numpy as np
from gradio import processing_utils

from vheatir.bundled import heldout_photographs
from vheatir.demo.models import Catalogue
from vheatir.demo.uploads import read_upload
from vheatir.errors import VHeatIRError
from vheatir.image_io import encode_image, write_bytes_atomically
from vheatir.inference.files import Metadata, add_png_metadata
from vheatir.inference.strength import STRONGEST

#: Photographs of scikit-image, by subject.
SAMPLES = {"Cat": "chelsea", "Coffee": "coffee"}
#: Every file written here, to be deleted when it is old. Gradio tracks them by component, and loses
#: those of a component that an event has changed.
WRITTEN: set[str] = set()


@dataclass(frozen=True)
class Tab:
    """A tab of the page that runs models.

    Attributes:
        catalogue: the models.
        max_pixels: largest image, in pixels.
    """

    catalogue: Catalogue
    max_pixels: int
    #: Options of the events that run a model: one at a time, over all tabs and visitors.
    compute: ClassVar[dict[str, Any]] = {"concurrency_limit": 1, "concurrency_id": "compute"}

    def load(self, path: str | None, title: str | None) -> np.ndarray[Any, Any]:
        """Return the upload, or the sample of this title if there is none."""
        return read_upload(path, self.max_pixels).pixels if path else sample(title)


def clicked_point(event: gr.SelectData) -> tuple[int, int]:
    """Return column and row of a click in an image."""
    try:
        column, row = (int(value) for value in event.index)
    except (TypeError, ValueError, OverflowError):
        raise VHeatIRError("not a point in the image: click inside the image") from None
    return column, row


@contextmanager
def reports_errors() -> Iterator[None]:
    """Show a VHeatIRError as a message on the page, without a traceback; also a decorator."""
    try:
        yield
    except VHeatIRError as error:
        # Messages are rendered as HTML, and may quote the name of an uploaded file.
        raise gr.Error(html.escape(str(error)), print_exception=False) from None


def upload_image(label: str, elem_id: str, height: int = 300) -> gr.Image:
    """Return an image upload whose handlers get the path of the original file, undecoded."""
    return _Image(
        label=label, type="filepath", image_mode=None, height=height,
        sources=["upload", "clipboard", "webcam"], elem_id=elem_id, buttons=[],
    )  # fmt: skip


def _path_of(self: gr.Image, file: Any) -> str | None:
    # The file as uploaded: handlers check its header before decoding it.
    return str(file.path) if file and file.path else None


# A class, since gradio recreates an upload from its class for the session after an event that may
# change it, which loses attributes of the instance. Gradio's metaclass is bypassed, as it would
# write a .pyi file beside this one. Gradio finds the frontend component by the name of the class.
_Image: Any = ABCMeta.__new__(
    type(gr.Image),
    "Image",
    (gr.Image,),
    {"__module__": gr.Image.__module__, "preprocess": _path_of},
)


def shown_image(label: str, elem_id: str | None = None, **options: Any) -> gr.Image:
    """Return an image that shows a result; without buttons unless ``options`` give some."""
    given = {"buttons": [], **options}
    return gr.Image(label=label, type="filepath", interactive=False, elem_id=elem_id, **given)


def strength_sliders(prefix: str = "", **options: Any) -> list[gr.Slider]:
    """Return the sliders of the strength of luma and chroma."""
    return [
        gr.Slider(
            0, STRONGEST, 100, step=1, label=f"{name} strength (%)", buttons=[],
            elem_id=f"{prefix}{name.lower()}", **options,
        )
        for name in ("Luma", "Chroma")
    ]  # fmt: skip


def cached_file(data: bytes, name: str) -> str:
    """Write a file to gradio's cache, which gradio serves and empties (``delete_cache``)."""
    folder = processing_utils.utils.get_upload_folder()
    path = Path(folder, processing_utils.hash_bytes(data), name)
    write_bytes_atomically(path, data)  # another visitor may be reading the same file
    file = str(path.resolve())
    WRITTEN.add(file)
    return file


def cached_path(name: str) -> Path:
    """Return the path of a new file in gradio's cache, in a folder that nobody can guess."""
    folder = Path(processing_utils.utils.get_upload_folder(), secrets.token_hex(32))
    folder.mkdir(parents=True)
    path = folder.resolve() / name
    WRITTEN.add(str(path))
    return path


def cached_png(image: np.ndarray[Any, Any], name: str, metadata: Metadata | None = None) -> str:
    """Write an image to gradio's cache as PNG, with the metadata of its photograph."""
    data = encode_image(image, ".png")
    return cached_file(add_png_metadata(data, metadata) if metadata else data, name)


def sample(title: str | None) -> np.ndarray[Any, Any]:
    """Return a clean sample photograph, uint8 RGB."""
    return heldout_photographs()[SAMPLES.get(title or "", "chelsea")]
