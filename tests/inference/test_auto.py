"""``Restorer("auto")``: the model is chosen for each image, loaded lazily, and reported."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from vheatir import Restorer
from vheatir.bundled import heldout_photographs
from vheatir.degradations import add_noise, jpeg_bytes, jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image
from vheatir.inference import AutoRestorer, Choice, estimate_noise
from vheatir.inference.restorer import describe_restoration, load_choice

CLEAN = np.ascontiguousarray(heldout_photographs()["chelsea"][:160, :192])
NOISY = np.rint(
    add_noise(CLEAN / np.float32(255), 25, np.random.default_rng(0)).clip(0, 1) * 255
).astype(np.uint8)


@pytest.fixture
def auto() -> AutoRestorer:
    restorer = Restorer("auto", "cpu")
    assert isinstance(restorer, AutoRestorer)
    return restorer


def test_modules_to_import_are_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "imported_by_auto.py").write_text("")
    monkeypatch.chdir(tmp_path)
    assert isinstance(Restorer("auto", "cpu", imports=["imported_by_auto"]), AutoRestorer)
    assert sys.modules.pop("imported_by_auto")
    with pytest.raises(VHeatIRError, match="module 'not_there' to import does not exist"):
        Restorer("auto", "cpu", imports=["not_there"])


def test_models_are_loaded_when_they_are_needed_and_kept(auto: AutoRestorer) -> None:
    loaded = []
    auto = AutoRestorer(
        device="cpu", load=lambda task: loaded.append(task) or Restorer(task, "cpu")
    )
    assert loaded == []
    for _ in range(2):
        result = auto.restore_detailed(NOISY)
    assert loaded == ["denoise_color"]
    assert result.choice is not None
    assert result.choice.model == "denoise_color"
    assert result.level == pytest.approx(25, abs=2)
    assert result.estimated


def test_the_result_is_that_of_the_model_chosen(auto: AutoRestorer) -> None:
    result = auto.restore_detailed(NOISY)
    assert result.choice is not None
    expected = Restorer("denoise_color", "cpu").restore(NOISY, result.choice.level)
    assert np.array_equal(result.image, expected)
    assert np.array_equal(auto.restore(NOISY, strength=0), NOISY)


def test_an_image_without_damage_comes_back_as_it_was(auto: AutoRestorer) -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    result = auto.restore_detailed(flat)
    assert result.choice is not None and result.choice.model is None
    assert np.array_equal(result.image, flat)
    result.image[:] = 0  # a copy, as all results
    assert flat.min() == 90
    tensor = torch.full((1, 3, 64, 64), 0.5)
    auto.restore(tensor).zero_()
    assert tensor.min() == 0.5
    with pytest.raises(VHeatIRError, match="strength"):
        auto.restore(flat, strength=999)
    with pytest.raises(VHeatIRError, match="precision 'fp16': allowed: auto, float32"):
        Restorer("auto", "cpu", precision="fp16")  # type: ignore[arg-type]


def test_a_file_tells_its_jpeg_quality(auto: AutoRestorer, tmp_path: Path) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(jpeg_bytes(CLEAN, 60))
    choice = auto.restore_detailed(path).choice
    assert choice is not None
    assert (choice.model, choice.message) == ("jpeg_color", "JPEG of quality 60")
    png = tmp_path / "x.png"
    write_image(png, jpeg_compress(CLEAN, 30))
    other = auto.restore_detailed(str(png)).choice
    assert other is not None and "blocks" in other.message


def test_tensors_and_what_is_refused(auto: AutoRestorer) -> None:
    tensor = torch.from_numpy(NOISY).permute(2, 0, 1)
    result = auto.restore(tensor)
    assert result.shape == tensor.shape and result.dtype == torch.uint8
    with pytest.raises(VHeatIRError, match="one image at a time"):
        auto.restore(torch.stack([tensor, tensor]))
    with pytest.raises(VHeatIRError, match="takes no level"):
        auto.restore(NOISY, 20)
    with pytest.raises(VHeatIRError, match="no network of its own"):
        _ = auto.network


def test_a_measured_level_becomes_one_that_the_model_takes() -> None:
    denoiser, blind = Restorer("denoise_color_small", "cpu"), Restorer("jpeg_color_small", "cpu")
    assert denoiser.nearest_level(20.0) == 20.0
    assert denoiser.nearest_level(80.0) == 55.0
    assert denoiser.nearest_level(None) is None
    assert blind.nearest_level(20.0) is None


def mixed_choice(share: float) -> Choice:
    estimate = estimate_noise(CLEAN)
    return Choice("photo", None, "found", estimate, 1.0, second="jpeg_color", share=share)


def test_two_results_are_mixed_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vheatir.inference.restorer.choose_model", lambda *_: mixed_choice(0.7))
    auto = Restorer("auto", "cpu")
    compressed = jpeg_compress(CLEAN, 70).astype(np.float32) / 255
    result = auto.restore_detailed(compressed)
    photo, jpeg = (Restorer(task, "cpu").restore(compressed) for task in ("photo", "jpeg_color"))
    inside = (np.minimum(photo, jpeg) > 0) & (np.maximum(photo, jpeg) < 1)  # clipped: not linear
    assert inside.mean() > 0.9
    assert np.abs(result.image - 0.7 * photo - 0.3 * jpeg)[inside].max() < 1e-4
    assert np.abs(photo - jpeg).max() > 0.01
    # as other results: in tiles, at another strength
    tiled = auto.restore(compressed, tile=128)
    assert np.abs(tiled - result.image).max() < 0.02
    assert np.array_equal(auto.restore(compressed, strength=0), compressed)
    assert isinstance(auto, AutoRestorer) and result.choice is not None
    restorer = auto.restorer_for(result.choice)
    assert restorer is not None
    line = describe_restoration(result, restorer, (100, 100), result.choice.message)
    assert line.startswith("found found -> 70 % photo_small_clean + 30 % jpeg_color")


def test_the_models_of_a_mixture_stay_as_they_are() -> None:
    loaded = {task: Restorer(task, "cpu") for task in ("photo", "jpeg_color")}
    before = {task: (each.name, each.network) for task, each in loaded.items()}
    mixed = load_choice(mixed_choice(0.6), loaded.__getitem__)
    assert mixed is not None and mixed not in loaded.values()
    assert {task: (each.name, each.network) for task, each in loaded.items()} == before


def test_a_model_that_takes_a_level_is_not_mixed() -> None:
    models = {"photo": "photo", "jpeg_color": "denoise_color_small"}
    restorer = load_choice(mixed_choice(0.6), lambda task: Restorer(models[task], "cpu"))
    assert restorer is not None and restorer.name == "photo_small_clean"
    models = {"photo": "denoise_color_small", "jpeg_color": "jpeg_color_small"}
    restorer = load_choice(mixed_choice(0.6), lambda task: Restorer(models[task], "cpu"))
    assert restorer is not None and restorer.name == "jpeg_color_small"
