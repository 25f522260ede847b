"""The Restore tab in a real browser: upload, restore, compare, download."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from vheatir.image_io import decode_image, write_image
from vheatir.inference import Restorer

pytestmark = pytest.mark.browser


def upload(page: Any, path: Path) -> None:
    page.set_input_files("#upload input[type=file]", str(path))


def open_options(page: Any) -> None:
    page.click("#options button")
    page.wait_for_selector("#model")


def choose(page: Any, dropdown: str, text: str) -> None:
    page.click(f"{dropdown} input")
    page.click(f"{dropdown} [role=option]:has-text('{text}')")


def restore(page: Any) -> None:
    page.click("#restore")
    page.wait_for_function(
        "() => document.querySelector('#details').innerText.includes(' s in total')"
    )


def downloaded(page: Any) -> tuple[str, np.ndarray[Any, Any]]:
    with page.expect_download() as waiting:
        page.click("#download")
    download = waiting.value
    return download.suggested_filename, decode_image(Path(download.path()).read_bytes())


def test_upload_restore_compare_download(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], weights: dict[str, Path]
) -> None:
    write_image(tmp_path / "kaķis.png", photograph)
    page.shot("empty")
    upload(page, tmp_path / "kaķis.png")
    page.wait_for_selector("#about:has-text('300 × 200, 8-bit RGB')")
    restore(page)
    name, image = downloaded(page)
    assert name == "kaķis_restored.png"
    expected = Restorer(weights["all_levels"], "cpu").restore(photograph)
    np.testing.assert_array_equal(image, expected)
    assert (image != photograph).mean() > 0.1

    details = page.inner_text("#details")
    assert "sigma" in details and "(estimated)" in details and "whole image" in details
    # The slider shows both images at full resolution.
    sizes = page.eval_on_selector_all(
        "#result img", "images => images.map(i => [i.naturalWidth, i.naturalHeight])"
    )
    assert sizes.count([300, 200]) == 2
    assert not page.foreign, [request.url for request in page.foreign]
    page.shot("restored")


def test_a_chosen_level_is_used(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], weights: dict[str, Path]
) -> None:
    write_image(tmp_path / "photo.png", photograph)
    upload(page, tmp_path / "photo.png")
    page.wait_for_selector("#about:has-text('found')")
    open_options(page)
    page.click("#automatic input")
    level = page.locator("#level input[type=number]")
    level.wait_for()
    page.wait_for_function("() => !document.querySelector('#level input[type=number]').disabled")
    level.fill("40")
    level.press("Enter")
    restore(page)
    assert "sigma 40.0 (chosen)" in page.inner_text("#details")
    _, image = downloaded(page)
    expected = Restorer(weights["all_levels"], "cpu").restore(photograph, 40)
    np.testing.assert_array_equal(image, expected)


def test_the_slider_is_preset_to_the_estimate(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any]
) -> None:
    write_image(tmp_path / "photo.png", photograph)
    upload(page, tmp_path / "photo.png")
    page.wait_for_selector("#about:has-text('found')")
    open_options(page)
    estimate = float(re.search(r"sigma ([\d.]+)", page.inner_text("#about"))[1])
    value = float(page.input_value("#level input[type=number]"))
    assert value == pytest.approx(estimate, abs=0.3)


def test_other_models_and_tasks(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], weights: dict[str, Path]
) -> None:
    write_image(tmp_path / "photo.png", photograph)
    upload(page, tmp_path / "photo.png")
    open_options(page)
    choose(page, "#model", "sigma15")
    page.wait_for_selector("#level", state="hidden")
    restore(page)
    _, image = downloaded(page)
    np.testing.assert_array_equal(image, Restorer(weights["sigma15"], "cpu").restore(photograph))

    page.click("#task label:has-text('JPEG')")
    page.wait_for_function("() => document.querySelector('#model input').value.includes('jpeg')")
    page.click("#restore")
    page.wait_for_selector("#details:has-text('quality 5 to 95')")
    _, image = downloaded(page)
    np.testing.assert_array_equal(image, Restorer(weights["jpeg"], "cpu").restore(photograph))


def _sixteen_bit(photograph: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return photograph.astype(np.uint16) * 257


def _with_alpha(photograph: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    alpha = np.linspace(0, 255, photograph.shape[1]).astype(np.uint8)
    return np.dstack([photograph, np.broadcast_to(alpha, photograph.shape[:2])])


def _gray(photograph: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return cv2.cvtColor(photograph, cv2.COLOR_RGB2GRAY)


@pytest.mark.parametrize("change", [_sixteen_bit, _with_alpha, _gray])
def test_depth_and_channels_stay(
    page: Any,
    tmp_path: Path,
    photograph: np.ndarray[Any, Any],
    weights: dict[str, Path],
    change: Any,
) -> None:
    image = change(photograph)
    write_image(tmp_path / "photo.png", image)
    upload(page, tmp_path / "photo.png")
    restore(page)
    _, result = downloaded(page)
    assert (result.shape, result.dtype) == (image.shape, image.dtype)
    np.testing.assert_array_equal(result, Restorer(weights["all_levels"], "cpu").restore(image))


def test_a_rotated_photograph_is_shown_upright(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photograph).save(tmp_path / "phone.jpg", exif=exif)
    upload(page, tmp_path / "phone.jpg")
    page.wait_for_selector("#about:has-text('200 × 300')")
    restore(page)
    name, result = downloaded(page)
    assert name == "phone_restored.png"
    assert result.shape == (300, 200, 3)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("notes.png", b"not an image at all", "'notes.png' is not an image that can be read"),
        ("large.png", None, "0.1 megapixels at most"),
    ],
)
def test_bad_files_get_a_friendly_line(
    page: Any, tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    path = tmp_path / name
    if content is None:
        write_image(path, np.zeros((400, 300), np.uint8))
    else:
        path.write_bytes(content)
    upload(page, path)
    page.wait_for_selector(f'.toast-wrap:has-text("{message}")')
    shown = page.inner_text(".toast-wrap")
    assert "Traceback" not in shown and str(Path.home()) not in shown
    page.shot(f"bad_{path.stem}")


def test_no_image_yet(page: Any) -> None:
    page.click("#restore")
    page.wait_for_selector('.toast-wrap:has-text("upload one")')


def test_a_phone_sees_it_all(page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any]) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(color_scheme="dark")
    page.reload()
    page.wait_for_selector("#restore:not([disabled])")
    write_image(tmp_path / "photo.png", photograph)
    upload(page, tmp_path / "photo.png")
    restore(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # The button and the result below it fit on one screen.
    button, result = (bottom_of(page, each) for each in ("#restore", "#result"))
    assert bottom_of(page, "#upload") < button < result
    assert result - bottom_of(page, "#upload") < 844
    page.shot("phone_dark")


def bottom_of(page: Any, selector: str) -> float:
    box = page.locator(selector).bounding_box()
    return float(box["y"] + box["height"])


@pytest.mark.parametrize("shape", [(200, 300), (300, 200)])
def test_a_small_screen_needs_no_scrolling(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], shape: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": 1280, "height": 800})
    image = photograph if shape == (200, 300) else np.rot90(photograph)
    write_image(tmp_path / "photo.png", image)
    assert bottom_of(page, "#restore") <= 800
    upload(page, tmp_path / "photo.png")
    restore(page)
    assert page.evaluate("scrollY") == 0
    for each in ("#restore", "#result", "#luma", "#chroma"):
        assert bottom_of(page, each) <= 800, each
    page.shot(f"small_screen_{shape[1]}x{shape[0]}")


@pytest.mark.parametrize(
    ("sample", "name"), [("Camera noise", "cat_camera"), ("Phone JPEG", "coffee_phone")]
)
def test_samples_are_a_click_away(page: Any, sample: str, name: str) -> None:
    with page.expect_response(lambda answer: name in answer.url):
        page.click(f".sample:has-text('{sample}')")
