"""Run many jobs: one after the other, in threads, or on a Ray cluster; none of them is lost."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal

import torch

from vheatir.errors import VHeatIRError
from vheatir.inference.jobs import Job, Runner, Settings, TargetExistsError
from vheatir.inference.manifest import Manifest

_TRIES = 3
_RAY_WAIT_S = 1.0

Report = Callable[[Job, int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one job: its state, and words about it."""

    job: Job
    state: Literal["restored", "existing", "failed"]
    words: str


def attempt(
    runner: Runner, job: Job, progress: Callable[[int, int], None] | None, replace: bool | None
) -> Outcome:
    """Run one job; whatever the picture or the disk provokes becomes an outcome."""
    try:
        return Outcome(job, "restored", runner.run(job, progress, overwrite=replace))
    except TargetExistsError as error:
        return Outcome(job, "existing", f"skipped: {error}")
    except (VHeatIRError, OSError, MemoryError) as error:
        reason = str(error).removeprefix(f"{job.name} ") or type(error).__name__
        return Outcome(job, "failed", f"failed: {reason}")


def run_local(
    runner: Runner,
    jobs: Sequence[Job],
    workers: int = 1,
    manifest: Manifest | None = None,
    report: Report | None = None,
) -> Iterator[Outcome]:
    """Run jobs in this process, ``workers`` at a time, and yield each outcome when it is there.

    Workers are threads that share the models; on the CPU they share the cores too.
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
    # Threads set the count for themselves: each takes its share of the cores.
    share = max(1, before // workers)
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,)) as pool:
        waiting: set[Future[Outcome]] = set()
        queue = iter(jobs)
        try:
            while True:
                # A few ahead, not a million.
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
    """Run jobs on the cluster that Ray finds, or on a local one, one model per actor.

    Files are read and written by the actors, so paths have to mean the same on every machine. An
    actor that dies is replaced, and its picture tried again, three times in all; then it is failed.

    Args:
        settings: what is asked for.
        jobs: what to restore, all with a target.
        workers: number of actors; one a GPU, or one a processor core, when None.
        manifest: where to note what is done.

    Raises:
        VHeatIRError: Ray is not installed, or a job uses a standard stream.
    """
    try:
        import ray
    except ImportError:
        raise VHeatIRError("--engine ray needs Ray: pip install 'vheatir[ray]'") from None
    if any(job.source is None or job.target is None for job in jobs):
        raise VHeatIRError("--engine ray takes files, not the standard input or output")
    Runner(settings)  # a mistake there is told here, not by every actor
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    resources = ray.cluster_resources()
    gpus = int(resources.get("GPU", 0)) if settings.device in ("auto", "cuda") else 0
    count = max(1, min(workers or gpus or int(resources.get("CPU", 1)), len(jobs)))
    share = {"num_gpus": gpus / count} if gpus else {"num_cpus": 1}
    actor = ray.remote(**share)(_Worker)
    yield from _drive(ray, actor, settings, [_absolute(job) for job in jobs], count, manifest)


def _drive(
    ray: Any, actor: Any, settings: Settings, jobs: list[Job], count: int, manifest: Manifest | None
) -> Iterator[Outcome]:
    queue = [(job, 1, False) for job in reversed(jobs)]
    idle = [actor.remote(settings) for _ in range(count)]
    running: dict[Any, tuple[Any, Job, int, bool]] = {}
    try:
        while queue or running:
            while queue and idle:
                worker, (job, tries, ours) = idle.pop(), queue.pop()
                # What a worker wrote before it died is ours to replace, what was there is not.
                ours = ours or (tries == 1 and not _exists(job))
                replace = _begin(manifest, job) or (True if ours else None)
                running[worker.run.remote(job, replace)] = (worker, job, tries, ours)
            ready, _ = ray.wait(list(running), timeout=_RAY_WAIT_S)
            for reference in ready:
                worker, job, tries, ours = running.pop(reference)
                try:
                    outcome = ray.get(reference)
                except ray.exceptions.RayActorError:
                    idle.append(actor.remote(settings))
                    if tries < _TRIES:
                        queue.append((job, tries + 1, ours))
                        continue
                    outcome = Outcome(job, "failed", f"failed: its worker died {_TRIES} times")
                except ray.exceptions.RayError as error:
                    idle.append(worker)
                    last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
                    outcome = Outcome(job, "failed", f"failed: {last}")
                else:
                    idle.append(worker)
                yield _finish(manifest, outcome)
    finally:
        for worker in [*idle, *(entry[0] for entry in running.values())]:
            ray.kill(worker)


class _Worker:
    """One model on one machine of the cluster."""

    def __init__(self, settings: Settings) -> None:
        self._runner = Runner(settings)

    def run(self, job: Job, replace: bool | None) -> Outcome:
        """Restore one picture."""
        return attempt(self._runner, job, None, replace)

    def pid(self) -> int:
        """Return the process, for whoever wants to look at it."""
        return os.getpid()


def _absolute(job: Job) -> Job:
    """Return the job with paths that do not depend on the folder a worker runs in."""
    source, target, compare = (
        None if path is None else path.absolute() for path in (job.source, job.target, job.compare)
    )
    return Job(source, target, compare, label=job.name)


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
