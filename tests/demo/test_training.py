"""The training started from the page: log streaming, sharing between pages, failures."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from vheatir.demo.training import TrainingRun, quickstart_command
from vheatir.errors import VHeatIRError


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_the_command_is_the_projects_own() -> None:
    interpreter, script, flag, options = quickstart_command()
    assert (interpreter, flag) == (sys.executable, "-opt")
    assert Path(script).name == "train.py" and Path(options).name == "quickstart.yml"
    assert Path(options).is_file()


def test_the_log_is_streamed_without_escapes() -> None:
    run = TrainingRun(python(r"print('\x1b[32mone\x1b[0m'); print('tw\u014d', end='\r'); print(3)"))
    assert list(run.follow())[-1] == "one\ntwō\n3"


def test_a_failure_quotes_the_last_line() -> None:
    run = TrainingRun(python("import sys; print('step'); sys.exit('error: disk full')"))
    with pytest.raises(VHeatIRError, match="error: disk full"):
        list(run.follow())
    with pytest.raises(VHeatIRError):  # and it can be tried again
        list(run.follow())


def test_two_pages_watch_one_training(tmp_path: Path) -> None:
    go = tmp_path / "go"
    run = TrainingRun(
        python(
            "import os, pathlib, time; print(os.getpid())\n"
            f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.01)"
        )
    )
    results: list[str] = []
    first = run.follow()
    next(first)
    second = threading.Thread(target=lambda: results.append(list(run.follow())[-1]))
    second.start()
    go.touch()
    results.append(list(first)[-1])
    second.join()
    assert results[0] == results[1] != ""


def test_stop_ends_it() -> None:
    run = TrainingRun(python("import time; print('up'); time.sleep(600)"))
    log = run.follow()
    while "up" not in next(log):
        pass
    run.stop()
    with pytest.raises(VHeatIRError):
        list(log)
    assert run._process is not None
    assert run._process.returncode == (-signal.SIGTERM if os.name == "posix" else 1)
