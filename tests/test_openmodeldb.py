"""Entries of OpenModelDB for the released models, by the rules of its schema and validator."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

from tools.openmodeldb import main
from vheatir.zoo import list_models

URL = "https://models.invalid/vheatir"
LISTS: dict[str, Any] = {
    "architectures": {"atd": {"name": "ATD", "input": "image", "compatiblePlatforms": ["onnx"]}},
    "users": {"alsa": {"name": "Alsa"}, "zach": {"name": "Zäch"}},
    "tags": {
        "photo": {"name": "Photo", "description": ""},
        "arch:atd": {"name": "ATD", "description": ""},
        "scale:1": {"name": "1x", "description": ""},
    },
    "tag-categories": {"architecture": {"name": "Architecture", "tags": ["arch:atd"]}},
}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    (tmp_path / "data" / "models").mkdir(parents=True)
    for name, content in LISTS.items():
        (tmp_path / "data" / f"{name}.json").write_text(json.dumps(content), "utf-8")
    return tmp_path


def read(checkout: Path, name: str) -> Any:
    text = (checkout / "data" / f"{name}.json").read_text("utf-8")
    content = json.loads(text)
    assert text == json.dumps(content, indent=4, ensure_ascii=False)  # as JSON.stringify writes it
    return content


def test_one_entry_per_model(checkout: Path, tmp_path: Path) -> None:
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "photo_small_clean.onnx").write_bytes(b"graph")
    command = [str(checkout), "--base-url", URL + "/", "--date", "2026-03-01"]
    assert main([*command, "--exported", str(exported)]) == 0
    written = {path.stem for path in (checkout / "data" / "models").iterdir()}
    models = list_models()
    assert written == {f"1x-vHeatIR-{entry.name.replace('_', '-')}" for entry in models}
    for entry in models:
        name = f"1x-vHeatIR-{entry.name.replace('_', '-')}"
        assert re.fullmatch(r"\d+x-[a-zA-Z0-9]+(?:-[a-zA-Z0-9]+)*", name)
        content = read(checkout, f"models/{name}")
        channels = 1 if "gray" in entry.name else 3
        assert content["inputChannels"] == content["outputChannels"] == channels
        assert (content["author"], content["architecture"]) == ("the-vheatir-authors", "vheatir")
        assert content["date"] == "2026-03-01" and content["scale"] == 1
        assert content["size"] == [s for s in ("mini", "small", "medium") if s in entry.name] != []
        assert content["license"] == ("Apache-2.0" if entry.commercial_use else None)
        assert entry.licence in content["description"]
        assert content["description"] == content["description"].strip()
        own, *others = content["resources"]
        assert own["sha256"] == hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256
        assert own["size"] == entry.path.stat().st_size
        assert own["urls"] == [f"{URL}/{entry.path.name}"]
        assert [resource["type"] for resource in others] == ["onnx"] * (
            entry.name == "photo_small_clean"
        )


@pytest.mark.parametrize(
    ("name", "said", "unsaid"),
    [
        ("denoise_color_small", "sigma is an input", "alone"),
        ("denoise_gray_s15_mini", "sigma 15 from gray images. For this sigma alone.", "an input"),
        ("jpeg_color_small", "finds the quality itself", "alone"),
        ("jpeg_gray_q40_mini", "For this quality alone.", "finds the quality"),
        ("photo_small_clean", "A U-shaped network of 0.84 M parameters", "attention"),
        ("denoise_color_s15_mini", "in which heat conduction takes the place", "U-shaped"),
    ],
)
def test_the_description_fits_the_model(checkout: Path, name: str, said: str, unsaid: str) -> None:
    assert main([str(checkout), "--base-url", URL]) == 0
    description = read(checkout, f"models/1x-vHeatIR-{name.replace('_', '-')}")["description"]
    assert said in description and unsaid not in description


def test_the_lists_are_extended_once(checkout: Path) -> None:
    for _ in range(2):
        assert main([str(checkout), "--base-url", URL]) == 0
    assert list(read(checkout, "architectures")) == ["atd", "vheatir"]
    assert read(checkout, "users") == {
        **LISTS["users"],
        "the-vheatir-authors": {"name": "the vHeatIR authors"},
    }
    assert list(read(checkout, "tags")) == ["photo", "arch:atd", "arch:vheatir", "scale:1"]
    assert read(checkout, "tag-categories")["architecture"]["tags"] == ["arch:atd", "arch:vheatir"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--base-url", "models.invalid"], "give an address with https://"),
        (["--base-url", URL, "--date", "today"], "give year-month-day"),
        (["--base-url", URL, "--exported", "missing"], "there is no such folder"),
    ],
)
def test_mistakes(
    checkout: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(checkout), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not list((checkout / "data" / "models").iterdir())


def test_another_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path), "--base-url", URL]) == 2
    assert "is not a checkout of OpenModelDB" in capsys.readouterr().err
