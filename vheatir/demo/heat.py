"""The "Where the heat flows" tab: influence maps of a clicked point in the network."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import gradio as gr

from vheatir.demo.shared import (
    Tab,
    cached_file,
    cached_png,
    clicked_point,
    reports_errors,
    shown_image,
    upload_image,
)
from vheatir.explain import figures
from vheatir.explain.influence import SIDE, diffusivities, pixels_for, trace_influence
from vheatir.zoo import FLAT

_INTRO = f"""Click a point in the image. The maps show how a small change there spreads through the
network (impulse response, log scale over four decades) and which pixels the result at this point
depends on (effective receptive field), in a window of {SIDE} × {SIDE} pixels. The U-shaped networks
conduct heat at the coarsest scale; before it, only convolutions spread information."""
_FLAT = "The paper's network, first in the list, mixes by heat alone, in every block."
_SWINIR = """SwinIR for comparison: 8 × 8 windows, shifted in every second layer, 24 layers; random
weights, 128 × 128 pixels. There the influence of a pixel grows window by window."""


_NO_POINT = "No point selected yet."

_figure = partial(shown_image, show_label=False, buttons=["fullscreen"])


class HeatTab(Tab):
    """Builds the tab and handles its events."""

    def build(self, tab: gr.Tab) -> None:
        """Add the tab's components to the page under construction."""
        labels = self.catalogue.labels_to_explain()
        first = self.catalogue.entries[labels[0]]
        gr.Markdown(f"{_INTRO} {_FLAT}" if first.network == FLAT else _INTRO)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = upload_image("Click a point", "heat_upload")
                choices = self.catalogue.choices(labels)
                model = gr.Dropdown(choices, value=labels[0], label="Model", elem_id="heat_model")
                point = gr.Markdown(_NO_POINT, elem_id="heat_point")
            with gr.Column(scale=3, min_width=320):
                maps = _figure("Influence of the point", "heat_maps")
        curves = _figure("Learned thermal diffusivity", "heat_curves")
        gr.Markdown(_SWINIR)
        swinir = _figure("SwinIR's windows", "heat_swinir")
        shown = [maps, curves, point]
        options = {"api_visibility": "private", "show_progress_on": maps, **self.compute}
        tab.select(
            self.open, image, [image, swinir], api_visibility="private", show_progress="hidden"
        ).success(self.first, [image, model, point], shown, **options)
        image.select(self.click, [image, model], shown, **options)

    def open(self, image: str | None) -> tuple[Any, Any]:
        """Show a sample if nothing has been uploaded, and SwinIR's figure."""
        swinir = cached_file(figures.SWINIR_FIGURE.read_bytes(), "swinir_windows.png")
        if image:
            return gr.skip(), swinir
        # The sample comes back like an upload, so it must pass the pixel limit.
        side = max(16, min(300, math.isqrt(self.max_pixels)))
        return cached_png(self.load(None, "Cat")[:side, :side], "cat.png"), swinir

    @reports_errors()
    def first(self, image: str | None, model: str | None, point: str) -> tuple[Any, Any, Any]:
        """Explain the image centre when the tab opens, unless a point is already shown."""
        if point != _NO_POINT or model is None:
            return gr.skip(), gr.skip(), gr.skip()
        height, width = self.load(image, "Cat").shape[:2]
        return self._trace(image, model, width // 2, height // 2)

    @reports_errors()
    def click(
        self, image: str | None, model: str | None, event: gr.SelectData
    ) -> tuple[str, str, str]:
        """Explain the clicked point."""
        return self._trace(image, model, *clicked_point(event))

    def _trace(self, image: str | None, model: str | None, x: int, y: int) -> tuple[str, str, str]:
        """Return the maps, the curves and a description of a point."""
        restorer = self.catalogue.restorer(model)
        pixels = pixels_for(restorer, self.load(image, "Cat"))
        influence = trace_influence(restorer, pixels, (y, x))
        stem = Path(image).stem if image else "cat"
        curves = figures.draw_diffusivity(diffusivities(restorer.network))
        return (
            cached_file(figures.draw_influence(influence), f"{stem}_influence.png"),
            cached_file(curves, "diffusivity.png"),
            f"Point {x}, {y}, in the image as shown.",
        )
