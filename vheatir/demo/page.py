"""The page: what it shows, and what its buttons do."""

from __future__ import annotations

import html
import os
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
import numpy as np
from gradio import processing_utils

from vheatir.demo import Settings
from vheatir.demo.models import Catalogue, Entry
from vheatir.demo.training import TrainingRun, quickstart_command
from vheatir.demo.uploads import (
    delete_unfinished,
    describe,
    read_upload,
    refuse_addresses,
)
from vheatir.errors import VHeatIRError
from vheatir.image_io import encode_image
from vheatir.inference import estimate_sigma
from vheatir.tasks import TASKS, Task

Result = TypeVar("Result")

# System fonts: the page asks no other server for anything.
_SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")
_CSS = """
.gradio-container { width: 100%; max-width: 1240px !important; margin: 0 auto !important; }
#title h1 { margin-bottom: 0; letter-spacing: -0.02em; }
#title p { margin-top: 0.2rem; opacity: 0.75; }
#details p { margin: 0; font-variant-numeric: tabular-nums; }
#log textarea { font-family: ui-monospace, Consolas, monospace; font-size: 0.8rem; }
"""

_NO_MODEL = """### No trained model found yet

The project comes without released weights so far. The quickstart trains a tiny network for colour
denoising at sigma 15 on the photographs that scikit-image ships, on this machine, within a few
minutes. It shows that everything works; it is no match for a full training."""
_NO_MODEL_REMOTE = """

Start it on the server: `python vheatir/train.py -opt options/quickstart.yml`, then reload this
page; or start the demo with `--weights FILE`."""


def serve(settings: Settings) -> None:
    """Build the page and serve it until Ctrl-C.

    Raises:
        VHeatIRError: bad weight files, or an address that cannot be listened on.
    """
    page = build_page(settings)
    page.queue(max_size=settings.queue)
    try:
        _, url, public_url = page.launch(
            server_name=settings.host,
            server_port=settings.port,
            share=settings.share,
            max_file_size=settings.max_upload_mb * 1024 * 1024,
            theme=_theme(),
            css=_CSS,
            footer_links=["api", "settings"],
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
        )  # fmt: skip
    except OSError:
        raise VHeatIRError(
            f"cannot listen on {settings.host}, port {settings.port or '7860 to 7959'}: "
            "it is in use or not this machine's; give another --port or --host"
        ) from None
    threading.Thread(target=_sweep, args=(settings.keep,), daemon=True).start()
    link = f"{url} and {public_url}" if public_url else url
    sys.stdout.write(f"vHeatIR demo: {link}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    if settings.browser and _has_screen():
        webbrowser.open(url)
    # A polite kill ends the demo as Ctrl-C does, a training it has started included.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    page.block_thread()


def _sweep(keep: int) -> None:
    folder = processing_utils.utils.get_upload_folder()
    while True:
        time.sleep(keep)
        delete_unfinished(folder, keep)


def _theme() -> gr.themes.Base:
    """Warm colours, quiet labels."""
    theme = gr.themes.Soft(
        primary_hue="orange", secondary_hue="amber", neutral_hue="stone",
        font=_SANS, font_mono=_MONO,
    )  # fmt: skip
    return theme.set(
        background_fill_primary="*neutral_50",
        block_border_width="1px",
        block_title_background_fill="transparent",
        block_title_background_fill_dark="transparent",
        block_title_padding="0",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_label_background_fill="*block_background_fill",
        block_label_background_fill_dark="*block_background_fill",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
    )


def build_page(settings: Settings) -> gr.Blocks:
    """Build the page without serving it.

    Raises:
        VHeatIRError: one of the weight files given is missing or not ours.
    """
    catalogue = Catalogue(settings.weights, settings.device)
    handlers = _Handlers(catalogue, settings)
    task = catalogue.first_task()
    entry = next((catalogue.entry(label) for label in catalogue.labels(task)), None)

    with gr.Blocks(
        title="vHeatIR", analytics_enabled=False, delete_cache=(settings.keep, settings.keep)
    ) as page:
        gr.Markdown(
            "# vHeatIR\nImage restoration by heat conduction: noise and JPEG artifacts.",
            elem_id="title",
        )
        training = _training_panel(visible=entry is None, offer=handlers.offers_training)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = gr.Image(
                    label="Image", type="filepath", image_mode=None, height=300,
                    sources=["upload", "clipboard", "webcam"], elem_id="upload",
                    buttons=[],
                )  # fmt: skip
                # The file as uploaded, unread: its header is looked at first. (A subclass would
                # make gradio write a .pyi file beside this one.)
                image.preprocess = lambda file: str(file.path) if file and file.path else None
                refuse_addresses(image)
                about = gr.Markdown(elem_id="about")
                task_input = gr.Radio(**_task_choices(catalogue), label="Task", elem_id="task")
                # Every model to begin with, so that the API takes each of them; the page itself
                # shows the chosen task's once it has loaded.
                model = gr.Dropdown(
                    list(catalogue.entries), label="Model", elem_id="model",
                    value=next(iter(catalogue.labels(task)), None),
                )  # fmt: skip
                with gr.Group(visible=_wants_level(entry)) as level_group:
                    automatic = gr.Checkbox(
                        True, label="Estimate the noise from the image", elem_id="automatic"
                    )
                    level = gr.Slider(
                        **_level_range(entry), step=0.5, value=15, interactive=False,
                        label="Noise level (sigma, of 255)", elem_id="level", buttons=[],
                    )  # fmt: skip
                ensemble = gr.Checkbox(
                    False, label="Best quality: mean over 8 flips and rotations, 8 times slower",
                    container=False, elem_id="ensemble",
                )  # fmt: skip
                button = gr.Button(
                    "Restore", variant="primary", interactive=entry is not None, elem_id="restore"
                )
            with gr.Column(scale=3, min_width=320):
                slider = gr.ImageSlider(
                    label="Before | after", type="filepath", format="png", max_height=640,
                    interactive=False, buttons=["fullscreen"], elem_id="result",
                )  # fmt: skip
                details = gr.Markdown(elem_id="details")
                download = gr.DownloadButton("Download PNG", interactive=False, elem_id="download")

        choices = [training.group, task_input, model, level_group, level, button]
        page.load(handlers.show_models, outputs=choices, api_visibility="private")
        task_input.input(
            handlers.choose_task, task_input, [model, level_group, level], api_visibility="private"
        )
        model.input(handlers.choose_model, model, [level_group, level], api_visibility="private")
        automatic.input(
            lambda on: gr.Slider(interactive=not on), automatic, level, api_visibility="private",
            queue=False,
        )  # fmt: skip
        image.change(
            handlers.inspect, [image, model, automatic], [image, about, level],
            api_visibility="private", concurrency_limit=1, concurrency_id="inspect",
            show_progress="hidden",
        )  # fmt: skip
        button.click(
            handlers.restore, [image, model, automatic, level, ensemble],
            [slider, details, download], api_name="restore", concurrency_limit=1,
            concurrency_id="compute", show_progress_on=slider,
            api_description="Restore one image: before and after, details, and the PNG file.",
        ).success(
            lambda: gr.DownloadButton(interactive=True), outputs=download, api_visibility="private",
            queue=False,
        )  # fmt: skip
        if training.button is not None:
            training.button.click(
                handlers.train, outputs=[training.log, training.button],
                api_visibility="private", concurrency_limit=4, show_progress="minimal",
            ).then(
                handlers.show_models, outputs=choices, api_visibility="private"
            )  # fmt: skip
    return page


class _TrainingPanel:
    """What takes the models' place while there are none."""

    group: gr.Column
    button: gr.Button | None
    log: gr.Textbox


def _training_panel(visible: bool, offer: bool) -> _TrainingPanel:
    panel = _TrainingPanel()
    with gr.Column(visible=visible, variant="panel", elem_id="training") as panel.group:
        gr.Markdown(_NO_MODEL + ("" if offer else _NO_MODEL_REMOTE))
        panel.button = None
        if offer:
            panel.button = gr.Button(
                "Train the quickstart model (a few minutes)", variant="primary", elem_id="train"
            )
        panel.log = gr.Textbox(
            label="Training log", lines=10, max_lines=10, autoscroll=True, visible=False,
            elem_id="log", buttons=[],
        )  # fmt: skip
    return panel


def _tells_errors(function: Callable[..., Result]) -> Callable[..., Result]:
    """Show a VHeatIRError as a message on the page, without a traceback in the terminal."""

    @wraps(function)
    def wrapped(*args: Any, **kwargs: Any) -> Result:
        try:
            return function(*args, **kwargs)
        except VHeatIRError as error:
            raise _shown(error) from None

    return wrapped


def _shown(error: VHeatIRError) -> gr.Error:
    # Messages are drawn as HTML, and may quote the name of an uploaded file.
    return gr.Error(html.escape(str(error)), print_exception=False)


class _Handlers:
    """What happens on the page; all state is the catalogue and the training that runs."""

    def __init__(self, catalogue: Catalogue, settings: Settings) -> None:
        self._catalogue = catalogue
        self._settings = settings
        self._training = TrainingRun(quickstart_command())
        # Strangers shall not start hours of work on the host.
        self.offers_training = settings.is_local

    def show_models(self) -> tuple[Any, ...]:
        """Look for models again, and show them or the way to one."""
        self._catalogue.refresh()
        task = self._catalogue.first_task()
        label = next(iter(self._catalogue.labels(task)), None)
        return (
            gr.Column(visible=label is None),
            gr.Radio(**_task_choices(self._catalogue)),
            gr.Dropdown(**_model_choices(self._catalogue, task)),
            *self._show_level(label),
            gr.Button(interactive=label is not None),
        )

    def choose_task(self, title: str | None) -> tuple[Any, ...]:
        """Offer the models of another task."""
        task = next((task for task in TASKS.values() if _title(task) == title), None)
        choices = _model_choices(self._catalogue, task)
        return gr.Dropdown(**choices), *self._show_level(choices["value"])

    def choose_model(self, label: str | None) -> tuple[Any, ...]:
        """Show the level slider, if the model takes a level, with its range."""
        return self._show_level(label)

    def inspect(self, path: str | None, label: str | None, automatic: bool) -> tuple[Any, ...]:
        """Describe an upload, and preset the slider to its estimated noise; refuse a bad one."""
        if not path:
            return gr.skip(), "", gr.skip()
        try:
            image = read_upload(path, self._settings.max_pixels)
        except VHeatIRError as error:
            gr.Warning(html.escape(str(error)))
            return None, "", gr.skip()
        colors = image if image.ndim == 2 else image[:, :, :3]
        sigma = estimate_sigma(colors.astype(np.float32) / np.iinfo(image.dtype).max)
        about = f"{describe(image)} · estimated noise: sigma {sigma:.1f}"
        entry = self._catalogue.entries.get(label or "")
        if not automatic or not _wants_level(entry):
            return gr.skip(), about, gr.skip()
        limits = _level_range(entry)
        preset = min(max(round(2 * sigma) / 2, limits["minimum"]), limits["maximum"])
        return gr.skip(), about, preset

    @_tells_errors
    def restore(
        self,
        image: str | None,
        model: str | None,
        automatic: bool = True,
        level: float = 15,
        ensemble: bool = False,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio finds it by this default
    ) -> tuple[tuple[str, str], str, str]:
        """Restore an upload."""
        if not image:
            raise VHeatIRError("no image yet: upload one, then press Restore")
        began = time.perf_counter()
        progress(0, desc="Reading the image")
        pixels = read_upload(image, self._settings.max_pixels)
        entry = self._catalogue.entry(model)
        progress(0, desc="Loading the model")
        restorer = self._catalogue.restorer(model)
        progress(0, desc="Restoring")
        result = restorer.restore_detailed(
            pixels,
            float(level) if entry.takes_level and not automatic else None,
            self_ensemble=ensemble,
            progress=lambda done, total: progress((done, total), desc="Restoring", unit="tiles"),
        )
        stem = Path(image).stem
        before = _cached_png(pixels, f"{stem}_before.png")
        after = _cached_png(result.image, f"{stem}_restored.png")
        if result.level is None:
            level_text = entry.level_text
        else:
            source = "estimated" if result.estimated else "chosen"
            level_text = f"{entry.task.level_name} {result.level:.1f} ({source})"
        facts = [
            describe(pixels),
            f"{result.seconds:.2f} s ({time.perf_counter() - began:.2f} s in all)",
            level_text,
            f"tiles of {result.tile}" if result.tile else "whole image",
            f"on {restorer.device}",
        ]
        if result.retried:
            facts.append("repeated in float32")
        return (before, after), " · ".join(facts), after

    def train(self) -> Iterator[tuple[Any, Any]]:
        """Train the quickstart model, its log streamed to the page."""
        if not self.offers_training:
            return
        waiting = gr.Button("Training …", interactive=False)
        yield gr.Textbox("Starting …", visible=True), waiting
        try:
            for text in self._training.follow():
                yield gr.Textbox(text, visible=True), waiting
        except VHeatIRError as error:
            yield gr.skip(), gr.Button("Try again", interactive=True)
            raise _shown(error) from None
        yield gr.skip(), gr.Button("Train again", interactive=True)

    def _show_level(self, label: str | None) -> tuple[Any, Any]:
        entry = self._catalogue.entries.get(label or "")
        return gr.Group(visible=_wants_level(entry)), gr.Slider(**_level_range(entry))


def _title(task: Task) -> str:
    return task.title[0].upper() + task.title[1:]


def _task_choices(catalogue: Catalogue) -> dict[str, Any]:
    titles = [_title(task) for task in catalogue.tasks()]
    first = catalogue.first_task()
    value = None if first is None else _title(first)
    return {"choices": titles, "value": value, "visible": bool(titles)}


def _model_choices(catalogue: Catalogue, task: Task | None) -> dict[str, Any]:
    labels = catalogue.labels(task)
    return {"choices": labels, "value": next(iter(labels), None), "visible": bool(labels)}


def _wants_level(entry: Entry | None) -> bool:
    return entry is not None and entry.takes_level


def _level_range(entry: Entry | None) -> dict[str, float]:
    low, high = entry.level if entry is not None and entry.takes_level else (0.0, 55.0)
    return {"minimum": low, "maximum": high}


def _cached_png(image: np.ndarray[Any, Any], name: str) -> str:
    """Write a PNG into gradio's cache, which it serves and empties (``delete_cache``)."""
    folder = processing_utils.utils.get_upload_folder()
    return processing_utils.save_bytes_to_cache(encode_image(image, ".png"), name, folder)


def _has_screen() -> bool:
    """Tell whether a browser would open a window rather than fill the terminal."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True


__all__ = ["build_page", "serve"]
