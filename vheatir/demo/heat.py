"""The tab "Where the heat flows": click a point and see how far it reaches in the network."""

from __future__ import annotations

import math
from typing import Any

import gradio as gr

from vheatir.degradations import to_color_mode
from vheatir.demo.models import Catalogue
from vheatir.demo.shared import (
    cached_file,
    cached_png,
    picture,
    sample,
    stem_of,
    tells_errors,
    upload_image,
)
from vheatir.explain import figures
from vheatir.explain.influence import SIDE, diffusivities, trace_influence

_INTRO = f"""Click a point of the picture. The maps show how a small change there travels through
the network (impulse response, log scale over four decades) and what the result at this point looks
at (effective receptive field), in a window of {SIDE} × {SIDE} pixels. In the released networks heat
is conducted at the coarsest scale; before it only convolutions reach."""
_SWINIR = """SwinIR for comparison: windows of 8 × 8, shifted in every second layer, 24 layers;
random weights, 128 × 128 pixels. What a pixel can reach there grows window by window."""


class HeatTab:
    """Builds the tab and answers it."""

    def __init__(self, catalogue: Catalogue, max_pixels: int) -> None:
        self._catalogue = catalogue
        self._max_pixels = max_pixels

    def build(self, tab: gr.Tab) -> None:
        """Add the tab's components to the page that is being built."""
        gr.Markdown(_INTRO)
        labels = list(self._catalogue.entries)
        with gr.Row():
            with gr.Column(scale=2, min_width=320):
                image = upload_image("Click a point", "heat_upload")
                first = self._catalogue.labels(self._catalogue.first_task())
                model = gr.Dropdown(
                    labels, value=next(iter(first), None), label="Model", elem_id="heat_model"
                )
                point = gr.Markdown("No point yet.", elem_id="heat_point")
            with gr.Column(scale=3, min_width=320):
                maps = gr.Image(
                    label="Influence of the point", type="filepath", interactive=False,
                    show_label=False, buttons=["fullscreen"], elem_id="heat_maps",
                )  # fmt: skip
        curves = gr.Image(
            label="Learned thermal diffusivity", type="filepath", interactive=False,
            show_label=False, buttons=["fullscreen"], elem_id="heat_curves",
        )  # fmt: skip
        gr.Markdown(_SWINIR)
        swinir = gr.Image(
            label="SwinIR's windows", type="filepath", interactive=False, show_label=False,
            buttons=["fullscreen"], elem_id="heat_swinir",
        )  # fmt: skip
        tab.select(
            self.open, image, [image, swinir], api_visibility="private", show_progress="hidden"
        ).success(
            self.first, [image, model, maps], [maps, curves, point], api_visibility="private",
            concurrency_limit=1, concurrency_id="compute", show_progress_on=maps,
        )  # fmt: skip
        image.select(
            self.click, [image, model], [maps, curves, point], api_visibility="private",
            concurrency_limit=1, concurrency_id="compute", show_progress_on=maps,
        )  # fmt: skip

    def open(self, image: str | None) -> tuple[Any, Any]:
        """Show a sample where nothing has been uploaded, and SwinIR's picture."""
        swinir = cached_file(figures.SWINIR_PICTURE.read_bytes(), "swinir_windows.png")
        # The sample comes back as an upload would, so it has to pass the limit on pixels.
        side = max(16, min(300, math.isqrt(self._max_pixels)))
        return (gr.skip() if image else cached_png(sample("Cat")[:side, :side], "cat.png")), swinir

    @tells_errors
    def first(self, image: str | None, model: str | None, maps: str | None) -> tuple[Any, Any, Any]:
        """Explain the centre of the picture when the tab opens, unless a point is shown already."""
        if maps or model is None:
            return gr.skip(), gr.skip(), gr.skip()
        height, width = picture(image, "Cat", self._max_pixels).shape[:2]
        return self._shown(image, model, width // 2, height // 2)

    @tells_errors
    def click(
        self, image: str | None, model: str | None, event: gr.SelectData
    ) -> tuple[str, str, str]:
        """Explain the point that was clicked."""
        column, row = (int(value) for value in event.index)
        return self._shown(image, model, column, row)

    def _shown(self, image: str | None, model: str | None, x: int, y: int) -> tuple[str, str, str]:
        """Return the maps and curves of a point, and what it is in words."""
        restorer = self._catalogue.restorer(model)
        pixels = picture(image, "Cat", self._max_pixels)
        if restorer.task is not None and restorer.task.channels == 1 and pixels.ndim == 3:
            pixels = to_color_mode(pixels, "gray")
        influence = trace_influence(restorer, pixels, (y, x))
        stem = stem_of(image, "cat")
        maps = figures.to_png(figures.draw_influence(influence))
        curves = figures.to_png(figures.draw_diffusivity(diffusivities(restorer.network)))
        return (
            cached_file(maps, f"{stem}_influence.png"),
            cached_file(curves, "diffusivity.png"),
            f"Point {x}, {y}, of the picture as shown.",
        )
