"""The other tabs of the demo in a real browser, and two visitors at once."""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from vheatir.bundled import heldout_photographs
from vheatir.image_io import decode_image, write_image
from vheatir.inference import Restorer

pytestmark = pytest.mark.browser
SLOW = 60_000  # milliseconds


def open_tab(page: Any, name: str) -> None:
    page.click(f"button[role=tab]:has-text('{name}')")


def numbers(page: Any, row: str) -> list[float]:
    cells = page.locator(f"#try_table tr:has-text('{row}') td").all_inner_texts()
    return [float(cell) for cell in cells[1:]]


def test_a_clean_image_is_degraded_restored_and_measured(page: Any, tmp_path: Path) -> None:
    clean = heldout_photographs()["coffee"][:128, :160]
    write_image(tmp_path / "clean.png", clean)
    open_tab(page, "Try it")
    page.set_input_files("#try_upload input[type=file]", str(tmp_path / "clean.png"))
    page.wait_for_selector("#try_upload img")
    page.click("#try")
    page.wait_for_selector("#try_table:has-text('Noise sigma 25, 160 × 128')")
    degraded, classic = numbers(page, "degraded"), numbers(page, "non-local means")
    noise = np.random.RandomState(0).normal(0, 25, clean.shape)[..., ::-1]
    expected = peak_signal_noise_ratio(clean, np.rint((clean + noise).clip(0, 255)).astype("u1"))
    assert degraded[0] == pytest.approx(expected, abs=0.006)
    assert classic[0] > degraded[0] + 5 and classic[1] > degraded[1]
    assert len(numbers(page, "all_levels")) == 2
    page.shot("try_noise")
    page.click("#try_kind label:has-text('JPEG')")
    page.wait_for_selector("#try_level:has-text('JPEG quality')")
    page.click("#try")
    page.wait_for_selector("#try_table:has-text('JPEG quality 10')")
    assert numbers(page, "jpeg_color_medium")[0] > numbers(page, "degraded")[0] + 0.5
    page.shot("try_jpeg")


def test_a_click_shows_where_the_heat_flows(page: Any) -> None:
    open_tab(page, "heat flows")
    page.wait_for_selector("#heat_upload img")
    page.wait_for_selector("#heat_swinir img")
    # The centre of the sample is shown without a click.
    page.wait_for_selector("#heat_maps img", timeout=4 * SLOW)
    page.wait_for_selector("#heat_curves img")
    assert "Point 150, 150," in page.inner_text("#heat_point")
    first = page.get_attribute("#heat_maps img", "src")
    page.shot("heat_opened")
    page.click("#heat_upload img", position={"x": 150, "y": 90})
    page.wait_for_function(
        "first => document.querySelector('#heat_maps img').src !== first", arg=first,
        timeout=4 * SLOW,
    )  # fmt: skip
    point = page.inner_text("#heat_point")
    assert re.search(r"Point \d+, \d+", point) and "150, 150" not in point
    # The tab keeps its content.
    open_tab(page, "Restore")
    open_tab(page, "heat flows")
    page.wait_for_timeout(2000)
    assert page.inner_text("#heat_point") == point
    page.shot("heat")


def test_benchmarks_are_rendered(page: Any) -> None:
    open_tab(page, "Benchmarks")
    page.wait_for_selector("#benchmarks table")
    text = page.inner_text("#benchmarks")
    assert "SwinIR (published)" in text and "denoise_color_medium" in text
    page.wait_for_selector("#curves img")
    assert not page.foreign, [request.url for request in page.foreign]
    page.shot("benchmarks")


def test_several_files_become_a_zip(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], weights: dict[str, Path]
) -> None:
    write_image(tmp_path / "a.png", photograph[:64, :64])
    write_image(tmp_path / "b.png", photograph[:48, :80])
    (tmp_path / "c_<b>.png").write_bytes(b"not an image")
    open_tab(page, "Batch")
    names = ("a.png", "b.png", "c_<b>.png")
    page.set_input_files("#batch_files input[type=file]", [str(tmp_path / name) for name in names])
    page.wait_for_selector("#batch_files tr:has-text('.png') >> nth=2")
    page.click("#batch")
    page.wait_for_selector("#batch_report:has-text('2 of 3 restored')")
    report = page.inner_text("#batch_report")
    assert "not an image that can be read" in report and "/" not in report.split("failed")[1]
    page.shot("batch")
    with page.expect_download() as waiting:
        page.click("#batch_zip a >> nth=0")
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as archive:
        assert sorted(archive.namelist()) == ["a.png", "b.png"]
        restored = decode_image(archive.read("b.png"))
    expected = Restorer(weights["all_levels"], "cpu").restore(photograph[:48, :80])
    np.testing.assert_array_equal(restored, expected)


@pytest.mark.parametrize("tab", ["Try it", "heat flows", "Batch", "Benchmarks"])
def test_every_tab_fits_a_phone_in_the_dark(page: Any, tab: str) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.wait_for_selector("#restore:not([disabled])")
    if not page.is_visible(f"button[role=tab]:has-text('{tab}')"):
        page.click(".overflow-menu > button")
        page.click(f".overflow-dropdown button:has-text('{tab}')")
    else:
        open_tab(page, tab)
    page.wait_for_timeout(1500)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.shot(f"phone_{tab.replace(' ', '_')}")
