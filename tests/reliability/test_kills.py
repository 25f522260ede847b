"""Promise 1: kills at any moment, failing and full disks."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.training import helpers

LENGTH = 200
RUN = (f"train:total_iter={LENGTH}", "logger:save_checkpoint_freq=3", "logger:keep_last=2",
       "datasets:val=null")  # fmt: skip
SHORT = ("train:total_iter=6", "logger:keep_last=1", "datasets:val=null")


def newest(folder: Path) -> int:
    """Return the iteration of the newest complete state, 0 for none."""
    from vheatir.training.checkpoint import newest_checkpoint

    found = newest_checkpoint(folder)
    return found[1]["iteration"] if found else 0


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def loads(path: Path) -> bool:
    from vheatir.errors import VHeatIRError
    from vheatir.training.checkpoint import load_checkpoint

    try:
        return bool(load_checkpoint(path))
    except VHeatIRError:
        return False


def test_sigkill_at_random_moments(tiny: Any, trainings: Any, ledger: Any, full: bool) -> None:
    rng = random.Random(1)
    states = tiny.experiment() / "training_states"
    assert trainings.run(tiny.arguments(*RUN, root="straight")) == 0
    straight = tiny.state(LENGTH, "straight")
    wanted, kills, inside = 50 if full else 4, 0, 0
    with ledger(1, "SIGKILL at a random moment of the run, saves included") as row:
        # On a busy machine a save may end before the signal arrives: go on until one was hit.
        while kills < wanted or (not inside and kills < 5 * wanted):
            before = newest(states)
            pid = trainings.start(tiny.arguments(*RUN, resume=True))
            if kills % 3 == 2 or kills >= wanted:
                # the next moment at which a file is partially written
                while not list(states.glob(".*.state.*")) and is_running(pid):
                    pass
            else:
                time.sleep(rng.uniform(0.05, 0.8))
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            status = trainings.wait()
            if status == 0:  # it finished before the kill: start over
                same = helpers.difference(straight, tiny.state(LENGTH))
                row.case(same is None, f"after {kills} kills the end differs in {same}")
                shutil.rmtree(tiny.experiment())
                continue
            assert status == -signal.SIGKILL, trainings.output
            kills += 1
            inside += bool(list(states.glob(".*.state.*")))
            said = [int(n) for n in re.findall(rf"iteration (\d+)/{LENGTH}", trainings.output)]
            done = max(said, default=before)
            # the state due before the last logged iteration exists and loads
            due = max(before, (done - 1) // 3 * 3)
            row.case(newest(states) >= due, f"kill {kills}: {newest(states)} of {due}")
        assert trainings.run(tiny.arguments(*RUN, resume=True)) == 0, trainings.output
        same = helpers.difference(straight, tiny.state(LENGTH))
        row.case(same is None, f"the end differs in {same}")
        left = [p.name for p in tiny.experiment().rglob(".*")]
        row.case(not left, f"left behind: {left}")
    assert inside > 0  # some kills hit a save


@pytest.mark.parametrize("kind", ["kill", "full"])
def test_storage_that_fails_after_n_bytes(
    tiny: Any, trainings: Any, ledger: Any, full: bool, kind: str
) -> None:
    counted = tiny.folder / "counted"
    count = {"kind": "count", "to": str(counted)}
    assert trainings.run(tiny.arguments(*SHORT, root="straight"), count) == 0
    total = int(counted.read_text())
    steps = 60 if full else 3
    states = tiny.experiment() / "training_states"
    damage = {"kill": "killed by a write after n bytes", "full": "a disk full after n bytes"}[kind]
    with ledger(1, f"{damage}, n from 0 to {total}") as row:
        for step in range(steps):
            after = total * step // steps
            shutil.rmtree(tiny.experiment(), ignore_errors=True)
            status = trainings.run(tiny.arguments(*SHORT), {"kind": kind, "after": after})
            if kind == "kill":
                row.case(status == -signal.SIGKILL, f"{after}: status {status}")
            else:
                lines = [li for li in trainings.output.splitlines() if li.startswith("error: ")]
                fine = status == 2 and len(lines) == 1 and "Traceback" not in trainings.output
                row.case(fine and "o space left" in lines[0], f"{after}: {trainings.output[-300:]}")
            half = [p.name for p in states.glob("*.state") if not loads(p)]
            row.case(not half, f"{after}: {half} cannot be loaded")
            assert trainings.run(tiny.arguments(*SHORT, resume=True)) == 0, trainings.output
            same = helpers.difference(tiny.state(6, "straight"), tiny.state(6))
            row.case(same is None, f"{after}: resumed, the end differs in {same}")


def test_keep_last_never_deletes_the_only_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Any, full: bool
) -> None:
    from vheatir import image_io
    from vheatir.errors import VHeatIRError
    from vheatir.training.checkpoint import newest_checkpoint, save_checkpoint

    state = {"x": torch.arange(5000)}
    first = save_checkpoint(tmp_path, {"iteration": 1, **state}, 1)
    size = first.stat().st_size
    fsync = os.fsync
    with ledger(1, "a disk that says yes and keeps something else, keep_last=1") as row:
        for step in range(50 if full else 10):

            def lie(handle: int, step: int = step) -> None:
                fsync(handle)
                if os.fstat(handle).st_size > size // 2:
                    os.ftruncate(handle, size * step // 50) if step % 2 else os.pwrite(
                        handle, b"rot", size * step // 50
                    )

            monkeypatch.setattr(image_io.os, "fsync", lie)
            try:
                save_checkpoint(tmp_path, {"iteration": 2, **state}, 1)
                row.case(False, f"step {step}: not noticed")
            except VHeatIRError as error:
                row.case("reads back differently" in str(error), str(error))
            monkeypatch.setattr(image_io.os, "fsync", fsync)
            found = newest_checkpoint(tmp_path)
            row.case(found is not None and found[0] == first, f"step {step}: the old one is gone")
    save_checkpoint(tmp_path, {"iteration": 3, **state}, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["3.state"]


def test_a_state_damaged_later_is_passed_over(tmp_path: Path, ledger: Any, full: bool) -> None:
    from vheatir.training.checkpoint import newest_checkpoint, save_checkpoint

    rng = random.Random(3)
    first = save_checkpoint(tmp_path, {"iteration": 1, "x": torch.zeros(999)}, None)
    second = save_checkpoint(tmp_path, {"iteration": 2, "x": torch.arange(999)}, None)
    whole = second.read_bytes()
    with ledger(1, "the newest state cut off or overwritten") as row:
        for _ in range(100 if full else 20):
            cut = rng.randrange(len(whole))
            second.write_bytes(whole[:cut] if rng.random() < 0.5 else whole[:cut] + os.urandom(99))
            found = newest_checkpoint(tmp_path)
            row.case(found is not None and found[0] == first, f"cut at {cut}: {found}")
