"""``Restorer("auto")``: the model is chosen for each image, loaded lazily, and reported."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, features

from studies.automatic.table import resized
from tests.inference.test_choose import PHOTOGRAPHS, noisy, photographed
from vheatir import Restorer
from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import add_noise, jpeg_bytes, jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image
from vheatir.inference import AutoRestorer, Choice, choose_model, estimate_noise
from vheatir.inference.restorer import compare_models, describe_restoration, load_choice
from vheatir.metrics import psnr

CLEAN = np.ascontiguousarray(heldout_photographs()["chelsea"][:160, :192])
# Two models are compared on nine crops of 128 x 128: parts are quicker.
PARTS = {name: np.ascontiguousarray(image[64:256, 64:256]) for name, image in PHOTOGRAPHS.items()}
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
    with Image.open(path) as opened:  # with the file's tables
        same = auto.restore_detailed(opened)
    assert same.choice == choice
    assert np.array_equal(np.asarray(same.image), auto.restore(path))
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
    assert not hasattr(auto, "network")


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
    candidates = replace(mixed_choice(0.5), model="jpeg_color", second="photo", share=None)
    for photo, jpeg, expected in (
        ("photo", "denoise_color_small", "photo_small_clean"),
        ("denoise_color_small", "jpeg_color_small", "jpeg_color_small"),
    ):
        models = {"photo": Restorer(photo, "cpu"), "jpeg_color": Restorer(jpeg, "cpu")}
        final = compare_models(candidates, models.__getitem__, CLEAN)
        restorer = load_choice(final, models.__getitem__)
        assert (final.second, final.share) == (None, 1)
        assert restorer is not None and restorer.name == expected


def share_of_photo(choice: Choice) -> float:
    assert choice.share is not None
    shares = {choice.model: choice.share, choice.second: 1 - choice.share}
    return shares.get("photo", 0.0)


@pytest.mark.parametrize("name", PARTS)
def test_strong_camera_noise_under_weak_jpeg_is_for_the_photo_model(
    name: str, auto: AutoRestorer
) -> None:
    for seed in range(3):
        damaged = photographed(PARTS[name], 6.0, seed)
        assert auto.choose(jpeg_compress(damaged, 92), 92)[0].model == "photo"


@pytest.mark.parametrize("name", PARTS)
def test_no_model_alone_is_much_better(name: str, auto: AutoRestorer) -> None:
    clean = PARTS[name]
    for strength, quality in ((0.0, 20), (4.0, 85)):
        damaged = photographed(clean, strength) if strength else clean
        compressed = jpeg_compress(damaged, quality)
        choice, chosen, _ = auto.choose(compressed, quality)
        assert chosen is not None
        tried = [auto.restorer(task).restore(compressed) for task in ("photo", "jpeg_color")]
        best = max(psnr(each, clean) for each in tried)
        assert psnr(chosen.restore(compressed), clean) > best - 0.5, (strength, quality, choice)


@pytest.mark.parametrize(
    ("name", "mode"),
    # without the rocket, whose sky becomes flat
    [*((name, "rgb") for name in sorted(PHOTOGRAPHS.keys() - {"rocket"})), ("coffee", "gray")],
)
def test_compression_is_found_by_the_result_after_resizing(
    name: str, mode: str, auto: AutoRestorer
) -> None:
    image = np.ascontiguousarray(to_color_mode(PHOTOGRAPHS[name], mode)[:128, :128])
    case = resized(1.5, 30)(image, np.random.default_rng(0))
    clean, damaged = case.clean, case.damaged
    choice, chosen, _ = auto.choose(damaged)
    assert choice.message.startswith("compression artifacts") and choice.if_compressed is None
    assert chosen is not None
    assert psnr(chosen.restore(damaged), clean) > psnr(damaged, clean) + 0.4
    other = auto.choose(clean)[0]
    assert other.model in (None, "photo") and "compression" not in other.message
    assert other.if_compressed is None


def test_without_a_jpeg_model_that_can_be_compared_compression_is_not_looked_for() -> None:
    models = {task: Restorer("denoise_color_small", "cpu") for task in ("photo", "jpeg_color")}
    found = choose_model(CLEAN)
    assert found.if_compressed is not None
    expected = replace(found, if_compressed=None)
    assert compare_models(found, models.__getitem__, CLEAN) == expected
    assert compare_models(found, Restorer, CLEAN[:12]) == expected


def test_a_lossy_webp_or_avif_file_is_restored_as_compressed(
    auto: AutoRestorer, tmp_path: Path
) -> None:
    clean = np.ascontiguousarray(PHOTOGRAPHS["coffee"][:192, :192])
    for suffix, options, compressed in (
        ("webp", {"quality": 40}, True),
        ("webp", {"lossless": True}, False),
        ("avif", {"quality": 40}, True),
    ):
        if suffix == "avif" and not features.check("avif"):
            continue
        path = tmp_path / f"photo.{suffix}"
        Image.fromarray(clean).save(path, **options)
        result = auto.restore_detailed(path)
        assert result.choice is not None
        assert ("compression" in result.choice.message) == compressed
        if compressed:
            with Image.open(path) as opened:
                before = np.asarray(opened.convert("RGB"))
            assert psnr(result.image, clean) > psnr(before, clean) + 0.3


def test_strong_noise_on_texture_is_removed_as_by_the_photo_model(auto: AutoRestorer) -> None:
    clean = PHOTOGRAPHS["coffee"]
    compressed = jpeg_compress(photographed(clean, 6.0), 85)
    _, chosen, _ = auto.choose(compressed, 85)
    assert chosen is not None
    photo, jpeg = (
        psnr(auto.restorer(task).restore(compressed), clean) for task in ("photo", "jpeg_color")
    )
    assert photo > jpeg + 2
    assert psnr(chosen.restore(compressed), clean) > photo - 0.1


@pytest.mark.parametrize("mode", ["gray", "rgb"])
@pytest.mark.parametrize("name", PARTS)
def test_clean_jpeg_is_for_the_jpeg_model(name: str, mode: str, auto: AutoRestorer) -> None:
    image = to_color_mode(PARTS[name], mode)
    choice = auto.choose(jpeg_compress(image, 85), 85)[0]
    model = f"jpeg_{'gray' if mode == 'gray' else 'color'}"
    assert (choice.model, choice.message) == (model, "JPEG of quality 85")
    assert choice.share is not None and choice.share > 0.65


def test_the_more_noise_under_jpeg_the_larger_the_share_of_the_photo_model(
    auto: AutoRestorer,
) -> None:
    choices = []
    image = PARTS["coffee"]
    for strength in (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 6.0):
        damaged = photographed(image, strength) if strength else image
        choices.append(auto.choose(jpeg_compress(damaged, 85), 85)[0])
    shares = [share_of_photo(choice) for choice in choices]
    assert shares == sorted(shares)
    assert shares[0] < 0.3 and shares[-1] > 0.75
    mixed = [choice for choice in choices if choice.second is not None]
    assert mixed
    assert all(choice.share == 1 for choice in choices if choice.second is None)
    for choice in mixed:
        assert {choice.model, choice.second} == {"jpeg_color", "photo"}
        assert choice.share is not None and 0.5 <= choice.share < 1
        noise = f", noise ({choice.estimate})" if choice.model == "photo" else ""
        assert choice.message == f"JPEG of quality 85{noise}"


def test_weak_noise_under_jpeg_is_removed_better_than_by_either_model(auto: AutoRestorer) -> None:
    for scale in (1, 3):  # sharp, and as soft as a camera's file at 100 %
        clean = np.asarray(cv2.resize(PHOTOGRAPHS["chelsea"], None, fx=scale, fy=scale))
        middle = [slice(n // 2 - 128, n // 2 + 128) for n in clean.shape[:2]]
        clean = np.ascontiguousarray(clean[tuple(middle)])
        compressed = jpeg_compress(photographed(clean, 2.5), 85)
        both = [auto.restorer(task).restore(compressed) for task in ("photo", "jpeg_color")]
        _, chosen, _ = auto.choose(compressed, 85)
        assert chosen is not None
        assert psnr(chosen.restore(compressed), clean) > max(psnr(each, clean) for each in both)


def test_gray_images_are_mixed_too(auto: AutoRestorer) -> None:
    image = to_color_mode(PHOTOGRAPHS["coffee"], "gray")
    damaged = [photographed(image, strength) for strength in (1.5, 6.0)]
    compressed = [jpeg_compress(each, 85) for each in (image, *damaged)]
    choices = [auto.choose(each, 85)[0] for each in compressed]
    shares = [share_of_photo(choice) for choice in choices]
    assert shares == sorted(shares)
    assert shares[-1] > 0.5
    mixed = next(index for index, choice in enumerate(choices) if choice.second is not None)
    share = shares[mixed]
    pixels = compressed[mixed].astype(np.float32) / 255
    photo, jpeg = (Restorer(task, "cpu").restore(pixels) for task in ("photo", "jpeg_gray"))
    for stored in (pixels, np.stack([pixels] * 3, 2)):
        result = auto.restore(stored)
        assert result.shape == stored.shape
        expected = share * photo + (1 - share) * jpeg
        difference = result - (expected if stored.ndim == 2 else expected[..., None])
        assert np.abs(difference).max() < 0.02  # the floats have no known quality, nor rounding
        assert np.abs(difference).mean() < 2e-3


def test_noise_that_jpeg_has_changed_is_for_the_photo_model(auto: AutoRestorer) -> None:
    for image in PARTS.values():
        assert auto.choose(jpeg_compress(noisy(image, 25), 75), 75)[0].model == "photo"


def test_depth_and_alpha_do_not_change_the_shares_and_large_images_are_sampled(
    auto: AutoRestorer,
) -> None:
    image = jpeg_compress(photographed(PHOTOGRAPHS["coffee"], 3.0), 85)[:256, :256]
    expected = auto.choose(image, 85)[0]
    assert expected.second is not None
    deep = image.astype(np.uint16) * 257
    for same in (deep, image / np.float32(255), np.dstack([image, image[..., 0]])):
        found = auto.choose(same, 85)[0]
        assert (found.model, found.second) == (expected.model, expected.second)
        assert found.share == pytest.approx(expected.share, abs=1e-3)
    # 128 divides the distances of the crops: nine times the same.
    tile = np.ascontiguousarray(image[:128, :128])
    large = np.tile(tile, (5, 5, 1))
    whole, sampled = (share_of_photo(auto.choose(each, 85)[0]) for each in (tile, large))
    assert sampled == pytest.approx(whole, abs=0.15)


@pytest.mark.parametrize("shape", [(8, 40, 3), (15, 300), (33, 20, 3)])
def test_small_compressed_images_are_restored(shape: tuple[int, ...], auto: AutoRestorer) -> None:
    image = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    assert auto.choose(image, 50)[0].model is not None
    assert auto.restore(image).shape == shape
