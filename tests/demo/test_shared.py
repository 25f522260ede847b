"""What the tabs share: files written for the page, and requests that gradio would not refuse."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

gr = pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

from tests.demo.test_folders import run_apart  # noqa: E402
from vheatir.demo import Settings, shared  # noqa: E402
from vheatir.demo.handlers import AUTOMATIC  # noqa: E402
from vheatir.demo.heat import _NO_POINT, HeatTab  # noqa: E402
from vheatir.demo.models import Catalogue  # noqa: E402
from vheatir.demo.page import build_page  # noqa: E402
from vheatir.demo.uploads import delete_old  # noqa: E402
from vheatir.image_io import read_image  # noqa: E402


@pytest.fixture(scope="module")
def page(weights: dict[str, Path]) -> Any:
    async def build() -> Any:  # without a running loop, gradio would open some and close none
        return build_page(Settings(), Catalogue([weights["all_levels"]], "cpu"))

    return run_apart(build())


def event(page: Any, name: str) -> Any:
    return next(each for each in page.fns.values() if each.name == name)


def test_no_input_fetches_a_url(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def fetch(url: str, cache_dir: str) -> str:
        asked.append(url)
        return "x"

    monkeypatch.setattr("gradio.processing_utils.async_ssrf_protected_download", fetch)
    restore = event(page, "restore")
    file = {"path": "https://example.com/x.png", "meta": {"_type": "gradio.FileData"}}
    given = [None, AUTOMATIC, True, 15, False, 100, 100]
    assert len(given) == len(restore.inputs)
    for place in range(len(given)):
        inputs = [*given[:place], file, *given[place + 1 :]]
        state = gr.state_holder.SessionState(page)
        with pytest.raises(ValueError, match="URLs are not fetched"):
            run_apart(page.preprocess_data(restore, inputs, state))
    assert not asked


def test_images_reach_the_server_as_uploads_alone(page: Any) -> None:
    """Gradio decodes what a request names for an image, without a look at its size."""
    for each in page.fns.values():
        for component in each.inputs:
            decodes = isinstance(component, gr.Image) and type(component) is not shared._Image
            assert not decodes, f"{each.name} takes {component.label}"


def test_every_file_written_for_the_page_is_deleted_when_it_is_old(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros((8, 8, 3), np.uint8)
    files = [shared.cached_png(image, "a.png"), shared.cached_file(b"x", "b.png")]
    files.append(str(shared.cached_path("c.zip")))
    Path(files[-1]).write_bytes(b"zip")
    assert shared.WRITTEN.issuperset(files)
    for file in files:
        os.utime(file, (0, 0))
    new = shared.cached_file(b"y", "d.png")
    delete_old(tmp_path, [shared.WRITTEN], 60)
    assert not any(Path(file).exists() for file in files) and Path(new).exists()
    assert shared.WRITTEN.isdisjoint(files) and new in shared.WRITTEN
    for file in files:
        os.utime(Path(file).parent, (0, 0))
    delete_old(tmp_path / "cache", [shared.WRITTEN], 60)
    assert list((tmp_path / "cache").iterdir()) == [Path(new).parent]


def test_the_heat_tab_shows_the_centre_first_and_then_what_is_clicked(
    weights: dict[str, Path],
) -> None:
    catalogue = Catalogue([weights["all_levels"]], "cpu")
    tab, label = HeatTab(catalogue, 10**6), catalogue.first().label
    *files, text = tab.first(None, label, _NO_POINT)
    assert text == "Point 225, 150, in the image as shown."  # of 451 x 300 pixels
    assert all(read_image(file).ndim == 3 for file in files)
    assert tab.first(None, label, text) == (gr.skip(), gr.skip(), gr.skip())
    click = gr.SelectData(None, {"index": [7, 9], "value": None})
    assert tab.click(None, label, click)[2] == "Point 7, 9, in the image as shown."
    with pytest.raises(gr.Error, match="not a point"):
        tab.click(None, label, gr.SelectData(None, {"index": ["x", 2], "value": None}))
