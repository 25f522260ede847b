"""What has been restored so far, so that an interrupted run can go on: ``--resume``.

One file of JSON lines in the output folder for each shard. A record counts once its line is whole:
lines are appended in one write and flushed to the disk, and a line that a crash cut off is passed
over. Nothing is guessed from the names of files that happen to be there.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vheatir.errors import VHeatIRError
from vheatir.inference.jobs import Job, Settings

_NAME = ".vheatir-restored{}.jsonl"


class Manifest:
    """The pictures that are done in an output folder, by this shard or any other.

    Args:
        folder: the output folder.
        settings: what was asked for; a picture restored otherwise is not done.
        shard: index from 1 and count, if the run is one of several.

    Raises:
        VHeatIRError: the folder cannot be written to.
    """

    def __init__(
        self, folder: Path, settings: Settings, shard: tuple[int, int] | None = None
    ) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        asked = {k: v for k, v in asdict(settings).items() if k not in ("overwrite", "device")}
        self._settings = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
        self._seen: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob(_NAME.format("*"))):
            self._read(path)
        own = folder / _NAME.format(f".{shard[0]}-of-{shard[1]}" if shard else "")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = own.open("ab", buffering=0)
            if own.stat().st_size and not own.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")  # ends a line that a crash cut off
        except OSError as error:
            raise VHeatIRError(f"{own} cannot be written ({error.strerror}): check -o") from None

    def is_done(self, job: Job) -> bool:
        """Tell whether this picture, as it is now, was restored like this and is still there."""
        record = self._seen.get(self._key(job))
        return bool(
            record
            and record["state"] == "done"
            and record["settings"] == self._settings
            and record["source"] == _stamp(job)
            and all(path is None or path.is_file() for path in (job.target, job.compare))
        )

    def may_replace(self, job: Job) -> bool:
        """Tell whether the target, if it exists, was written by an earlier run."""
        return self._key(job) in self._seen

    def begin(self, job: Job) -> None:
        """Say that the picture is being worked on: from now on its target is ours."""
        if not any(path is not None and path.exists() for path in (job.target, job.compare)):
            self._write(job, "begun")

    def finish(self, job: Job) -> None:
        """Say that the picture is done."""
        self._write(job, "done")

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _key(self, job: Job) -> str:
        assert job.target is not None
        return os.path.relpath(job.target, self._folder).replace(os.sep, "/")

    def _write(self, job: Job, state: str) -> None:
        key = self._key(job)
        record = {"target": key, "state": state, "settings": self._settings, "source": _stamp(job)}
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            os.fsync(self._file.fileno())
            self._seen[key] = record

    def _read(self, path: Path) -> None:
        for line in path.read_bytes().splitlines():
            try:
                record = json.loads(line)
                sound = {"target", "state", "settings", "source"} <= set(record)
            except (ValueError, TypeError):
                continue
            if sound:
                self._seen[record["target"]] = record


def pick_shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """Return every ``count``-th picture, beginning with the ``index``-th, from 1 on.

    Pictures are ordered by their path in the output folder, so every machine that sees the same
    folder makes the same choice.
    """
    ordered = sorted(jobs, key=lambda job: job.target.as_posix() if job.target else "")
    return ordered[index - 1 :: count]


def _stamp(job: Job) -> list[Any]:
    """Return what tells a source file from another version of it."""
    if job.source is None:
        return []
    status = job.source.stat()
    return [os.path.abspath(job.source), status.st_size, status.st_mtime_ns]
