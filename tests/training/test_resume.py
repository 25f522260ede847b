"""Which state a run resumes from; tests/reliability checks that resuming is bitwise exact."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import helpers

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)


def test_device_crops_and_stages_resume_exactly(tiny: Any) -> None:
    stages = "[{until: 0.3, gt_size: 16, batch_size: 4}, {until: 0.6, gt_size: 24, batch_size: 2}]"
    force = (f"train:stages={stages}", "train:data_on_device=true", "train:total_iter=9")
    assert tiny.run(*force, root="straight") == 0
    assert tiny.run(*force, "logger:keep_last=3") == 0
    for number in (6, 8, 9):
        (tiny.experiment() / "training_states" / f"{number}.state").unlink(missing_ok=True)
    assert tiny.run(*force, "logger:save_checkpoint_freq=100", resume=True) == 0
    one, two = tiny.state(9, "straight"), tiny.state(9)
    assert helpers.difference(one["model"], two["model"]) is None
    assert one["samples_seen"] == two["samples_seen"]
    assert one["pixels_seen"] == two["pixels_seen"]


def test_work_adds_up_over_interruptions(tiny: Any, log_lines: list[str]) -> None:
    assert tiny.run() == 0
    before = tiny.state(4)
    (tiny.experiment() / "training_states" / "6.state").unlink()
    assert tiny.run(resume=True) == 0
    after = tiny.state(6)
    assert after["processor_seconds"] > before["processor_seconds"] > 0
    assert after["work"][:-1] == before["work"] and after["work"][-1][0] == 6
    assert not any("earlier release" in line for line in log_lines)


def states(tiny: Any) -> list[str]:
    return sorted(p.name for p in (tiny.experiment() / "training_states").iterdir())


def test_damaged_newest_state_gives_way_to_the_one_before(tiny: Any) -> None:
    assert tiny.run(root="straight") == 0
    assert tiny.run() == 0
    folder = tiny.experiment() / "training_states"
    whole = (folder / "6.state").read_bytes()
    (folder / "6.state").write_bytes(whole[: len(whole) // 2])
    (folder / "4.state").write_bytes(os.urandom(2000))
    (folder / ".5.state.0123456789ab").write_bytes(b"half")
    # damaged states must not count towards keep_last or cause the good one to be deleted
    assert tiny.run("logger:keep_last=1", resume=True) == 0
    assert states(tiny) == ["4.state.unused", "6.state", "6.state.unused"]
    assert helpers.difference(tiny.state(6, "straight")["model"], tiny.state(6)["model"]) is None


def test_named_state_starts_another_course(tiny: Any, log_lines: list[str]) -> None:
    assert tiny.run() == 0
    named = tiny.experiment() / "training_states" / "2.state"
    assert tiny.run(f"path:resume_state={named}", "logger:keep_last=2") == 0
    assert states(tiny) == ["4.state", "4.state.unused", "6.state", "6.state.unused"]
    # with --auto_resume the newest state of the experiment takes precedence
    assert tiny.run(f"path:resume_state={named}", resume=True) == 0
    assert any(line.endswith("6.state at iteration 6") for line in log_lines)


def test_finished_run_is_not_changed_by_resuming(tiny: Any) -> None:
    assert tiny.run() == 0
    before = tiny.state(6)
    assert tiny.run(resume=True) == 0
    assert helpers.difference(before, tiny.state(6)) is None


def test_changed_options_are_named(tiny: Any, capfd: Any) -> None:
    assert tiny.run("train:total_iter=2") == 0
    capfd.readouterr()
    assert tiny.run("train:total_iter=4", "train:optim_g:lr=5e-4", resume=True) == 0
    text = (next(tiny.experiment().glob("*.log"))).read_text()
    assert "option train:total_iter changed: was 2, is 4" in text
    assert "option train:optim_g:lr changed: was 0.001, is 0.0005" in text
    assert text.count(" changed: ") == 2


def test_changed_options_of_the_optimiser_are_used(tiny: Any) -> None:
    assert tiny.run("train:total_iter=2") == 0
    changed = ("train:optim_g:weight_decay=0.3", "train:optim_g:betas=[0.5,0.9]")
    assert tiny.run("train:total_iter=4", *changed, resume=True) == 0
    groups = tiny.state(4)["model"]["optimizer"]["param_groups"]
    assert {tuple(group["betas"]) for group in groups} == {(0.5, 0.9)}
    assert 0.3 in {group["weight_decay"] for group in groups}


def test_state_of_another_network_is_refused(tiny: Any, capfd: Any) -> None:
    assert tiny.run("train:total_iter=2") == 0
    assert tiny.run("network_g:embed_dim=16", resume=True) == 2
    assert "does not fit this option file" in capfd.readouterr().err


@pytest.mark.parametrize("share", [0.0, 0.3, 0.99])
def test_full_disk_leaves_the_states_before_intact(tiny: Any, share: float) -> None:
    resource = pytest.importorskip("resource")
    from vheatir.errors import VHeatIRError
    from vheatir.training.checkpoint import load_checkpoint, newest_checkpoint, save_checkpoint

    folder = tiny.folder / "states"
    first = save_checkpoint(folder, {"iteration": 1, "x": torch.zeros(40000)}, 1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = int(first.stat().st_size * share)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        with pytest.raises(VHeatIRError, match=r"could not be saved.*--auto_resume"):
            save_checkpoint(folder, {"iteration": 2, "x": torch.ones(40000)}, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [path.name for path in folder.iterdir()] == ["1.state"]
    newest = newest_checkpoint(folder)
    assert newest is not None and newest[0] == first
    assert load_checkpoint(first)["x"].sum() == 0


def test_states_that_carry_code_do_not_run_it(tmp_path: Path) -> None:
    from vheatir.errors import VHeatIRError
    from vheatir.training.checkpoint import load_checkpoint

    class Planted:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "planted"),)

    torch.save({"format": 1, "iteration": 1, "x": Planted()}, tmp_path / "1.state")
    with pytest.raises(VHeatIRError, match="damaged"):
        load_checkpoint(tmp_path / "1.state")
    assert not (tmp_path / "planted").exists()


@pytest.mark.parametrize(
    ("failure", "message"),
    [
        (PermissionError(13, "Permission denied"), "cannot be read (Permission denied)"),
        (MemoryError(), "not enough memory to load the training state"),
    ],
)
def test_a_state_that_cannot_be_read_now_is_not_damaged(
    tiny: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch, failure: Exception, message: str
) -> None:
    from vheatir.training import checkpoint

    def fail(path: Path) -> None:
        raise failure

    assert tiny.run() == 0
    before = states(tiny)
    monkeypatch.setattr(checkpoint, "load_pickle", fail)
    assert tiny.run("train:total_iter=8", resume=True) == 2
    assert message in capfd.readouterr().err
    assert states(tiny) == before


def test_a_run_does_not_start_over_because_all_its_states_are_damaged(
    tiny: Any, capfd: Any
) -> None:
    assert tiny.run() == 0
    for path in (tiny.experiment() / "training_states").iterdir():
        path.write_bytes(path.read_bytes()[:500])
    before, history = states(tiny), (tiny.experiment() / "results" / "history.json").read_bytes()
    assert tiny.run(resume=True) == 2
    assert "are damaged: remove them to start from scratch" in capfd.readouterr().err
    assert states(tiny) == before
    assert (tiny.experiment() / "results" / "history.json").read_bytes() == history


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("network_g:embed_dim=16", "conv_first.weight: [8, 16, 3, 3] in the file, [16, 16,"),
        ("train:optim_g:type=NAdam", "its optimiser is AdamW, not NAdam: set train:optim_g:type"),
    ],
)
def test_a_refused_resume_changes_nothing(tiny: Any, capfd: Any, option: str, message: str) -> None:
    assert tiny.run() == 0
    before, resolved = states(tiny), tiny.experiment() / "tiny.yml"
    options = resolved.read_bytes()
    named = tiny.experiment() / "training_states" / "2.state"
    assert tiny.run(option, f"path:resume_state={named}") == 2
    assert message in capfd.readouterr().err
    assert states(tiny) == before and resolved.read_bytes() == options


def test_weights_of_an_abandoned_run_are_not_tested(tiny: Any) -> None:
    from vheatir.training.options import load_options
    from vheatir.training.tested import load_experiment

    assert tiny.run() == 0
    named = tiny.experiment() / "training_states" / "2.state"
    force = (f"path:resume_state={named}", "train:optim_g:lr=1e-4", "train:total_iter=4")
    assert tiny.run(*force) == 0
    options = load_options(str(tiny.file), [f"path:experiments_root={tiny.folder / 'runs'}"])
    weights = load_experiment(options)
    assert weights.info["training"]["iterations"] == 4
    unused = tiny.experiment() / "models" / "tiny.safetensors.unused"
    assert unused.is_file()


def test_the_main_process_chooses_the_state(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from vheatir.training import loop
    from vheatir.training.distributed import Processes

    class Second(Processes):
        def from_main(self, value: Any) -> Any:
            assert value is None
            return tiny.experiment() / "training_states" / "4.state"

    assert tiny.run() == 0
    monkeypatch.setattr(loop, "newest_checkpoint", lambda folder: pytest.fail("chosen again"))
    trainer = loop.Trainer.__new__(loop.Trainer)
    trainer.processes = Second(rank=1, count=1)
    trainer.options = type("Options", (), {"path": type("Path", (), {"resume_state": None})})
    path, state = trainer._state_to_resume(auto=True)
    assert path is not None and path.name == "4.state"
    assert state is not None and state["iteration"] == 4
