"""Promise 2: N + M iterations, in one run or with kills in between, give identical bits."""

from __future__ import annotations

import shlex
import signal
from typing import Any

import pytest

from tests.training import helpers

LONG = ("train:total_iter=60", "logger:save_checkpoint_freq=25", "val:val_freq=30")
STAGES = "[{until: 0.3, gt_size: 16, batch_size: 4}, {until: 0.6, gt_size: 24, batch_size: 2}]"
KINDS = {
    "plain": (),
    "accumulation": ("train:accumulate=2",),
    "workers and accumulation": (
        "datasets:train:num_worker_per_gpu=2", "train:accumulate=2",
    ),
    "workers": ("datasets:train:num_worker_per_gpu=2",),
    "stages": (f"train:stages={STAGES}",),
    "crops on the device": ("train:data_on_device=true",),
    "JPEG": ("task=jpeg_color", "level=[10,40]", "datasets:val:level=40"),
    "bf16": ("train:precision=bf16",),
}  # fmt: skip
IN_SHORT = ("plain", "workers and accumulation")


@pytest.mark.parametrize("kind", KINDS)
def test_kills_change_no_bit(tiny: Any, trainings: Any, ledger: Any, full: bool, kind: str) -> None:
    if not full and kind not in IN_SHORT:
        pytest.skip("in the long form: pytest -m reliability")
    force = (*LONG, *KINDS[kind])
    assert trainings.run(tiny.arguments(*force, root="straight")) == 0, trainings.output
    stops = [("10/", signal.SIGTERM), ("37/", signal.SIGKILL)]
    stops += [("41/", signal.SIGINT), ("47/", signal.SIGKILL)] if full else []
    with ledger(2, f"{', '.join(s.name for _, s in stops)} in a row: {kind}") as row:
        for marker, number in stops:
            status = trainings.stop_at(
                tiny.arguments(*force, resume=True), f"iteration {marker}", number
            )
            wanted = -number if number == signal.SIGKILL else 128 + number
            row.case(status == wanted, f"status {status} after {number!r}")
            if number != signal.SIGKILL:
                output = trainings.output
                row.case("everything is saved" in output and "continue with: " in output, output)
        assert trainings.run(tiny.arguments(*force, resume=True)) == 0, trainings.output
        # weights, average, optimiser, losses with their learning rates, scores, samples seen
        same = helpers.difference(tiny.state(60, "straight"), tiny.state(60))
        row.case(same is None, f"{kind}: the end differs in {same}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_printed_command_goes_on(
    tiny: Any, ledger: Any, full: bool, number: signal.Signals
) -> None:
    if number == signal.SIGTERM and not full:
        pytest.skip("in the long form: pytest -m reliability")
    command = tiny.command(*LONG, "val:suffix='a b'")
    with ledger(1, f"{number.name} to the command, its printed line run again") as row:
        status, output = helpers.stop_at(command, tiny.folder, "iteration 20/", number, True)
        row.case(status == 128 + number and "Traceback" not in output, output)
        (printed,) = (li for li in output.splitlines() if li.startswith("continue with: "))
        words = shlex.split(printed.removeprefix("continue with: "))
        assert words[0] == "python"
        assert words[2:6] == ["-opt", str(tiny.file), "--auto_resume", "--force_yml"]
        assert "val:suffix='a b'" in words
        log = next(tiny.experiment().glob("*.log"))
        before = log.read_text()
        resumed = helpers.finish([command[0], *words[1:]], tiny.folder)
        row.case(resumed.returncode == 0 and "changed" not in resumed.stdout, resumed.stderr)
        # the log continues in the same file, without gaps or repetitions
        assert list(tiny.experiment().glob("*.log")) == [log]
        text = log.read_text()
        assert text.startswith(before) and "resumed from" in text
        once = all(text.count(f"iteration {i}/60 ") == 1 for i in range(1, 61))
        row.case(once, "the log has a gap or a repetition")
