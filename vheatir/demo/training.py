"""The quickstart training, run from the page with the project's own command."""

from __future__ import annotations

import atexit
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Iterator

from vheatir import _paths
from vheatir.errors import VHeatIRError

_SHOWN_LINES = 200
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def quickstart_command() -> list[str]:
    """Return the command that trains the quickstart model."""
    options = _paths.options_folder() / "quickstart.yml"
    return [sys.executable, str(_paths.PACKAGE / "train.py"), "-opt", str(options)]


class TrainingRun:
    """At most one training at a time, which any number of pages can follow.

    It continues when the page is closed, and ends with the demo.

    Args:
        command: the command to run.
    """

    def __init__(self, command: list[str]) -> None:
        self._command = command
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None
        self._lines: deque[str] = deque(maxlen=_SHOWN_LINES)
        atexit.register(self.stop)

    def follow(self) -> Iterator[str]:
        """Start the training unless it is running, and yield its log whenever it grows.

        Raises:
            VHeatIRError: the training failed; quotes its last line of output.
        """
        process, reader = self._start()
        shown = None
        while reader.is_alive():
            if (text := "\n".join(list(self._lines))) != shown:
                shown = text
                yield text
            time.sleep(0.3)
        yield "\n".join(self._lines)
        if process.wait() != 0:
            last = next((line for line in reversed(self._lines) if line.strip()), "no output")
            raise VHeatIRError(f"the training failed: {last.strip()}")

    def stop(self) -> None:
        """Terminate a running training."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def _start(self) -> tuple[subprocess.Popen[str], threading.Thread]:
        with self._lock:
            if self._process is None or self._process.poll() is not None:
                self._lines.clear()
                self._process = subprocess.Popen(
                    self._command,
                    cwd=_paths.checkout_root(),
                    env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8"},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    encoding="utf-8",
                    errors="replace",
                )
                self._reader = threading.Thread(target=self._read, args=(self._process,))
                self._reader.daemon = True
                self._reader.start()
            return self._process, self._reader

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                # Universal newlines also split at carriage returns, as progress bars use.
                if text := _ESCAPES.sub("", line).rstrip():
                    self._lines.append(text)
        process.wait()
