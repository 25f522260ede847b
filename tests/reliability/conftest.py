"""Fault injection tests in a short and a long form, and the table of losses.

Every test here is marked ``reliability``. The default run uses the short form of each test;
``pytest -m reliability`` runs the long form and prints promise, damage, cases and losses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.demo import conftest as demo
from tests.training.helpers import ENVIRONMENT, NO_BASICSR, Tiny, make_tiny

HERE = Path(__file__).resolve().parent
PROMISES = {
    1: "a kill loses at most the work since the last state",
    2: "resume is exact",
    3: "several processes are one, and none hangs",
    4: "hostile weights run nothing",
    5: "hostile images kill nothing",
    6: "numbers stay numbers",
    7: "the demo under load and attack",
    8: "supply chain",
}
# Fixtures of the demo's tests.
photograph, serve, weights = demo.photograph, demo.serve, demo.weights

_ROWS = pytest.StashKey[list["Row"]]()


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return make_tiny(tmp_path)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.reliability)


# --- the table -----------------------------------------------------------------------------------


@dataclass
class Row:
    """One row of the table: a kind of damage, the number of cases, the losses."""

    promise: int
    damage: str
    cases: int = 0
    losses: list[str] = field(default_factory=list)

    def case(self, kept: bool, what: str) -> None:
        """Count a case; ``what`` describes the loss if it was not ``kept``."""
        self.cases += 1
        if not kept:
            self.losses.append(what)


Ledger = Callable[[int, str], Any]


@pytest.fixture
def ledger(pytestconfig: pytest.Config) -> Ledger:
    """Return a context manager that adds a row and fails the test if there are losses."""

    @contextmanager
    def open_row(promise: int, damage: str) -> Iterator[Row]:
        row = Row(promise, damage)
        pytestconfig.stash.setdefault(_ROWS, []).append(row)
        try:
            yield row
        except BaseException as error:
            row.losses.append(f"{type(error).__name__}: {error}")
            raise
        assert row.cases > 0
        assert not row.losses, f"{len(row.losses)} of {row.cases} lost: " + "; ".join(
            row.losses[:5]
        )

    return open_row


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(_ROWS, [])
    if not rows or "reliability" not in config.option.markexpr:
        return
    terminalreporter.section("reliability")
    write = terminalreporter.write_line
    for number, promise in PROMISES.items():
        mine = [row for row in rows if row.promise == number]
        if mine:
            write(f"{number}. {promise}")
        for row in mine:
            write(f"     {row.damage:66} {row.cases:6} cases {len(row.losses):4} lost")
    lost = sum(len(row.losses) for row in rows)
    write(f"   {'in all':68} {sum(row.cases for row in rows):6} cases {lost:4} lost")


# --- trainings without import time ---------------------------------------------------------------


class Trainings:
    """Start real training processes by forking one that has everything imported.

    Args:
        folder: for their output.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "output.txt"
        environment = {**ENVIRONMENT, "PYTHONUNBUFFERED": "1"}
        environment["PYTHONPATH"] = str(HERE.parents[1])
        self._parent = subprocess.Popen(
            [sys.executable, str(HERE / "fork_trainer.py")],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def start(
        self, arguments: list[str], fault: dict[str, Any] | None = None, processes: int = 1
    ) -> int:
        """Start a training, several processes under torchrun; return its process ID."""
        job = {"arguments": arguments, "output": str(self._log), "fault": fault,
               "processes": processes}  # fmt: skip
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.write(json.dumps(job) + "\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def wait(self) -> int:
        """Wait for it to end; return the exit status, -9 for SIGKILL."""
        assert self._parent.stdout is not None
        return int(self._parent.stdout.readline())

    def run(
        self, arguments: list[str], fault: dict[str, Any] | None = None, processes: int = 1
    ) -> int:
        """Start a training and wait for it to end."""
        self.start(arguments, fault, processes)
        return self.wait()

    def stop_at(self, arguments: list[str], marker: str, number: int, processes: int = 1) -> int:
        """Send a signal once the output contains ``marker``; return the exit status."""
        pid = self.start(arguments, processes=processes)
        end = time.monotonic() + 60
        while marker not in self.output:
            assert time.monotonic() < end, self.output
            time.sleep(0.002)
        # torchrun passes other signals on: with one from here too, a process would get two.
        (os.killpg if processes > 1 and number == signal.SIGKILL else os.kill)(pid, number)
        return self.wait()

    @property
    def output(self) -> str:
        """Output of the last training."""
        return self._log.read_text() if self._log.exists() else ""

    def close(self) -> None:
        """End the forking process."""
        assert self._parent.stdin is not None and self._parent.stdout is not None
        self._parent.stdin.close()
        self._parent.wait(timeout=60)
        self._parent.stdout.close()


@pytest.fixture(scope="session")
def trainings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trainings]:
    if NO_BASICSR:
        pytest.skip("training needs basicsr")
    if not hasattr(os, "fork") or not hasattr(signal, "SIGKILL"):
        pytest.skip("this system cannot fork")
    pool = Trainings(tmp_path_factory.mktemp("trainings"))
    yield pool
    pool.close()


# --- the demo ------------------------------------------------------------------------------------


@pytest.fixture
def server(
    serve: Any,
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: bool,
) -> Any:
    """Return a demo of one tiny model that accepts small images: a ``demo_server.Server``."""
    from tests.reliability.demo_server import Server

    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--weights", weights["all_levels"], "--max-pixels", "100000", "--max-upload-mb", "1",
             "--keep", "60" if full else "15")  # fmt: skip
    return Server(serve(*flags), tmp_path / "scratch")
