"""The result column of the Restore tab: strength, before/after, removed residual, loupe."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gradio as gr
import numpy as np
from numpy.typing import NDArray

from vheatir.demo import Settings
from vheatir.demo.results import Result, ResultStore, amplified_residual, magnified
from vheatir.demo.shared import (
    cached_png,
    clicked_point,
    reports_errors,
    shown_image,
    strength_sliders,
)
from vheatir.errors import VHeatIRError
from vheatir.inference.files import Metadata
from vheatir.inference.strength import apply_strength

#: Side of the loupe's window, in image pixels, and of the loupe on the page, in screen pixels.
LOUPE, LOUPE_SHOWN = 160, 320
_COMPARE, _REMOVED, _LOUPE = "compare", "removed", "loupe"
#: Options of the events that show a stored result in another way.
_ADJUST: dict[str, Any] = {
    "api_visibility": "private", "show_progress": "hidden",
    "concurrency_limit": 2, "concurrency_id": "adjust",
}  # fmt: skip


class ResultPanel:
    """Builds the result column, stores each visitor's last result and handles its events."""

    def __init__(self, settings: Settings) -> None:
        self.store = ResultStore(settings.max_results_mb * 1024 * 1024, settings.keep)

    def build(self) -> None:
        """Add the components and their events to the page under construction."""
        self._view = gr.State(_COMPARE)
        with gr.Tabs(elem_id="views"):
            with gr.Tab("Before | after") as compare:
                self.slider = gr.ImageSlider(
                    label="Before | after", type="filepath", format="png", max_height=400,
                    show_label=False, interactive=False, buttons=["fullscreen"], elem_id="result",
                )  # fmt: skip
            with gr.Tab("Removed", elem_id="view_removed") as removed:
                self._removed = shown_image(
                    "What was removed", "removed", height=400, buttons=["fullscreen"]
                )
            with gr.Tab("Loupe 1:1", elem_id="view_loupe") as loupe:
                self._map = shown_image("Click a point", "loupe_map", height=150)
                with gr.Row(elem_id="loupe_row"):
                    self._loupes = [
                        shown_image("Before", "loupe_before", min_width=LOUPE_SHOWN),
                        shown_image("After", "loupe_after", min_width=LOUPE_SHOWN),
                    ]
        with gr.Row(elem_id="strength"):
            self.luma, self.chroma = strength_sliders(min_width=140)
        self.details = gr.Markdown(elem_id="details")
        self.download = gr.DownloadButton("Download PNG", interactive=False, elem_id="download")
        for tab, name in ((compare, _COMPARE), (removed, _REMOVED), (loupe, _LOUPE)):
            opened = tab.select(
                lambda name=name: name, outputs=self._view, api_visibility="private", queue=False
            )
            self.refresh_after(opened.then)
        for strength in (self.luma, self.chroma):
            adjusted = strength.input(
                self.adjust, [self.details, self.luma, self.chroma], [self.slider, self.download],
                trigger_mode="always_last", **_ADJUST,
            )  # fmt: skip
            self.refresh_after(adjusted.success)
        self._map.select(self.look, outputs=self._loupes, **_ADJUST)

    def refresh_after(self, event: Any) -> None:
        """Update the open view after an event, such as ``button.click``."""
        shown = [self._removed, self._map, *self._loupes]
        event(self.refresh, [self.details, self._view], shown, **_ADJUST)

    def show(
        self,
        request: gr.Request | None,
        before: NDArray[Any],
        restored: NDArray[Any],
        strength: tuple[float, float],
        stem: str,
        metadata: Metadata | None = None,
    ) -> tuple[str, str]:
        """Store a new result; returns the files of before and after."""
        shown = _at_strength(before, restored, strength)
        before_file = cached_png(before, f"{stem}_before.png", metadata)
        shown_file = cached_png(shown, f"{stem}_restored.png", metadata)
        height, width = before.shape[:2]
        centre = (width // 2, height // 2)
        files = before_file, shown_file
        result = Result(
            before, restored, shown, *files, stem, centre, strength, metadata or Metadata()
        )
        self.store.put(_owner(request), result)
        return before_file, shown_file

    @reports_errors()
    def adjust(
        self, details: str, luma: float, chroma: float, request: gr.Request
    ) -> tuple[Any, Any]:
        """Change the strength of the stored result, without running the network."""
        if not details:  # nothing restored yet
            return gr.skip(), gr.skip()
        owner = _owner(request)
        result = self.store.get(owner)
        shown = _at_strength(result.before, result.restored, (luma, chroma))
        file = cached_png(shown, f"{result.stem}_restored.png", result.metadata)
        self.store.change(owner, result, shown=shown, shown_file=file, strength=(luma, chroma))
        if self.store.get(owner).restored is not result.restored:  # restored anew meanwhile
            return gr.skip(), gr.skip()
        return (result.before_file, file), gr.DownloadButton(value=file, interactive=True)

    def sync(self, luma: float, chroma: float, request: gr.Request) -> tuple[Any, Any]:
        """Apply the sliders as they are now, if they were moved during the restoration."""
        with suppress(VHeatIRError):  # too large to be stored
            if self.store.get(_owner(request)).strength != (luma, chroma):
                adjusted: tuple[Any, Any] = self.adjust("restored", luma, chroma, request)
                return adjusted
        return gr.skip(), gr.DownloadButton(interactive=True)

    @reports_errors()
    def refresh(self, details: str, view: str, request: gr.Request) -> tuple[Any, ...]:
        """Return the content of the open view for the stored result: residual, map and loupe."""
        if not details or view == _COMPARE:
            return (gr.skip(),) * 4
        result = self.store.get(_owner(request))
        if view == _LOUPE:
            return gr.skip(), result.shown_file, *_loupes(result)
        residual, factor = amplified_residual(result)
        label = f"Before minus after, times {factor} (mid-gray: nothing removed)"
        file = cached_png(residual, f"{result.stem}_removed_x{factor}.png")
        return gr.Image(file, label=label), gr.skip(), gr.skip(), gr.skip()

    @reports_errors()
    def look(self, event: gr.SelectData, request: gr.Request) -> tuple[str, str]:
        """Move the loupe to the clicked point."""
        point, owner = clicked_point(event), _owner(request)
        return _loupes(self.store.change(owner, self.store.get(owner), point=point))

    def leave(self, request: gr.Request) -> None:
        """Drop the result of a visitor who closes the page."""
        self.store.forget(_owner(request))


def _owner(request: gr.Request | None) -> str | None:
    """Return the session of a request; None for API calls, which have no session."""
    if request is None or "/call/" in request.url.path:
        return None
    if request.headers.get("x-gradio-user") == "api":  # gradio_client
        return None
    return request.session_hash


def _at_strength(
    before: NDArray[Any], restored: NDArray[Any], strength: tuple[float, float]
) -> NDArray[Any]:
    # At full strength the same array, so that it is stored once.
    return restored if strength == (100, 100) else apply_strength(before, restored, *strength)


def _loupes(result: Result) -> tuple[str, str]:
    scale = max(LOUPE_SHOWN // max(min(max(result.before.shape[:2]), LOUPE), 1), 1)
    # The rest describes the whole photograph.
    colors = Metadata(icc=result.metadata.icc, png_chunks=result.metadata.png_chunks)

    def shown(image: NDArray[Any], name: str) -> str:
        part: NDArray[np.generic] = magnified(image, result.point, LOUPE, scale)
        return cached_png(part, f"{result.stem}_{name}_loupe.png", colors)

    return shown(result.before, "before"), shown(result.shown, "restored")
