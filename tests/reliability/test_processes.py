"""Promise 3: two gloo processes under torchrun, one of them killed.

The runs that others are compared with, and those of which one process is killed, are started by the
real command, the others by a process that has everything imported: three imports take most of the
time of a run.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import helpers

FORCE = ("train:total_iter=60", "logger:save_checkpoint_freq=10")


def torchrun(tiny: Any, *force: str, root: str, resume: bool = False) -> list[str]:
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        *tiny.command(*FORCE, *force, root=root, resume=resume)[1:], "--launcher", "pytorch",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a tiny experiment that two processes have trained, in ``two``."""
    tiny = helpers.make_tiny(tmp_path_factory.mktemp("trained"))
    result = helpers.finish(torchrun(tiny, root="two"), tiny.folder)
    assert result.returncode == 0, result.stderr
    return tiny


@pytest.mark.parametrize("on_device", [False, True])
def test_two_processes_equal_one_with_twice_the_batch(
    trained: Any, ledger: Any, full: bool, on_device: bool, restored_threads: None
) -> None:
    if on_device and not full:
        pytest.skip("in the long form; tests/data/test_device_crops.py compares the crops")
    tiny, two = trained, "two_on_device" if on_device else "two"
    device = f"train:data_on_device={str(on_device).lower()}"
    if on_device:
        result = helpers.finish(torchrun(tiny, device, root=two), tiny.folder)
        assert result.returncode == 0, result.stderr
    torch.set_num_threads(1)
    one = ("datasets:train:batch_size_per_gpu=4", device)
    roots = (f"one_like_{two}", two)
    assert tiny.run(*FORCE, *one, root=roots[0]) == 0
    curves = [
        np.array(json.loads((tiny.experiment(root) / "results/history.json").read_text())["losses"])
        for root in roots
    ]
    assert np.array_equal(curves[0][:, 0], np.arange(1, 61))
    states = [tiny.state(60, root) for root in roots]
    assert states[0]["samples_seen"] == states[1]["samples_seen"] == 4 * 60
    kind = "on the device" if on_device else "by the loader"
    with ledger(3, f"two processes against one with twice the batch, crops {kind}") as row:
        for a, b in zip(*curves, strict=True):
            row.case(bool(np.isclose(a[2], b[2], rtol=1e-4)), f"loss {a[2]} and {b[2]} at {a[0]}")
        for name, weight in states[0]["model"]["network"].items():
            same = torch.allclose(weight, states[1]["model"]["network"][name], atol=2e-4)
            row.case(same, name)
    # only one process writes: no duplicates, no archived runs
    for root in roots:
        saved = sorted(path.name for path in tiny.experiment(root).rglob("*.state"))
        assert saved == [f"{number}.state" for number in range(10, 61, 10)]
    (log,) = tiny.experiment(two).glob("*.log")
    text = log.read_text()
    assert all(text.count(f"iteration {i}/60 ") == 1 for i in range(1, 61))
    assert len(list((tiny.folder / two).iterdir())) == 1


def workers(parent: int) -> dict[int, int]:
    """Return the process IDs of a torchrun's training processes by rank."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if int((folder / "stat").read_text().rpartition(")")[2].split()[1]) == parent:
                environment = dict(
                    part.split(b"=", 1)
                    for part in (folder / "environ").read_bytes().split(b"\0")
                    if b"=" in part
                )
                found[int(environment[b"RANK"])] = int(folder.name)
        except (OSError, ValueError, KeyError):
            continue
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
@pytest.mark.parametrize("rank", [1, 0])
def test_a_killed_rank_ends_the_job(
    tiny: Any, trainings: Any, ledger: Any, full: bool, rank: int
) -> None:
    if rank == 0 and not full:
        pytest.skip("in the long form: pytest -m reliability")
    long = ("train:total_iter=4000", "logger:keep_last=2", "datasets:val=null",
            "train:accumulate=2")  # fmt: skip
    process = subprocess.Popen(
        torchrun(tiny, *long, root="runs"), cwd=tiny.folder, text=True,
        env={**helpers.ENVIRONMENT, "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    assert process.stdout is not None
    lines = []
    with ledger(3, f"SIGKILL to rank {rank} of two") as row:
        for line in process.stdout:
            lines.append(line)
            if "iteration 23/" in line:
                os.kill(workers(process.pid)[rank], signal.SIGKILL)
                killed = time.monotonic()
                break
        rest, _ = process.communicate(timeout=120)
        output = "".join(lines) + rest
        row.case(time.monotonic() - killed < 60, "the job went on for a minute")
        row.case(process.returncode not in (0, None), "the job said that all was well")
        refusals = [li for li in output.splitlines() if li.startswith("error: another process")]
        row.case(len(refusals) == 1 and "--auto_resume" in refusals[0], output[-3000:])
        states = sorted(tiny.experiment().glob("training_states/*.state"))
        row.case(bool(states), "no state is there")
        newest = max(int(path.stem) for path in states)
        # rank 0 saves its last complete iteration if rank 1 died
        row.case(newest % 10 == 0 if rank == 0 else newest >= 23, f"the newest is {newest}")
        total = (newest // 10 + 2) * 10
        again = (*long, f"train:total_iter={total}")
        status = trainings.run(tiny.arguments(*FORCE, *again, resume=True), processes=2)
        row.case(status == 0, trainings.output[-2000:])
        left = [p.name for p in tiny.experiment().rglob(".*")]
        row.case(not left, f"left behind: {left}")
        if full:
            straight = helpers.finish(torchrun(tiny, *again, root="straight"), tiny.folder)
            assert straight.returncode == 0, straight.stderr
            one, two = tiny.state(total, "straight"), tiny.state(total)
            # total_iter differed before the kill, and with it the learning rate
            row.case(one["samples_seen"] == two["samples_seen"], "samples were lost")


@pytest.mark.parametrize(
    ("number", "accumulate"), [(signal.SIGINT, 1), (signal.SIGKILL, 1), (signal.SIGINT, 2)]
)
def test_interrupted_processes_resume_exactly(
    trained: Any,
    trainings: Any,
    ledger: Any,
    full: bool,
    number: signal.Signals,
    accumulate: int,
) -> None:
    if (number, accumulate) != (signal.SIGINT, 1) and not full:
        pytest.skip("in the long form: pytest -m reliability")
    tiny, straight, root = trained, "two", f"{number.name}_{accumulate}"
    force = f"train:accumulate={accumulate}"
    if accumulate > 1:
        straight = f"straight_{accumulate}"
        result = helpers.finish(torchrun(tiny, force, root=straight), tiny.folder)
        assert result.returncode == 0, result.stderr
    stopped = tiny.arguments(*FORCE, force, root=root)
    resumed = tiny.arguments(*FORCE, force, root=root, resume=True)
    with ledger(2, f"{number.name} to two gloo processes, accumulate {accumulate}") as row:
        status = trainings.stop_at(stopped, "iteration 23/", number, processes=2)
        output = trainings.output
        row.case(status != 0, "it said that all was well")
        if number == signal.SIGINT:
            once = output.count("continue with: torchrun --nproc_per_node=2") == 1
            row.case(once and "--launcher pytorch" in output, output)
        status = trainings.run(resumed, processes=2)
        row.case(status == 0 and "resumed from" in trainings.output, trainings.output)
        same = helpers.difference(tiny.state(60, straight), tiny.state(60, root))
        row.case(same is None, f"the end differs in {same}")
