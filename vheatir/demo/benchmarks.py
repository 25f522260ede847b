"""The "Benchmarks" tab: the released models, and the tables and plots of docs/, as measured."""

from __future__ import annotations

import re

import gradio as gr

from vheatir import _paths
from vheatir.demo.shared import cached_file
from vheatir.zoo.listing import markdown

_PAGES = ("results/README.md", "benchmarks.md")
_PLOTS = ("results/compare/*.png", "results/zoo/*.png")


def build(tab: gr.Tab) -> None:
    """Add the tab's components to the page under construction."""
    text = gr.Markdown(elem_id="benchmarks")
    curves = gr.Gallery(
        label="Speed against SwinIR, and training curves of the released models", columns=3,
        object_fit="contain", buttons=["fullscreen"], interactive=False, elem_id="curves",
    )  # fmt: skip
    tab.select(load, outputs=[text, curves], api_visibility="private")


def load() -> tuple[str, list[tuple[str, str]]]:
    """Read the pages and plots; without docs/, return a message instead."""
    folder = _paths.docs_folder()
    pages = [_page((folder / name).read_text(encoding="utf-8")) for name in _PAGES
             if (folder / name).is_file()]  # fmt: skip
    plots = [(cached_file(path.read_bytes(), path.name), path.stem) for pattern in _PLOTS
             for path in sorted(folder.glob(pattern))]  # fmt: skip
    results = "\n\n".join(pages) or "This copy of vHeatIR has no benchmark results."
    return f"# Released models\n\n{markdown()}\n\n{results}", plots


def _page(text: str) -> str:
    """Return a page without images and local links, whose files are not served."""
    without_images = re.sub(r"!\[[^\]]*\]\([^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", without_images)
