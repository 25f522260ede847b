"""The "Restore" tab: its components and event handlers."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gradio as gr

from vheatir.demo.models import Catalogue, Entry
from vheatir.demo.panel import ResultPanel
from vheatir.demo.samples import DAMAGED
from vheatir.demo.shared import Tab, reports_errors, upload_image
from vheatir.demo.uploads import Choices, describe, read_upload
from vheatir.errors import VHeatIRError
from vheatir.hardware import memory_used
from vheatir.inference import Choice
from vheatir.inference.estimate import estimate_sigma
from vheatir.inference.strength import parse_strength

#: The option that chooses task and model by the image.
AUTOMATIC = "Automatic"


@dataclass(frozen=True)
class Handlers(Tab):
    """Builds the tab and handles its events.

    All state is in the catalogue, the panel and the choices.
    """

    panel: ResultPanel
    choices: Choices = field(default_factory=Choices)

    def build(self, page: gr.Blocks) -> None:
        """Add the tab's components and events to the page under construction."""
        panel, entry = self.panel, self.catalogue.first()
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = upload_image("Image", "upload", height=260)
                with gr.Row(elem_id="samples"):
                    for title, make in DAMAGED.items():
                        sample = gr.Button(title, size="sm", min_width=90, elem_classes="sample")
                        sample.click(
                            make, outputs=image, api_visibility="private", show_progress="hidden"
                        )
                about = gr.Markdown(elem_id="about")
                button = gr.Button("Restore", variant="primary", elem_id="restore")
                with gr.Accordion("Options", open=False, elem_id="options"):
                    task = gr.Radio(**task_choices(self.catalogue), label="Task", elem_id="task")
                    # All models at first, so that the API accepts each of them; the page shows
                    # those of the chosen task once it has loaded.
                    model = gr.Dropdown(
                        self.catalogue.choices([
                            AUTOMATIC, *self.catalogue.entries, *self.catalogue.former_labels()
                        ]),
                        value=entry.label if self.catalogue.given else AUTOMATIC,
                        label="Model", elem_id="model",
                    )  # fmt: skip
                    with gr.Group(visible=entry.takes_level) as level_group:
                        automatic = gr.Checkbox(
                            True, label="Estimate the noise level from the image",
                            elem_id="automatic",
                        )  # fmt: skip
                        level = gr.Slider(
                            **slider_limits(entry), step=0.5, value=15, interactive=False,
                            label="Noise level (sigma on 0–255)", elem_id="level", buttons=[],
                        )  # fmt: skip
                    ensemble = gr.Checkbox(
                        False, label="Average over 8 flips and rotations (better, 8 times slower)",
                        container=False, elem_id="ensemble",
                    )  # fmt: skip
            with gr.Column(scale=3, min_width=320):
                panel.build()
        of_model = [level_group, level]
        of_task = [model, *of_model]
        page.load(self.show_models, outputs=[task, *of_task], api_visibility="private")
        task.input(self.choose_task, task, of_task, api_visibility="private")
        model.input(self.choose_model, model, of_model, api_visibility="private")
        automatic.input(
            lambda on: gr.Slider(interactive=not on), automatic, level, api_visibility="private",
            queue=False,
        )  # fmt: skip
        image.change(
            self.inspect, [image, model, automatic], [image, about, level],
            api_visibility="private", concurrency_limit=1, concurrency_id="inspect",
            show_progress="hidden",
        )  # fmt: skip
        restored = button.click(
            self.restore, [image, model, automatic, level, ensemble, panel.luma, panel.chroma],
            [panel.slider, panel.details, panel.download], api_name="restore",
            show_progress_on=panel.slider, **self.compute,
            api_description="Restore one image. Returns before and after, details, and the PNG "
            "file. luma and chroma: strength in percent, from 0 (the input) to 150.",
        ).success(
            panel.sync, [panel.luma, panel.chroma], [panel.slider, panel.download],
            api_visibility="private", show_progress="hidden",
        )  # fmt: skip
        panel.refresh_after(restored.then)
        page.unload(panel.leave)

    @reports_errors()
    def show_models(self) -> tuple[Any, ...]:
        """Look for models again, and show them."""
        self.catalogue.refresh()
        tasks = task_choices(self.catalogue)
        return gr.Radio(**tasks), *self.choose_task(tasks["value"])

    def choose_task(self, title: str | None) -> tuple[Any, ...]:
        """Offer the models of another task."""
        found = [label for label, e in self.catalogue.entries.items() if e.task.heading == title]
        labels = [AUTOMATIC] if title == AUTOMATIC else found
        label = next(iter(labels), None)
        choices = self.catalogue.choices(labels)
        models = gr.Dropdown(choices=choices, value=label, visible=bool(labels))
        return models, *self.choose_model(label)

    def choose_model(self, label: str | None) -> tuple[Any, Any]:
        """Show the level slider with the model's range, if the model takes a level."""
        entry = self.catalogue.entries.get(label or "")
        visible = label == AUTOMATIC or (entry is not None and entry.takes_level)
        return gr.Group(visible=visible), gr.Slider(**slider_limits(entry))

    def inspect(self, path: str | None, label: str | None, automatic: bool) -> tuple[Any, ...]:
        """Describe an upload and preset the slider to its estimated noise; reject a bad file."""
        if not path:
            return gr.skip(), "", gr.skip()
        try:
            photo = read_upload(path, self.max_pixels)
        except VHeatIRError as error:
            gr.Warning(html.escape(str(error)))
            return None, "", gr.skip()
        image = photo.pixels
        choice = self.choices.choose(path, photo)
        about = f"{describe(image)} · found {choice.message}"
        try:
            labels = self._resolve(label, choice)
        except VHeatIRError:  # no model for this degradation: reported when Restore is pressed
            return gr.skip(), about, gr.skip()
        if not labels:
            unless = ", unless it finds compression artifacts" if choice.if_compressed else ""
            return gr.skip(), f"{about} · Automatic leaves it unchanged{unless}", gr.skip()
        pixels = image.shape[0] * image.shape[1]
        seconds = sum(self.catalogue.expected_seconds(each, pixels) for each in labels)
        names = " and ".join(each.split(" · ")[0] for each in labels)
        about += f" · about {max(seconds, 0.1):.1f} s with {names}"
        entry = self.catalogue.entry(labels[0])
        if not automatic or not entry.takes_level:
            return gr.skip(), about, gr.skip()
        sigma = choice.level
        if sigma is None:  # a denoiser was chosen for noise that is not white
            sigma = estimate_sigma(image[..., :3] if image.ndim == 3 else image)
            about += f" · sigma {sigma:.1f}"
        limits = slider_limits(entry)
        preset = min(max(round(2 * sigma) / 2, limits["minimum"]), limits["maximum"])
        return gr.skip(), about, preset

    @reports_errors()
    def restore(
        self,
        image: str | None,
        model: str | None,
        automatic: bool = True,
        level: float = 15,
        ensemble: bool = False,
        luma: float = 100,
        chroma: float = 100,
        request: gr.Request | None = None,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  gradio injects it by this default
    ) -> tuple[tuple[str, str], str, str]:
        """Restore an uploaded image."""
        if not image:
            raise VHeatIRError("no image yet: upload one, then press Restore")
        began = time.perf_counter()
        strength = parse_strength((luma, chroma))
        progress(0, desc="Reading the image")
        photo = read_upload(image, self.max_pixels)
        pixels = photo.pixels
        choice, chosen = None, None
        if model == AUTOMATIC:
            candidates = self.choices.choose(image, photo)
            progress(0, desc="Choosing the model")
            choice, chosen = self.catalogue.for_choice(candidates, pixels)
        labels = self._resolve(model, choice)
        stem = Path(image).stem
        if not labels:
            before, after = self.panel.show(request, pixels, pixels, strength, stem, photo.metadata)
            about = f"{describe(pixels)} · nothing to restore: left unchanged"
            return (before, after), about, after
        entry = self.catalogue.entry(labels[0])
        progress(0, desc="Loading the model")
        restorer = chosen or self.catalogue.restorer(labels[0])
        progress(0, desc="Restoring")
        chosen_level = float(level) if entry.takes_level and not automatic else None
        estimated_level = restorer.nearest_level(choice.level) if choice and automatic else None
        result = restorer.restore_detailed(
            pixels,
            estimated_level if chosen_level is None else chosen_level,
            self_ensemble=ensemble,
            progress=lambda done, total: progress((done, total), desc="Restoring", unit="tiles"),
        )
        runs = 8 if ensemble else 1
        if len(labels) == 1:
            count = runs * pixels.shape[0] * pixels.shape[1]
            self.catalogue.measured(labels[0], count, result.seconds)
        before, after = self.panel.show(
            request, pixels, result.image, strength, stem, photo.metadata
        )
        if result.level is None:
            level_text = entry.level_text
        else:
            source = "estimated" if chosen_level is None else "chosen"
            level_text = f"{entry.task.level_name} {result.level:.1f} ({source})"
        used = memory_used(restorer.device)
        facts = [
            describe(pixels),
            f"found {choice.message} -> {restorer.name}" if choice is not None else None,
            f"{result.seconds:.2f} s ({time.perf_counter() - began:.2f} s in total)",
            level_text,
            f"tiles of {result.tile}" if result.tile else "whole image",
            f"on {restorer.device}",
            f"server memory {used / 1e9:.1f} GB" if used is not None else None,
            "rerun in float32" if result.retried else None,
        ]
        return (before, after), " · ".join(filter(None, facts)), after

    def _resolve(self, model: str | None, choice: Choice | None) -> list[str]:
        """Return the labels of the models to use: none if Automatic leaves the image unchanged."""
        if model != AUTOMATIC or choice is None:
            return [self.catalogue.entry(model).label]
        tasks = filter(None, (choice.model, choice.second))
        return [self.catalogue.label_for(task) for task in tasks]


def task_choices(catalogue: Catalogue) -> dict[str, Any]:
    """Return the task choices and the initial one."""
    titles = [task.heading for task in catalogue.tasks()]
    value = catalogue.first().task.heading if catalogue.given else AUTOMATIC
    return {"choices": [AUTOMATIC, *titles], "value": value}


def slider_limits(entry: Entry | None) -> dict[str, float]:
    """Return the limits of the level slider."""
    low, high = (entry.level if entry and entry.takes_level else None) or (0.0, 55.0)
    return {"minimum": low, "maximum": high}
