from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest

import vheatir
from vheatir import cli
from vheatir.errors import VHeatIRError


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"vheatir {vheatir.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["-h"], ["--help"]])
def test_help_names_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 0
    shown = capsys.readouterr().out
    assert all(f"  {name} " in shown for name in cli._COMMANDS)


def test_a_typo_names_the_nearest_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["tran"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: unknown command 'tran': did you mean 'train'?")
    assert error.count("\n") == 1


def test_arguments_reach_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []
    module = ModuleType("vheatir.train")
    module.main = lambda argv: seen.append(argv)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vheatir.train", module)
    assert cli.main(["train", "-opt", "a.yml", "--help"]) == 0
    assert seen == [["-opt", "a.yml", "--help"]]


def test_user_errors_end_with_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> None:
        raise VHeatIRError("no such folder")

    module = ModuleType("vheatir.test")
    module.main = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vheatir.test", module)
    assert cli.main(["test"]) == 2
    assert capsys.readouterr().err == "error: no such folder\n"


def test_files_that_cannot_be_written_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")

    def write() -> None:
        (tmp_path / "file" / "figure.png").write_bytes(b"")

    assert cli.run_entry_point(write, "") == 2
    said = capsys.readouterr().err
    assert said.startswith(f"error: {tmp_path / 'file' / 'figure.png'} cannot be read or written (")
    assert said.count("\n") == 1

    def break_off() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):  # not about a file
        cli.run_entry_point(break_off, "")


def test_a_missing_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(argv: list[str]) -> None:
        raise ModuleNotFoundError("No module named 'gradio'", name="gradio")

    module = ModuleType("vheatir.demo")
    module.main = fail  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vheatir.demo", module)
    assert cli.main(["demo"]) == 2
    assert "pip install 'vheatir[app]'" in capsys.readouterr().err


@pytest.mark.parametrize("command", sorted(cli._COMMANDS))
def test_every_command_exists(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        cli.main([command, "--help"])
    assert leave.value.code == 0
    assert "usage" in capsys.readouterr().out.lower()
