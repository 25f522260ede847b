"""The released models match the registry, and they restore images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vheatir
from vheatir import cli, zoo
from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.data.restoration_dataset import to_tensor
from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.inference import AutoRestorer
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import TASKS, get_task
from vheatir.weights import level_range
from vheatir.zoo import listing

NAMES = [entry.name for entry in zoo.list_models()]


def test_every_task_has_a_model():
    assert {entry.task for entry in zoo.list_models()} == set(TASKS)


def test_the_zoo_stays_small():
    assert sum(entry.path.stat().st_size for entry in zoo.list_models()) <= 72 * 10**6


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_the_one_of_its_registry_entry_and_card(name):
    entry = next(entry for entry in zoo.list_models() if entry.name == name)
    model = vheatir.load_model(name)
    assert model.sha256 == entry.sha256
    assert model.info["task"] == entry.task
    assert vheatir.archs.network_config(model.network)["type"] == entry.network
    low, high = level_range(model.info) or (None, 0)
    assert entry.level == (low if low == high else None)
    assert sum(p.numel() for p in model.network.parameters()) == entry.params
    assert entry.sha256 in entry.card.read_text(encoding="utf-8")


def test_the_registry_states_the_licence_of_the_card():
    for entry in zoo.list_models():
        card = entry.card.read_text(encoding="utf-8")
        assert ("- licence: clean licence:" in card) == entry.commercial_use
        assert (entry.licence == zoo.CLEAN_LICENCE) == entry.commercial_use
        assert entry.commercial_use or f"- licence: {entry.licence}\n" in card


@pytest.mark.parametrize("name", NAMES)
def test_a_model_restores_a_photograph_it_has_never_seen(name):
    model = vheatir.load_model(name)
    task = get_task(model.info["task"])
    clean = to_color_mode(heldout_photographs()["chelsea"], task.color)[:128, :128]
    single = next(entry.level for entry in zoo.list_models() if entry.name == name)
    level = (single or task.benchmark_levels[0]) if task.has_level else None
    degraded = degrade_for_benchmark(np.ascontiguousarray(clean), task, level)
    with torch.no_grad():
        y = model.network(to_tensor(degraded)[None], level if model.network.takes_level else None)[
            0
        ]
    restored = to_uint8((y[0] if clean.ndim == 2 else y.permute(1, 2, 0)).numpy())
    gain = psnr(restored, clean) - psnr(to_uint8(degraded), clean)
    assert gain > (6.0 if task.kind == "denoise" else 0.8)


def test_a_task_gives_its_first_model():
    for task in set(TASKS):
        assert vheatir.load_model(task).path == zoo.list_models(task)[0].path


@pytest.mark.usefixtures("zoo_with_mini")
def test_nothing_takes_a_model_for_one_level_unasked() -> None:
    assert [entry.level for entry in zoo.list_models()[-2:]] == [15.0, 15.0]
    for task in ("denoise_gray", "denoise_color"):
        assert vheatir.load_model(task).name.endswith("_medium")
        assert vheatir.load_model(f"{task}_s15_mini").info["level"] == 15.0
    noisy = heldout_photographs()["chelsea"][:96, :96] / 255.0
    noisy = noisy + np.random.default_rng(0).normal(0, 15 / 255, noisy.shape)
    _, restorer, level = AutoRestorer("cpu").choose(noisy.clip(0, 1).astype(np.float32))
    assert restorer is not None and restorer.name == "denoise_color_medium"
    assert level == pytest.approx(15, abs=3)


def test_nc_names_the_best_model_that_is_not_for_commercial_use(
    zoo_with_mini: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert vheatir.load_model("photo").name == "photo_small_clean"
    assert vheatir.load_model("photo_nc").name == "photo_small"
    # while the default is not for commercial use, both are the same
    registry = zoo_with_mini / "registry.json"
    entries = json.loads(registry.read_text())
    registry.write_text(json.dumps(entries[::-1]))
    assert vheatir.load_model("photo").name == vheatir.load_model("photo_nc").name == "photo_small"


def test_every_list_of_models_says_who_may_use_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for entry in zoo.list_models():
        (line,) = (each for each in lines if each.split()[:1] == [entry.name])
        assert entry.licence in line
        assert (" yes " in line, " no " in line) == (entry.commercial_use, not entry.commercial_use)
        assert f"| {entry.name} | {entry.task} | " in listing.markdown()
    assert cli.main(["models", "photo"]) == 0
    assert "denoise" not in capsys.readouterr().out
    assert cli.main(["models", "foto"]) == 2


def test_an_unknown_name_suggests_the_nearest():
    with pytest.raises(VHeatIRError, match="denoise_color"):
        vheatir.load_model("denoise_colour")


def test_damaged_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    entry = zoo.list_models()[0]
    data = bytearray(entry.path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / entry.path.name).write_bytes(data)
    registry = tmp_path / "registry.json"
    registry.write_text(json.dumps([vars(entry)]))
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    monkeypatch.setattr(zoo, "REGISTRY", registry)
    with pytest.raises(VHeatIRError, match="damaged"):
        vheatir.load_model(entry.name)
    (tmp_path / entry.path.name).unlink()
    with pytest.raises(VHeatIRError, match="reinstall"):
        vheatir.load_model(entry.name)
