"""Errors of distributed training; tests/reliability checks that it is correct."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)


def test_launcher_without_torchrun_is_told(
    tiny: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vheatir.train import main

    monkeypatch.delenv("RANK", raising=False)
    assert main([*tiny.arguments(), "--launcher", "pytorch"]) == 2
    assert "needs torchrun" in capfd.readouterr().err


def test_several_processes_of_torchrun_need_the_launcher(
    tiny: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, each of them would train alone, in the same folder."""
    from vheatir.train import main

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(tiny.arguments()) == 2
    assert "--launcher pytorch is missing" in capfd.readouterr().err
