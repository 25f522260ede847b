"""``vheatir export``: mistakes get one line, and leave no file behind."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from tests.export.networks import CONVOLUTIONS, tiny_model
from vheatir import cli, export
from vheatir.archs import adopt
from vheatir.errors import VHeatIRError
from vheatir.export import export_model
from vheatir.weights import save_weights


def error_of(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert cli.main(["export", *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ") and shown.err.count("\n") == 1
    return shown.err


def test_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "new" / "model.bin"
    arguments = ["photo_small_clean", "--format", "pth", "-o", str(target)]
    assert export.main(arguments) == 0
    assert capsys.readouterr().out == f"{target}: {target.stat().st_size / 1e6:.1f} MB\n"
    before = target.read_bytes()
    assert "exists: give another file, or --overwrite" in error_of(arguments, capsys)
    assert target.read_bytes() == before
    assert export.main([*arguments, "--overwrite"]) == 0
    assert [path.name for path in target.parent.iterdir()] == ["model.bin"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photo_smal", "-o", "a.pth"], "unknown model 'photo_smal': did you mean 'photo_small'?"),
        (["missing.safetensors", "-o", "a.pth"], "missing.safetensors does not exist"),
        (["photo", "-o", "a.pth", "--format", "onx"], "unknown format 'onx': did you mean 'onnx'?"),
        (["photo", "-o", "a.bin"], "a.bin does not tell the format: give --format, one of onnx"),
        (["photo", "-o", ".", "--format", "pth"], "is a folder: give a file"),
        (["photo", "-o", "a.pth", "--level", "15"], "--level and --float16 are for onnx"),
        (["photo", "-o", "a.pth", "--float16"], "--level and --float16 are for onnx"),
        (["photo", "-o", "a.pth", "--licence", "MIT"], "is known: leave --licence out"),
    ],
)
def test_mistakes(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in error_of(arguments, capsys)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_holds_no_licence(tmp_path: Path) -> None:
    with pytest.raises(VHeatIRError, match="holds no licence: leave --licence out"):
        export_model(tiny_model(CONVOLUTIONS), tmp_path / "a.pth", licence="MIT")
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / "file" / "model.pth"
    error = error_of(["photo_small_clean", "-o", str(target)], capsys)
    assert f"{target} cannot be written" in error and "choose another folder" in error


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_names_the_extra(
    missing: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if missing == "onnxscript":
        pytest.importorskip("onnx", reason="the extra onnx is not installed")
    monkeypatch.setitem(sys.modules, missing, None)
    for name in ("a.onnx", "a.dtmodel"):
        error = error_of(["photo_small_clean", "-o", str(tmp_path / name)], capsys)
        assert f"needs the package '{missing}'" in error
        assert "pip install 'vheatir[onnx]'" in error
    assert not list(tmp_path.iterdir())


class Foreign(torch.nn.Module):
    """A network of another project, in the shape of its constructor alone."""

    def __init__(self, channels: int = 3) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(channels, channels, 3, padding=1)


@pytest.mark.usefixtures("only_own_networks")
def test_a_foreign_network_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    adopt("HAT", Foreign)
    model = tiny_model({"type": "HAT"})
    path = save_weights(tmp_path / "hat.safetensors", model.network, model.info)
    error = error_of([str(path), "-o", str(tmp_path / "a.pth")], capsys)
    assert "holds the network 'HAT', which is not part of vHeatIR" in error
    with pytest.raises(VHeatIRError, match="not part of vHeatIR"):
        export_model(model, tmp_path / "a.pth")


def test_a_mixer_that_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    model = tiny_model({"type": "VHeatIR", "embed_dim": 12, "depths": [1], "mixer": "attention"})
    with pytest.raises(VHeatIRError, match="mixer 'attention', which cannot be exported"):
        export_model(model, tmp_path / "a.onnx", "pth")
