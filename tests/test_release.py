"""tools/release.py: what it adds to a zoo, and the cards it writes."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

from tools import release
from vheatir import zoo
from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.weights import save_weights

TRAINING = {
    "iterations": 30_000, "samples": 240_000, "minutes": 301.26, "seed": 0,
    "processor_hours": 4.912, "pixels": 1_597_440_000,
}  # fmt: skip
FACTS = {"data": "609 photographs", "licence": "clean licence: all of them"}


@pytest.fixture
def own_zoo(zoo_with_mini: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(release, "FOLDER", zoo_with_mini)
    monkeypatch.setattr(release, "REGISTRY", zoo_with_mini / "registry.json")
    monkeypatch.setattr(release, "CURVES", zoo_with_mini)
    return zoo_with_mini


def add(tmp_path: Path, name: str, config: dict, level: object, is_default: bool = False) -> None:
    torch.manual_seed(0)
    network = build_network({"in_chans": 1, "downscale": 2, **config})
    info = {"name": "a_run", "task": "jpeg_gray", "level": level, "training": TRAINING}
    weights = save_weights(tmp_path / "trained.safetensors", network, info)
    (tmp_path / "history.json").write_text(json.dumps({"losses": [], "scores": []}))
    (tmp_path / "facts.yml").write_text(yaml.safe_dump(FACTS))
    release.add_model(
        argparse.Namespace(
            weights=weights, history=tmp_path / "history.json", facts=tmp_path / "facts.yml",
            default=is_default, name=name,
        )
    )  # fmt: skip


def test_the_papers_network_is_added_with_its_level(own_zoo: Path, tmp_path: Path) -> None:
    add(tmp_path, "jpeg_gray_q40_mini", {"type": "VHeatIR", "embed_dim": 8, "depths": [1]}, 40.0)
    (entry,) = (m for m in zoo.list_models() if m.name == "jpeg_gray_q40_mini")
    assert (entry.network, entry.level, entry.commercial_use) == ("VHeatIR", 40.0, True)
    assert zoo.list_models("jpeg_gray")[-1] == entry
    assert zoo.load_model("jpeg_gray_q40_mini").sha256 == entry.sha256

    record = {"task": "jpeg_gray", "dataset": "LIVE1", "level": 40, "psnr": 33.96, "ssim": 0.95}
    records = [{**record, "method": entry.label}, {**record, "method": "degraded", "psnr": 31.0}]
    (tmp_path / "benchmark.json").write_text(json.dumps(records))
    release.write_cards(argparse.Namespace(results=[tmp_path / "benchmark.json"]))
    card = entry.card.read_text()
    assert "quality 40; 0.0" in card and "| LIVE1 | 40 | 31.00 | 33.96 | 0.9500 |" in card
    assert "1.60 gigapixels, 4.9 processor hours (301.3 minutes), seed 0" in card
    assert "- data: 609 photographs\n" in card and "- commercial use: yes\n" in card


def test_a_default_comes_before_the_other_models_of_its_task(own_zoo: Path, tmp_path: Path) -> None:
    shape = {"type": "VHeatIRUNet", "channels": [8], "depths": [1], "mixers": ["conv"]}
    before = zoo.load_model("jpeg_gray").name
    add(tmp_path, "jpeg_gray_small_clean", shape, [5.0, 95.0])
    assert zoo.load_model("jpeg_gray").name == before
    add(tmp_path, "jpeg_gray_small_clean", shape, [5.0, 95.0], is_default=True)
    assert zoo.load_model("jpeg_gray").name == "jpeg_gray_small_clean"
    assert zoo.load_model("jpeg_gray_nc").name == before
    assert len({m.name for m in zoo.list_models()}) == len(zoo.list_models())


def test_a_refused_release_leaves_the_zoo_as_it_was(
    own_zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"type": "VHeatIRUNet", "channels": [8], "depths": [1], "mixers": ["conv"]}
    before = {path.name: path.read_bytes() for path in own_zoo.iterdir() if path.is_file()}
    monkeypatch.setattr(release, "LARGEST_LOSS_DB", -1)
    with pytest.raises(VHeatIRError, match="store it in float32"):
        add(tmp_path, "jpeg_gray_small", shape, [5.0, 95.0])
    assert {path.name: path.read_bytes() for path in own_zoo.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("level", [None, 15.0])
def test_a_larger_model_is_no_default_unless_it_is_made_one(level: float | None) -> None:
    models = zoo.list_models()
    larger = replace(models[0], name="larger", params=10**9, level=level)
    first = next(m for m in models if m.task == larger.task)
    own = [m for m in release.with_entry(models, larger, False) if m.task == larger.task]
    assert own[0] == first and larger in own
    if level is None:
        assert own[1] == larger
        assert larger in [m for m in release.with_entry(models, larger, True)][:1]


def test_the_others_keep_their_places() -> None:
    models = zoo.list_models()
    changed = replace(models[3], params=1)
    assert [m.name for m in release.with_entry(models, changed, False)] == [m.name for m in models]


def test_weights_without_a_licence_are_refused(own_zoo: Path, tmp_path: Path) -> None:
    facts = tmp_path / "facts.yml"
    facts.write_text("data: photographs\n")
    with pytest.raises(VHeatIRError, match="names no licence"):
        release.add_model(argparse.Namespace(facts=facts))


@pytest.mark.parametrize(
    ("facts", "history", "expected"),
    [
        (None, "{}", "facts.yml cannot be read"),
        ("licence\n", "{}", "facts.yml has no facts"),
        ("licence: [CC0]\n", "{}", "names no licence"),
        ("licence: [\n", "{}", "not valid YAML"),
        ("licence: CC0\n", None, "history.json cannot be read"),
        ("licence: CC0\n", "{", "history.json is not valid JSON"),
        ("licence: CC0\n", "{}", "none.safetensors"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    facts: str | None,
    history: str | None,
    expected: str,
) -> None:
    for name, text in (("facts.yml", facts), ("history.json", history)):
        if text is not None:
            (tmp_path / name).write_text(text)
    files = [f"--history={tmp_path}/history.json", f"--facts={tmp_path}/facts.yml"]
    arguments = ["release.py", "add", str(tmp_path / "none.safetensors"), *files]
    monkeypatch.setattr("sys.argv", arguments)
    assert release.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and expected in line
