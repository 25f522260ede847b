"""The model catalogue: headers, loading on first use, errors that name the file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from vheatir import _paths
from vheatir.archs import build_network
from vheatir.demo.models import Catalogue
from vheatir.errors import VHeatIRError
from vheatir.tasks import TASKS
from vheatir.weights import save_weights


def test_given_weights_are_listed_and_loaded(weights: dict[str, Path]) -> None:
    catalogue = Catalogue(weights.values(), "cpu")
    labels = catalogue.labels(TASKS["denoise_color"])
    assert labels[0].startswith("all_levels · sigma 0 to 55")
    assert labels[1].startswith("sigma15 · sigma 15")
    entry = catalogue.entry(labels[0])
    assert entry.takes_level and entry.level == (0, 55)
    assert not catalogue.entry(labels[1]).takes_level
    assert {TASKS["denoise_color"], TASKS["jpeg_gray"]} <= set(catalogue.tasks())
    restorer = catalogue.restorer(labels[0])
    assert restorer.level_range == (0, 55)
    assert catalogue.restorer(labels[0]) is restorer


def test_only_the_last_two_stay_in_memory(weights: dict[str, Path]) -> None:
    catalogue = Catalogue(weights.values(), "cpu")
    ours = [label for label, e in catalogue.entries.items() if e.path in weights.values()]
    first = catalogue.restorer(ours[0])
    for label in ours[1:]:
        catalogue.restorer(label)
    assert catalogue.restorer(ours[0]) is not first


def test_a_file_that_was_replaced_is_loaded_again(weights: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(weights["sigma15"].read_bytes())
    catalogue = Catalogue([path], "cpu")
    label = next(label for label, entry in catalogue.entries.items() if entry.path == path)
    first = catalogue.restorer(label)
    assert catalogue.restorer(label) is first
    os.utime(path, ns=(1, 1))
    assert catalogue.restorer(label) is not first


def test_a_missing_device_is_refused_before_a_model_is_needed() -> None:
    with pytest.raises(VHeatIRError, match="device 'no-such-device' is not available here"):
        Catalogue(device="no-such-device")


def test_the_same_file_is_listed_once(weights: dict[str, Path]) -> None:
    catalogue = Catalogue([weights["jpeg"], weights["jpeg"]], "cpu")
    assert sum(entry.path == weights["jpeg"] for entry in catalogue.entries.values()) == 1


@pytest.mark.parametrize("content", [None, b"", b"junk" * 10])
def test_bad_weights_given_by_name_are_refused(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(VHeatIRError, match=r"bad\.safetensors"):
        Catalogue([path], "cpu")


def test_the_quickstarts_weights_are_found_and_damaged_ones_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, weights: dict[str, Path]
) -> None:
    monkeypatch.setattr(_paths, "checkout_root", lambda: tmp_path)
    catalogue = Catalogue(device="cpu")
    before = set(catalogue.entries)
    folder = tmp_path / "experiments" / "quickstart" / "models"
    folder.mkdir(parents=True)
    (folder / "net_g.safetensors").write_bytes(weights["sigma15"].read_bytes())
    (folder / "half.safetensors").write_bytes(weights["sigma15"].read_bytes()[:100])
    catalogue.refresh()
    new = set(catalogue.entries) - before
    assert [catalogue.entry(label).path.name for label in new] == ["net_g.safetensors"]


def test_a_model_for_photographs_has_no_level(photo_weights: Path) -> None:
    catalogue = Catalogue([photo_weights], "cpu")
    (label,) = (each for each in catalogue.labels(TASKS["photo"]) if each.startswith("photo_test"))
    assert label.startswith("photo_test · blind · ") and label.endswith("k params")
    entry = catalogue.entry(label)
    assert entry.level is None and not entry.takes_level and entry.level_text == "blind"
    assert catalogue.first().task == TASKS["photo"]


def test_a_level_is_needed_where_the_task_has_one(tmp_path: Path) -> None:
    network = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [1], "downscale": 2})
    path = tmp_path / "none.safetensors"
    save_weights(path, network, {"task": "denoise_color", "level": None})
    with pytest.raises(VHeatIRError, match=r"none\.safetensors .* task and its level"):
        Catalogue([path], "cpu")


def test_unknown_models_are_refused() -> None:
    with pytest.raises(VHeatIRError, match="unknown model 'x'"):
        Catalogue(device="cpu").entry("x")


@pytest.mark.usefixtures("zoo_with_mini")
def test_the_heat_tab_begins_with_the_papers_network(weights: dict[str, Path]) -> None:
    catalogue = Catalogue(device="cpu")
    labels = catalogue.labels_to_explain()
    assert [label.split(" · ")[0].endswith("_mini") for label in labels[:3]] == [True, True, False]
    assert sorted(labels) == sorted(catalogue.entries)
    # and nothing else does
    assert not catalogue.first().label.startswith("denoise_color_s15_mini")
    for task in ("denoise_color", "denoise_gray"):
        assert "_mini" not in catalogue.label_for(task)
    given = Catalogue([weights["jpeg"]], "cpu")
    assert given.labels_to_explain()[0].startswith("jpeg · ")


def test_what_a_licence_restricts_is_shown(weights: dict[str, Path]) -> None:
    catalogue = Catalogue([weights["jpeg"]], "cpu")
    shown = {value.split(" · ")[0]: text for text, value in catalogue.choices(catalogue.entries)}
    assert shown["photo_small"].endswith(" · non-commercial")
    assert "non-commercial" not in shown["photo_small_clean"]
    assert "non-commercial" not in shown["jpeg"]
