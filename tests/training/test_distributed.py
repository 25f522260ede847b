"""Two processes with gloo, through the real torchrun, against one with twice the batch."""

from __future__ import annotations

import importlib.util
import json
import signal
import sys
from typing import Any

import numpy as np
import pytest
import torch

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)

FORCE = ("train:total_iter=40", "logger:save_checkpoint_freq=10")


def torchrun(tiny: Any, *force: str, root: str, resume: bool = False) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        *tiny.command(*FORCE, *force, root=root, resume=resume)[1:], "--launcher", "pytorch",
    ]  # fmt: skip


@pytest.mark.parametrize("on_device", [False, True])
def test_two_processes_equal_one_with_twice_the_batch(
    tiny: Any, helpers: Any, on_device: bool
) -> None:
    device = f"train:data_on_device={str(on_device).lower()}"
    result = helpers.finish(torchrun(tiny, device, root="two"), tiny.folder)
    assert result.returncode == 0, result.stderr
    torch.set_num_threads(1)
    one = ("datasets:train:batch_size_per_gpu=4", device)
    assert tiny.run(*FORCE, *one, root="one") == 0
    curves = [
        np.array(json.loads((tiny.experiment(root) / "results/history.json").read_text())["losses"])
        for root in ("one", "two")
    ]
    assert np.array_equal(curves[0][:, 0], np.arange(1, 41))
    assert np.allclose(curves[0][:, 2], curves[1][:, 2], rtol=1e-4)
    states = [tiny.state(40, root) for root in ("one", "two")]
    assert states[0]["samples_seen"] == states[1]["samples_seen"] == 160
    for name, weight in states[0]["model"]["network"].items():
        assert torch.allclose(weight, states[1]["model"]["network"][name], atol=2e-4), name
    # only one process writes: nothing is there twice, nothing is set aside
    for root in ("one", "two"):
        saved = sorted(path.name for path in tiny.experiment(root).rglob("*.state"))
        assert saved == ["10.state", "20.state", "30.state", "40.state"]
    (log,) = tiny.experiment("two").glob("*.log")
    text = log.read_text()
    assert all(text.count(f"iteration {i}/40 ") == 1 for i in range(1, 41))
    assert len(list((tiny.folder / "two").iterdir())) == 1


@pytest.mark.reliability
def test_interrupted_processes_resume_exactly(tiny: Any, helpers: Any) -> None:
    long = ("train:total_iter=60", "train:accumulate=2")
    straight = helpers.finish(torchrun(tiny, *long, root="straight"), tiny.folder)
    assert straight.returncode == 0, straight.stderr
    command = torchrun(tiny, *long, root="runs")
    status, output = helpers.stop_at(command, tiny.folder, "iteration 23/", signal.SIGINT, True)
    assert status != 0
    assert output.count("continue with: torchrun --nproc_per_node=2") == 1, output
    assert "--launcher pytorch" in output
    resumed = helpers.finish(torchrun(tiny, *long, root="runs", resume=True), tiny.folder)
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed from" in resumed.stdout
    assert helpers.difference(tiny.state(60, "straight"), tiny.state(60)) is None


def test_launcher_without_torchrun_is_told(
    tiny: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vheatir.train import main

    monkeypatch.delenv("RANK", raising=False)
    assert main([*tiny.arguments(), "--launcher", "pytorch"]) == 2
    assert "needs torchrun" in capfd.readouterr().err
