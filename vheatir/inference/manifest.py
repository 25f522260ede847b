"""Record of completed jobs, to continue an interrupted run with ``--resume``.

Each shard has one JSON Lines file in the output folder. Lines are appended in one write and flushed
to disk; a line truncated by a crash is ignored. Existing output files alone do not count as done.
Of the records of one image, in any file, that of the latest run counts.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from vheatir.errors import VHeatIRError
from vheatir.inference.jobs import Job, Outcome, Settings

_NAME = ".vheatir-restored{}.jsonl"


class Manifest:
    """The completed images of an output folder, from all shards.

    Args:
        folder: the output folder.
        settings: restoration settings; an image restored with other settings is not done.
        shard: (index from 1, count) if the run is one of several.

    Raises:
        VHeatIRError: the folder cannot be written to.
    """

    def __init__(
        self, folder: Path, settings: Settings, shard: tuple[int, int] | None = None
    ) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        others = ("overwrite", "device", "imports")
        relevant = {k: v for k, v in asdict(settings).items() if k not in others}
        if settings.model is not None:
            model = Path(settings.model)
            for file in (model, model / "config.json"):  # which holds the SHA-256 of its weights
                if file.is_file():
                    relevant["weights"] = hashlib.sha256(file.read_bytes()).hexdigest()
        if settings.backend == "torch":
            del relevant["backend"]  # as in records from before there was a choice
        self._settings = hashlib.sha256(json.dumps(relevant).encode()).hexdigest()[:16]
        self._records: dict[str, dict[str, Any]] = {}
        for path in sorted(folder.glob(_NAME.format("*"))):
            self._read(path)
        self._run = 1 + max((record["run"] for record in self._records.values()), default=0)
        own = folder / _NAME.format(f".{shard[0]}-of-{shard[1]}" if shard else "")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._file = own.open("ab", buffering=0)
            if own.stat().st_size and not own.read_bytes().endswith(b"\n"):
                self._file.write(b"\n")  # end a line truncated by a crash
        except OSError as error:
            raise VHeatIRError(f"{own} cannot be written ({error.strerror}): check -o") from None

    def is_done(self, job: Job) -> bool:
        """Whether the unchanged source was restored with these settings and the output exists."""
        found = self._records.get(self._key(job))
        if found is None or job.source is None or not job.source.is_file():
            return False
        expected = {**self._record(job, "done"), "run": found["run"]}
        return found == expected and all(path.is_file() for path in job.outputs)

    def begin(self, job: Job) -> bool:
        """Record that the job has started, so that a later run may replace its target.

        Returns:
            Whether its target was written by an earlier run and may be replaced.
        """
        found = self._records.get(self._key(job), {})
        may_replace = found.get("state") in ("begun", "done")
        if not any(path.exists() for path in job.outputs):
            self._write(self._record(job, "begun"))
        return may_replace

    def finish(self, outcome: Outcome) -> None:
        """Record that an image was restored, or that its job ended without writing a file."""
        job = outcome.job
        if outcome.state == "restored":
            self._write(self._record(job, "done"))
        elif not any(path.exists() for path in job.outputs):
            # Replaces "begun": a file that appears there later is not ours. The source may be gone.
            self._write({"target": self._key(job), "state": "failed"})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _key(self, job: Job) -> str:
        assert job.target is not None
        return os.path.relpath(job.target, self._folder).replace(os.sep, "/")

    def _record(self, job: Job, state: str) -> dict[str, Any]:
        assert job.source is not None
        status = job.source.stat()
        return {
            "target": self._key(job),
            "state": state,
            "settings": self._settings,
            "source": [os.path.abspath(job.source), status.st_size, status.st_mtime_ns],
        }

    def _write(self, record: dict[str, Any]) -> None:
        record = {**record, "run": self._run}
        line = json.dumps(record).encode() + b"\n"
        with self._lock:
            self._file.write(line)
            os.fsync(self._file.fileno())
            self._records[record["target"]] = record

    def _read(self, path: Path) -> None:
        for line in path.read_bytes().splitlines():
            with suppress(ValueError, TypeError, KeyError):  # truncated or damaged
                record = json.loads(line)
                target = record["target"]
                record["run"] = int(record.get("run", 0))  # older versions did not write it
                if target not in self._records or record["run"] >= self._records[target]["run"]:
                    self._records[target] = record


def pick_shard(jobs: Sequence[Job], index: int, count: int) -> list[Job]:
    """Return every ``count``-th job, starting with the ``index``-th (counted from 1).

    Jobs are ordered by their path in the output folder, so every machine with the same input
    selects consistently.
    """
    ordered = sorted(jobs, key=lambda job: job.target.as_posix() if job.target else "")
    return ordered[index - 1 :: count]
