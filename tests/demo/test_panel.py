"""The result column: strength without the network, views, and isolation between sessions.

The server here has a model for photographs, which takes no level, and stores two megabytes of
results.
"""

from __future__ import annotations

import io
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

from tests.demo.test_page import downloaded, restore, upload
from tests.demo.test_tabs import open_tab
from vheatir.image_io import decode_image, write_image
from vheatir.inference import Restorer
from vheatir.inference.files import Metadata, read_photograph_file
from vheatir.inference.strength import apply_strength

gr = pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

from vheatir.demo import Settings  # noqa: E402
from vheatir.demo.panel import LOUPE, ResultPanel  # noqa: E402


def request_of(session: str | None, path: str = "/gradio_api/queue/join", user: str = "app") -> Any:
    from starlette.requests import Request

    headers = [(b"x-gradio-user", user.encode())]
    scope = {
        "type": "http", "path": path, "headers": headers, "server": ("demo", 80), "scheme": "http",
        "query_string": b"",
    }  # fmt: skip
    return gr.Request(Request(scope), session_hash=session)


@pytest.fixture
def images(photograph: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Return a 16-bit image and a plausible restored version."""
    before = photograph[:40, :50].astype(np.uint16) * 257
    return before, (0.9 * before).astype(np.uint16)


def test_strength_acts_on_the_result_at_hand_in_its_depth(
    images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, restored = images
    panel, mine = ResultPanel(Settings()), request_of("mine")
    files = panel.show(mine, before, restored, (100, 100), "photo")
    for file, image in zip(files, images, strict=True):
        shown = decode_image(Path(file).read_bytes())
        assert shown.dtype == np.uint16
        np.testing.assert_array_equal(shown, image)
    for luma, chroma in ((40, 130), (0, 0), (100, 100)):
        (old, new), _ = panel.adjust("details", luma, chroma, mine)
        shown = decode_image(Path(new).read_bytes())
        assert old == files[0] and Path(new).name == "photo_restored.png"
        expected = apply_strength(before, restored, luma, chroma)
        assert shown.dtype == np.uint16
        np.testing.assert_array_equal(shown, expected)


def test_what_was_chosen_before_is_used_at_once(
    images: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, restored = images
    panel = ResultPanel(Settings())
    _, file = panel.show(request_of("mine"), before, restored, (50, 0), "photo")
    shown = decode_image(Path(file).read_bytes())
    np.testing.assert_array_equal(shown, apply_strength(before, restored, 50, 0))


def test_no_session_gets_anothers_result(images: Any, tmp_path: Path, monkeypatch: Any) -> None:
    panel = ResultPanel(Settings())
    panel.show(request_of("mine"), *images, (100, 100), "mine")
    for other in (request_of("other"), request_of(None), request_of("mine", "/call/restore")):
        with pytest.raises(gr.Error, match="press Restore again"):
            panel.adjust("details", 50, 50, other)
        with pytest.raises(gr.Error, match="press Restore again"):
            panel.refresh("details", "removed", other)
    panel.leave(request_of("mine"))
    with pytest.raises(gr.Error, match="press Restore again"):
        panel.refresh("details", "loupe", request_of("mine"))


def test_calls_without_a_session_keep_nothing(
    images: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    panel = ResultPanel(Settings())
    panel.show(request_of("an event", "/gradio_api/call/restore"), *images, (100, 100), "photo")
    panel.show(request_of("a client", user="api"), *images, (100, 100), "photo")
    panel.show(None, *images, (100, 100), "photo")
    assert panel.store.size == 0


def test_the_colour_profile_is_in_every_file(images: Any, tmp_path: Path, monkeypatch: Any) -> None:
    panel, mine = ResultPanel(Settings()), request_of("mine")
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    files = [*panel.show(mine, *images, (100, 100), "photo", Metadata(profile))]
    (_, adjusted), _ = panel.adjust("details", 50, 50, mine)
    loupes = panel.look(gr.SelectData(None, {"index": [9, 9], "value": None}), mine)
    for file in (*files, adjusted, *loupes):
        with Image.open(file) as image:
            assert image.info["icc_profile"] == profile


def test_the_files_keep_the_metadata_of_the_photograph(images: Any, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[271] = "a camera"  # the manufacturer
    chunks = PngImagePlugin.PngInfo()
    chunks.add(b"gAMA", (45455).to_bytes(4, "big"))
    chunks.add(b"cICP", bytes([12, 13, 0, 1]))  # Display P3
    chunks.add_text("Comment", "a text")
    path = tmp_path / "photo.png"
    Image.fromarray(images[0].astype(np.uint8)).save(
        path, exif=exif, dpi=(300, 300), pnginfo=chunks
    )
    upload = read_photograph_file(path)
    panel, mine = ResultPanel(Settings()), request_of("mine")
    files = [*panel.show(mine, *images, (100, 100), "photo", upload.metadata)]
    (_, adjusted), _ = panel.adjust("details", 50, 50, mine)
    for file in (*files, adjusted):
        assert read_photograph_file(file).metadata == upload.metadata
        with Image.open(file) as image:
            assert image.getexif()[271] == "a camera" and round(image.info["dpi"][0]) == 300
            assert image.info["gamma"] == 0.45455 and image.info["Comment"] == "a text"
        assert b"cICP" in Path(file).read_bytes()
    # The loupe shows a part: the colours are the photograph's, the size is not.
    for file in panel.look(gr.SelectData(None, {"index": [9, 9], "value": None}), mine):
        assert b"cICP" in Path(file).read_bytes()
        with Image.open(file) as image:
            assert image.info["gamma"] == 0.45455
            assert not image.getexif() and "dpi" not in image.info


def test_a_slider_moved_while_restoring_counts(
    images: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    before, restored = images
    panel, mine = ResultPanel(Settings()), request_of("mine")
    panel.show(mine, before, restored, (100, 100), "photo")
    (_, shown), _ = panel.sync(0, 0, mine)
    np.testing.assert_array_equal(decode_image(Path(shown).read_bytes()), before)
    unmoved, button = panel.sync(0, 0, mine)
    assert "value" not in unmoved and button.interactive

    # A strength applied to a result that has been replaced meanwhile is not shown.
    def restored_anew(*arguments: Any) -> Any:
        panel.show(mine, before, restored.copy(), (100, 100), "new")
        return apply_strength(*arguments)

    monkeypatch.setattr("vheatir.demo.panel.apply_strength", restored_anew)
    skipped = panel.adjust("details", 50, 50, mine)
    assert all("value" not in each for each in skipped)
    assert panel.store.get("mine").shown_file.endswith("new_restored.png")


def test_the_loupe_takes_points_only(images: Any, tmp_path: Path, monkeypatch: Any) -> None:
    panel = ResultPanel(Settings())
    panel.show(request_of("mine"), *images, (100, 100), "photo")
    for index in (None, 7, [1], ["x", 2], [1, 2, 3], [float("inf"), 0], [float("nan"), 0]):
        event = gr.SelectData(None, {"index": index, "value": None})
        with pytest.raises(gr.Error, match="not a point"):
            panel.look(event, request_of("mine"))
    for index in ([0, 0], [10**12, -(10**12)]):
        panel.look(gr.SelectData(None, {"index": index, "value": None}), request_of("mine"))


# --- in a browser --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def address(serve: Any, photo_weights: Path) -> str:
    address: str = serve("--weights", photo_weights, "--max-results-mb", "2")
    return address


def set_strength(page: Any, name: str, percent: int) -> None:
    """Enter a strength and wait for the result to change."""
    before = after_image(page)
    field = page.locator(f"#{name} input[type=number]")
    field.fill(str(percent))
    field.press("Enter")
    page.wait_for_function(
        "before => { const images = document.querySelectorAll('#result img');"
        " return images[images.length - 1].src !== before; }",
        arg=before,
    )


def after_image(page: Any) -> str:
    return str(page.eval_on_selector_all("#result img", "i => i[i.length - 1].src"))


def open_view(page: Any, name: str) -> None:
    page.click(f"#views button[role=tab]:has-text('{name}')")


def pixels(page: Any, selector: str) -> np.ndarray[Any, Any]:
    """Return the file behind an image on the page."""
    return decode_image(page.request.get(page.get_attribute(selector, "src")).body())


@pytest.mark.browser
def test_sliders_and_views(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], photo_weights: Path
) -> None:
    before = photograph.astype(np.uint16) * 257
    write_image(tmp_path / "photo.png", before)
    upload(page, tmp_path / "photo.png")
    restore(page)
    assert "blind" in page.inner_text("#details")
    restored = Restorer(photo_weights, "cpu").restore(before)
    _, image = downloaded(page)
    np.testing.assert_array_equal(image, restored)

    details = page.inner_text("#details")
    set_strength(page, "luma", 40)
    set_strength(page, "chroma", 70)
    _, image = downloaded(page)
    expected = apply_strength(before, restored, 40, 70)
    np.testing.assert_array_equal(image, expected)
    assert page.inner_text("#details") == details  # the network has not run again
    # By keyboard as well.
    last = after_image(page)
    page.locator("#luma input[type=range]").press("ArrowRight")
    page.wait_for_function(f"() => !document.querySelector('#result').innerHTML.includes({last!r})")
    set_strength(page, "luma", 40)

    open_view(page, "Removed")
    page.wait_for_selector("#removed img")
    page.wait_for_selector("#removed:has-text('times')")
    factor = int(re.search(r"times (\d+)", page.inner_text("#removed"))[1])
    residual = np.rint(128 + factor * (before.astype(float) - expected) / 257).clip(0, 255)
    np.testing.assert_allclose(pixels(page, "#removed img"), residual, atol=1)
    page.shot("removed")

    open_view(page, "Loupe")
    page.wait_for_selector("#loupe_after img")
    box = page.locator("#loupe_map img").bounding_box()
    first = page.get_attribute("#loupe_after img", "src")
    # The upper left corner.
    page.click("#loupe_map img", position={"x": 5, "y": 5})
    page.wait_for_function(
        "first => document.querySelector('#loupe_after img').src !== first", arg=first
    )
    assert box["width"] < 300  # the overview is downscaled, the loupe is not
    for name, whole in (("before", before), ("after", expected)):
        part = pixels(page, f"#loupe_{name} img")
        assert part.shape == (2 * LOUPE, 2 * LOUPE, 3)
        np.testing.assert_array_equal(part[::2, ::2], whole[:LOUPE, :LOUPE])
        drawn = page.locator(f"#loupe_{name} img").evaluate(
            "i => [getComputedStyle(i).objectFit, getComputedStyle(i).imageRendering]"
        )
        assert drawn == ["none", "pixelated"]  # not resampled
    # The strength updates the open view.
    first = page.get_attribute("#loupe_after img", "src")
    page.locator("#luma input[type=number]").fill("0")
    page.locator("#luma input[type=number]").press("Enter")
    page.wait_for_function(
        "first => document.querySelector('#loupe_after img').src !== first", arg=first
    )
    expected = apply_strength(before, restored, 0, 70)
    part = pixels(page, "#loupe_after img")
    np.testing.assert_array_equal(part[::2, ::2], expected[:LOUPE, :LOUPE])
    page.shot("loupe")


@pytest.mark.browser
def test_sliders_before_a_result_do_nothing_and_then_count(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], photo_weights: Path
) -> None:
    page.locator("#luma input[type=number]").fill("60")
    page.locator("#luma input[type=number]").press("Enter")
    page.wait_for_timeout(1000)
    assert not page.locator(".toast-wrap :text('Error')").count()
    write_image(tmp_path / "photo.png", photograph)
    upload(page, tmp_path / "photo.png")
    restore(page)
    _, image = downloaded(page)
    restored = Restorer(photo_weights, "cpu").restore(photograph)
    np.testing.assert_array_equal(image, apply_strength(photograph, restored, 60, 100))


@pytest.mark.browser
def test_two_people_change_their_own_and_the_oldest_is_told_to_restore_again(
    page: Any,
    browser: Any,
    address: str,
    tmp_path: Path,
    photograph: np.ndarray[Any, Any],
    photo_weights: Path,
) -> None:
    others = browser.new_context(accept_downloads=True)
    other = others.new_page()
    other.set_default_timeout(60_000)
    other.goto(address)
    other.wait_for_selector("#restore:not([disabled])")
    images = {"one": photograph[:100], "two": photograph[100:, ::-1]}
    for (name, image), each in zip(images.items(), (page, other), strict=True):
        write_image(tmp_path / f"{name}.png", image)
        upload(each, tmp_path / f"{name}.png")
        each.wait_for_selector("#about:has-text('found')")
    for each in (page, other):  # at once
        each.click("#restore")
    for each in (page, other):
        each.wait_for_selector("#details:has-text(' s in total')")
    for each in (page, other):
        set_strength(each, "luma", 0)
        set_strength(each, "chroma", 0)
    for (name, image), each in zip(images.items(), (page, other), strict=True):
        file, result = downloaded(each)
        assert file == f"{name}_restored.png"
        np.testing.assert_array_equal(result, image)
    # A large result of the second visitor evicts the first one's.
    large = np.tile(photograph, (4, 1, 1))[:720]
    write_image(tmp_path / "large.png", large)
    upload(other, tmp_path / "large.png")
    other.wait_for_selector("#about:has-text('300 × 720')")
    other.click("#restore")
    other.wait_for_selector("#details:has-text('300 × 720')")
    field = page.locator("#luma input[type=number]")
    field.fill("50")
    field.press("Enter")
    page.wait_for_selector('.toast-wrap:has-text("press Restore again")')
    page.shot("forgotten")
    others.close()


@pytest.mark.browser
def test_photographs_in_the_batch_and_on_trial(
    page: Any, tmp_path: Path, photograph: np.ndarray[Any, Any], photo_weights: Path
) -> None:
    write_image(tmp_path / "a.png", photograph[:64, :64])
    open_tab(page, "Batch")
    page.set_input_files("#batch_files input[type=file]", [str(tmp_path / "a.png")])
    page.wait_for_selector("#batch_files tr:has-text('.png')")
    page.click("#batch_task label:has-text('Photo')")
    page.click("#batch")
    page.wait_for_selector("#batch_report:has-text('1 of 1 restored')")
    assert "photo_test" in page.inner_text("#batch_report")
    with page.expect_download() as waiting:
        page.click("#batch_zip a >> nth=0")
    with zipfile.ZipFile(io.BytesIO(Path(waiting.value.path()).read_bytes())) as archive:
        restored = decode_image(archive.read("a.png"))
    expected = Restorer(photo_weights, "cpu").restore(photograph[:64, :64])
    np.testing.assert_array_equal(restored, expected)

    open_tab(page, "Try it")
    page.set_input_files("#try_upload input[type=file]", str(tmp_path / "a.png"))
    page.wait_for_selector("#try_upload img")
    page.click("#try_kind label:has-text('Camera noise')")
    page.wait_for_selector("#try_level", state="hidden")
    page.click("#try")
    page.wait_for_selector("#try_table:has-text('Camera noise, 64 × 64')")
    text = page.inner_text("#try_table")
    assert "photo_test" in text and "non-local means" in text
    page.shot("try_camera")
