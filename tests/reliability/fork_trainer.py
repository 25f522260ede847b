"""Fork a training process for each line of standard input, to save the time for imports.

A line is JSON: ``arguments`` of the training command, ``output``, a file, ``processes``, and
``fault``, None or ``{"kind": "kill" | "full", "after": n}``: a storage layer that accepts n bytes,
over all atomic writes, and then kills the process or reports a full disk. Kind ``count`` writes the
number of bytes to the file ``to``. Several processes are forked by torchrun, and are a process
group with it. Prints the process ID, and the exit status when the process ends.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from vheatir.basicsr_import import import_basicsr
from vheatir.train import main

import_basicsr()
import matplotlib.backends.backend_agg  # noqa: E402, F401  for the curves of each finished training
import torch  # noqa: E402
import torch.distributed.run  # noqa: E402

import vheatir.train  # noqa: E402
import vheatir.training.loop  # noqa: E402, F401
import vheatir.training.report  # noqa: E402, F401


class Storage:
    """Inject faults between ``write_bytes_atomically`` and the disk."""

    def __init__(self, fault: dict[str, Any]) -> None:
        self.fault = fault
        self.written = 0
        self._fdopen = os.fdopen
        os.fdopen = self.open  # type: ignore[assignment]

    def open(self, handle: int, mode: str) -> Any:
        if mode != "wb":
            return self._fdopen(handle, mode)
        file = self._fdopen(handle, mode)
        write = file.write
        outer = self

        class Limited:
            def __enter__(self) -> Any:
                return self

            def __exit__(self, *_: object) -> None:
                file.close()

            def write(self, data: bytes) -> None:
                room = outer.fault.get("after", sys.maxsize) - outer.written
                outer.written += len(data)
                write(data[: max(room, 0)])
                if len(data) > room:
                    file.flush()
                    if outer.fault["kind"] == "kill":
                        os.kill(os.getpid(), signal.SIGKILL)
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            def flush(self) -> None:
                file.flush()

            def fileno(self) -> int:
                return file.fileno()

        return Limited()


def run(job: dict[str, Any]) -> int:
    output = os.open(job["output"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    if job["processes"] > 1:
        os.setpgid(0, 0)
        torch.distributed.run.main(
            ["--standalone", f"--nproc_per_node={job['processes']}", "--run-path",
             "--start-method=fork", vheatir.train.__file__, *job["arguments"],
             "--launcher", "pytorch"]
        )  # fmt: skip
        return 0
    storage = Storage(job["fault"]) if job["fault"] else None
    status = main(job["arguments"])
    if storage and storage.fault["kind"] == "count":
        Path(storage.fault["to"]).write_text(str(storage.written))
    return status


torch.set_num_threads(1)
for line in sys.stdin:
    job = json.loads(line)
    Path(job["output"]).unlink(missing_ok=True)
    pid = os.fork()
    if pid == 0:
        status = 99
        try:
            status = run(job)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    sys.stdout.write(f"{pid}\n")
    sys.stdout.flush()
    _, ended = os.waitpid(pid, 0)
    sys.stdout.write(f"{os.waitstatus_to_exitcode(ended)}\n")
    sys.stdout.flush()
