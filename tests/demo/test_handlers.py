"""The handlers of the Restore tab, without a browser."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vheatir.image_io import read_image, write_image

pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

from vheatir.demo import Settings
from vheatir.demo.handlers import AUTOMATIC, Handlers
from vheatir.demo.models import Catalogue
from vheatir.demo.panel import ResultPanel
from vheatir.demo.uploads import Choices
from vheatir.inference import AutoRestorer, choose, choose_model
from vheatir.inference.files import Photograph


@pytest.fixture
def estimates(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Return a list that grows by the shape of each image whose noise is estimated."""
    seen: list[tuple[int, ...]] = []
    real = choose.estimate_noise

    def counted(image: np.ndarray[Any, Any]) -> Any:
        seen.append(image.shape)
        return real(image)

    monkeypatch.setattr(choose, "estimate_noise", counted)
    return seen


def test_an_upload_is_estimated_once(
    estimates: list[tuple[int, ...]],
    photograph: np.ndarray[Any, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = Settings(device="cpu")
    handlers = Handlers(Catalogue(device="cpu"), settings.max_pixels, ResultPanel(settings))
    upload = tmp_path / "photo.png"
    write_image(upload, photograph)
    _, about, _ = handlers.inspect(str(upload), AUTOMATIC, True)
    (before, _), details, _ = handlers.restore(str(upload), AUTOMATIC)
    assert estimates == [photograph.shape]
    found = f"found {choose_model(photograph).message}"
    assert found in about and found in details
    np.testing.assert_array_equal(read_image(before), photograph)


@pytest.mark.parametrize("noisy", [True, False])
def test_the_result_keeps_the_metadata_of_the_upload(
    weights: dict[str, Path], photograph: np.ndarray[Any, Any], tmp_path: Path, noisy: bool
) -> None:
    exif = Image.Exif()
    exif[271] = "a camera"  # the manufacturer
    upload = tmp_path / "photo.jpg"
    pixels = photograph[:64, :64] if noisy else np.full((64, 64, 3), 90, np.uint8)
    Image.fromarray(pixels).save(upload, exif=exif, dpi=(300, 300), quality=100)
    catalogue, settings = Catalogue([weights["sigma15"]], "cpu"), Settings(device="cpu")
    handlers = Handlers(catalogue, settings.max_pixels, ResultPanel(settings))
    label = catalogue.first().label if noisy else AUTOMATIC
    (_, after), details, _ = handlers.restore(str(upload), label)
    assert ("left unchanged" in details) != noisy
    with Image.open(after) as image:
        assert image.getexif()[271] == "a camera" and round(image.info["dpi"][0]) == 300


def test_other_files_and_changed_ones_are_estimated_anew(
    estimates: list[tuple[int, ...]], photograph: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    choices = Choices()
    mine, other = tmp_path / "mine.png", tmp_path / "other.png"
    parts = photograph[:64], photograph[:64, :80]
    for path, image in ((mine, parts[0]), (other, parts[1])):
        write_image(path, image)
        photo = Photograph(image, "PNG")
        assert choices.choose(path, photo) == choices.choose(path, photo) == choose_model(image)
    estimates.clear()
    write_image(mine, parts[1])
    os.utime(mine, ns=(0, 0))
    photo = Photograph(parts[1], "PNG")
    assert choices.choose(mine, photo) == choices.choose(other, photo)
    assert estimates == [parts[1].shape]


def test_choices_are_bounded_and_survive_a_deleted_file(
    photograph: np.ndarray[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vheatir.demo import uploads

    monkeypatch.setattr(uploads, "_MOST_CHOICES", 3)
    choices, photo = Choices(), Photograph(photograph[:64, :64], "PNG")
    for number in range(5):
        path = tmp_path / f"{number}.png"
        path.touch()
        choices.choose(path, photo)
        assert len(choices._found) <= 3
    path.unlink()
    assert choices.choose(path, photo) == choose_model(photo.pixels)


def test_two_models_mixed_are_named_with_the_time_of_both(
    photograph: np.ndarray[Any, Any], tmp_path: Path
) -> None:
    settings = Settings(device="cpu")
    catalogue = Catalogue(device="cpu")
    handlers = Handlers(catalogue, settings.max_pixels, ResultPanel(settings))
    chosen = choose_model(photograph)
    mixed = replace(chosen, model="photo", level=None, second="jpeg_color", share=0.75)
    handlers.choices.choose = lambda *_: mixed  # type: ignore[method-assign]
    upload = tmp_path / "photo.png"
    write_image(upload, photograph)
    _, about, _ = handlers.inspect(str(upload), AUTOMATIC, True)
    labels = [catalogue.label_for(task) for task in ("photo", "jpeg_color")]
    seconds = sum(
        catalogue.expected_seconds(label, photograph.shape[0] * photograph.shape[1])
        for label in labels
    )
    names = [label.split(" · ")[0] for label in labels]
    assert about.endswith(f"about {max(seconds, 0.1):.1f} s with {names[0]} and {names[1]}")
    (_, after), details, _ = handlers.restore(str(upload), AUTOMATIC)
    assert f"-> 75 % {names[0]} + 25 % {names[1]} · " in details
    expected = AutoRestorer(load=catalogue.for_task).restorer_for(mixed)
    assert expected is not None
    np.testing.assert_array_equal(read_image(after), expected.restore(photograph))
