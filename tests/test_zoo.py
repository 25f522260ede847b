"""The released models match the registry, and they restore images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import vheatir
from vheatir import zoo
from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.data.restoration_dataset import to_tensor
from vheatir.degradations import degrade_for_benchmark
from vheatir.errors import VHeatIRError
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import TASKS, get_task

NAMES = [entry.name for entry in zoo.list_models()]


#: Tasks without a released model so far.
COMING = {"photo"} - {entry.task for entry in zoo.list_models()}


def test_every_task_has_a_model():
    assert {entry.task for entry in zoo.list_models()} == set(TASKS) - COMING


def test_the_zoo_stays_small():
    assert sum(entry.path.stat().st_size for entry in zoo.list_models()) <= 48 * 2**20


@pytest.mark.parametrize("name", NAMES)
def test_a_model_is_the_one_of_its_registry_entry_and_card(name):
    entry = next(entry for entry in zoo.list_models() if entry.name == name)
    model = vheatir.load_model(name)
    assert model.sha256 == entry.sha256
    assert model.info["task"] == entry.task
    assert sum(p.numel() for p in model.network.parameters()) == entry.params
    assert entry.sha256 in entry.card.read_text(encoding="utf-8")


def test_the_registry_states_the_licence_of_the_card():
    for entry in zoo.list_models():
        card = entry.card.read_text(encoding="utf-8")
        assert ("- licence: clean licence:" in card) == entry.has_clean_licence
        assert entry.has_clean_licence or f"- licence: {entry.licence}\n" in card


@pytest.mark.parametrize("name", NAMES)
def test_a_model_restores_a_photograph_it_has_never_seen(name):
    model = vheatir.load_model(name)
    task = get_task(model.info["task"])
    clean = to_color_mode(heldout_photographs()["chelsea"], task.color)[:128, :128]
    level = task.benchmark_levels[0] if task.has_level else None
    degraded = degrade_for_benchmark(np.ascontiguousarray(clean), task, level)
    with torch.no_grad():
        y = model.network(to_tensor(degraded)[None], level if model.network.takes_level else None)[
            0
        ]
    restored = to_uint8((y[0] if clean.ndim == 2 else y.permute(1, 2, 0)).numpy())
    gain = psnr(restored, clean) - psnr(to_uint8(degraded), clean)
    assert gain > (6.0 if task.kind == "denoise" else 0.8)


def test_a_task_gives_its_first_model():
    for task in set(TASKS) - COMING:
        assert vheatir.load_model(task).path == zoo.list_models(task)[0].path


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
