"""The page: its components and events, and the server."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import webbrowser
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import processing_utils
from PIL import Image
from starlette.middleware import Middleware

from vheatir.demo import Settings, benchmarks, cannot_listen
from vheatir.demo.batch import BatchTab
from vheatir.demo.folders import HideFolder
from vheatir.demo.handlers import Handlers
from vheatir.demo.heat import HeatTab
from vheatir.demo.models import Catalogue
from vheatir.demo.panel import ResultPanel
from vheatir.demo.results import ResultStore
from vheatir.demo.shared import WRITTEN
from vheatir.demo.trial import TrialTab
from vheatir.demo.uploads import delete_old

# System fonts: the page loads nothing from other servers.
_SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif")
_MONO = ("ui-monospace", "SFMono-Regular", "Consolas", "Liberation Mono", "monospace")

# Gradio keeps 0.2 MB of page state for each recent session, API calls included; its default is
# 10,000 sessions. A dropped session starts with fresh state.
_SESSIONS = 200
# Files live up to this much longer than the settings say.
_SWEEP_SECONDS = 300


def serve(settings: Settings, catalogue: Catalogue) -> None:
    """Build the page and serve it until interrupted.

    Raises:
        VHeatIRError: an address that cannot be listened on.
    """
    folder = _upload_folder()
    # max_pixels may be larger than Pillow's own limit.
    Image.MAX_IMAGE_PIXELS = max(settings.max_pixels, Image.MAX_IMAGE_PIXELS or 0)
    panel = ResultPanel(settings)
    page = build_page(settings, catalogue, panel)
    page.queue(max_size=settings.queue)
    try:
        _, url, public_url = page.launch(
            server_name=settings.host,
            server_port=settings.port,
            share=settings.share,
            max_file_size=settings.max_upload_mb * 1024 * 1024,
            theme=_theme(),
            css=_asset("page.css"),
            head=f"<script>\n{_asset('heif_uploads.js')}</script>",
            footer_links=["api", "settings"],
            ssr_mode=False,
            quiet=True,
            prevent_thread_lock=True,
            state_session_capacity=_SESSIONS,
            app_kwargs={"middleware": [Middleware(HideFolder, folder=folder)]},
        )  # fmt: skip
    except OSError:
        raise cannot_listen(settings.host, settings.port) from None
    sweeping = (page, folder, settings.keep, panel.store)
    threading.Thread(target=_sweep, args=sweeping, daemon=True).start()
    link = f"{url} and {public_url}" if public_url else url
    sys.stdout.write(f"vHeatIR demo: {link}  (Ctrl-C stops it)\n")
    sys.stdout.flush()
    if settings.browser and _has_screen():
        webbrowser.open(url)
    # SIGTERM ends the demo as Ctrl-C does.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    page.block_thread()


def _asset(name: str) -> str:
    """Return the text of a file of the page, beside this module."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _upload_folder() -> str:
    """Return the resolved folder of uploads and results, and make gradio use this path.

    Call it before building the page, whose components read the setting.
    """
    folder = str(Path(processing_utils.utils.get_upload_folder()).resolve())
    os.environ["GRADIO_TEMP_DIR"] = folder
    return folder


def _sweep(page: gr.Blocks, folder: str, keep: int, results: ResultStore) -> None:
    while True:
        time.sleep(min(keep, _SWEEP_SECONDS))
        delete_old(folder, [*page.temp_file_sets, WRITTEN], keep)
        results.delete_old()


def _theme() -> gr.themes.Base:
    """Return a theme with warm colours and plain labels."""
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


class _Page(gr.Blocks):
    """A page that refuses files given by URL.

    A request may give one as ``http://…`` for any input, and gradio would fetch it: server-side
    request forgery (SSRF).
    """

    async def preprocess_data(
        self, block_fn: Any, inputs: list[Any], *arguments: Any, **options: Any
    ) -> Any:
        client = processing_utils.client_utils
        client.traverse(inputs, _refuse_url, client.is_file_obj_with_meta)
        return await super().preprocess_data(block_fn, inputs, *arguments, **options)


def _refuse_url(file: dict[str, Any]) -> dict[str, Any]:
    if "://" in str(file["path"]):
        raise ValueError("upload the file itself: URLs are not fetched")
    return file


def build_page(
    settings: Settings, catalogue: Catalogue, panel: ResultPanel | None = None
) -> gr.Blocks:
    """Build the page without serving it.

    Args:
        settings: the demo's settings.
        catalogue: the models to offer.
        panel: the result column, for callers that need its store; a new one by default.
    """
    with _Page(
        title="vHeatIR", analytics_enabled=False, delete_cache=(settings.keep, settings.keep)
    ) as page:
        gr.Markdown(
            "# vHeatIR\nImage restoration by heat conduction: noise, JPEG, photographs.",
            elem_id="title",
        )
        with gr.Tabs():
            with gr.Tab("Restore"):
                panel = panel or ResultPanel(settings)
                Handlers(catalogue, settings.max_pixels, panel).build(page)
            with gr.Tab("Try it on a clean image", elem_id="tab_try"):
                TrialTab(catalogue, settings.max_pixels).build(page)
            with gr.Tab("Where the heat flows", elem_id="tab_heat") as tab:
                HeatTab(catalogue, settings.max_pixels).build(tab)
            with gr.Tab("Batch", elem_id="tab_batch"):
                BatchTab(catalogue, settings.max_pixels).build()
            with gr.Tab("Benchmarks", elem_id="tab_benchmarks") as tab:
                benchmarks.build(tab)
    return page


def _has_screen() -> bool:
    """Whether a browser would open a window rather than run in the terminal."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
