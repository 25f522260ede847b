"""Run many jobs sequentially, in threads, or on a Ray cluster, with one outcome per job."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from vheatir.errors import UnsupportedImageError, VHeatIRError
from vheatir.inference.jobs import Job, Runner, Settings, TargetExistsError
from vheatir.inference.manifest import Manifest

_MAX_ATTEMPTS = 3
_MAX_RAY_BLOCKS = 10_000

Report = Callable[[Job, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """Job result: status and message."""

    job: Job
    state: Literal["restored", "existing", "skipped", "failed"]
    message: str


def attempt(
    runner: Runner, job: Job, progress: Callable[[int, int], None] | None, replace: bool | None
) -> Outcome:
    """Run one job; image, file system and memory errors become an :class:`Outcome`."""
    try:
        return Outcome(job, "restored", runner.run(job, progress, overwrite=replace))
    except TargetExistsError as error:
        return Outcome(job, "existing", f"skipped: {error}")
    except (VHeatIRError, OSError, MemoryError) as error:
        reason = str(error).removeprefix(f"{job.name} ") or type(error).__name__
        if isinstance(error, UnsupportedImageError):
            return Outcome(job, "skipped", f"skipped: {reason}")
        return Outcome(job, "failed", f"failed: {reason}")


def run_local(
    runner: Runner,
    jobs: Sequence[Job],
    workers: int = 1,
    manifest: Manifest | None = None,
    report: Report | None = None,
) -> Iterator[Outcome]:
    """Run jobs in this process, ``workers`` at a time, and yield outcomes as they complete.

    Workers are threads that share the models and, on the CPU, the cores.
    """

    def work(job: Job) -> Outcome:
        replace = _begin(manifest, job)
        each = None if report is None else lambda done, total: report(job, done, total)
        return attempt(runner, job, each, replace)

    if workers == 1:
        for job in jobs:
            yield _finish(manifest, work(job))
        return
    before = torch.get_num_threads()
    # The thread count is a per-thread setting: give each worker its share of the cores.
    share = max(1, before // workers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        waiting: set[Future[Outcome]] = set()
        queue = iter(jobs)
        try:
            while True:
                # Keep the queue short: there may be millions of jobs.
                ahead = itertools.islice(queue, 2 * workers - len(waiting))
                waiting.update(pool.submit(work, job) for job in ahead)
                if not waiting:
                    return
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                for future in done:
                    yield _finish(manifest, future.result())
        finally:
            for future in waiting:
                future.cancel()
            torch.set_num_threads(before)


def run_ray(
    settings: Settings,
    jobs: Sequence[Job],
    workers: int | None = None,
    manifest: Manifest | None = None,
) -> Iterator[Outcome]:
    """Run jobs on the cluster that Ray finds, or on a local one, with one model per actor.

    The images form a Ray Data dataset, which schedules the actors and restarts those that die. The
    job of a dead actor is attempted three times in total, then reported as failed. The actors read
    and write the files, so paths must be valid on every machine.

    Args:
        settings: restoration settings.
        jobs: images to restore; each needs a source and a target file.
        workers: number of actors; None for one per GPU, or one per CPU core without GPUs.
        manifest: record of completed jobs.

    Raises:
        VHeatIRError: Ray is not installed, or a job uses a standard stream.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise VHeatIRError("--engine ray requires Ray: pip install 'vheatir[ray]'") from None
    if any(job.source is None or job.target is None for job in jobs):
        raise VHeatIRError("--engine ray requires files, not the standard input or output")
    Runner(settings)  # report invalid settings here, not in every actor
    if not jobs:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if settings.device in ("auto", "cuda") else 0
    count = max(1, min(workers or gpus or int(resources.get("CPU", 1)), len(jobs)))
    share = {"num_gpus": gpus / count} if gpus else {"num_cpus": 1}

    rows = []
    for index, job in enumerate(jobs):
        # A file written by a worker that died may be replaced, an older one may not.
        is_new = not _exists(job)
        replace = _begin(manifest, job) or is_new
        rows.append({"index": index, "replace": replace, **_paths(job)})
    # One image per block, so that a dead actor affects one job; more for very large runs.
    images = ray.data.from_items(rows, override_num_blocks=min(len(rows), _MAX_RAY_BLOCKS))
    done = images.map(
        _Worker, fn_constructor_args=(settings,), concurrency=count, max_restarts=-1,
        max_task_retries=_MAX_ATTEMPTS - 1, **share,
    )  # fmt: skip
    done.context.max_errored_blocks = -1  # lost images are reported below
    done.context.enable_progress_bars = False
    seen = set()
    for row in done.iter_rows():
        seen.add(row["index"])
        yield _finish(manifest, Outcome(jobs[row["index"]], row["state"], row["message"]))
    for index, job in enumerate(jobs):
        if index not in seen:
            message = f"failed: its worker died {_MAX_ATTEMPTS} times"
            yield Outcome(job, "failed", message)


class _Worker:
    """Ray actor that holds one model."""

    def __init__(self, settings: Settings) -> None:
        self._runner = Runner(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Restore the image of a row."""
        source, target, compare = (
            Path(row[key]) if row[key] else None for key in ("source", "target", "compare")
        )
        job = Job(source, target, compare, label=row["label"])
        outcome = attempt(self._runner, job, None, True if row["replace"] else None)
        return {"index": row["index"], "state": outcome.state, "message": outcome.message}


def _paths(job: Job) -> dict[str, str]:
    """Serialise a job with absolute paths, since workers run in other folders."""
    files = {"source": job.source, "target": job.target, "compare": job.compare}
    paths = {key: "" if path is None else str(path.absolute()) for key, path in files.items()}
    return {**paths, "label": job.name}


def _exists(job: Job) -> bool:
    return any(path is not None and path.exists() for path in (job.target, job.compare))


def _begin(manifest: Manifest | None, job: Job) -> bool | None:
    if manifest is None:
        return None
    replace = True if manifest.may_replace(job) else None
    manifest.begin(job)
    return replace


def _finish(manifest: Manifest | None, outcome: Outcome) -> Outcome:
    if manifest is not None and outcome.state == "restored":
        manifest.finish(outcome.job)
    return outcome
