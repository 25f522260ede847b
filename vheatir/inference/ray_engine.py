"""Run jobs on a Ray cluster."""

from __future__ import annotations

import logging
import math
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from PIL import Image

from vheatir.errors import VHeatIRError
from vheatir.inference.jobs import Job, Outcome, Runner, Settings
from vheatir.inference.manifest import Manifest

_MAX_ATTEMPTS = 3
_MAX_RAY_BLOCKS = 10_000


def _gpu_share(gpus: int, workers: int) -> float:
    """Return the share of a GPU for each worker: no worker on several, none without one."""
    return 1 / math.ceil(workers / gpus)


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
    share = {"num_gpus": _gpu_share(gpus, count)} if gpus else {"num_cpus": 1}

    rows = []
    for index, job in enumerate(jobs):
        # A file written by a worker that died may be replaced, an older one may not.
        is_new = not any(path.exists() for path in job.outputs)
        replace = is_new if manifest is None else manifest.begin(job) or is_new
        rows.append({"index": index, "replace": replace, "job": pickle.dumps(job.absolute())})
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
        outcome = Outcome(jobs[row["index"]], row["state"], row["message"])
        if manifest is not None:
            manifest.finish(outcome)
        yield outcome
    for index, job in enumerate(jobs):
        if index not in seen:
            yield Outcome(job, "failed", f"failed: its worker died {_MAX_ATTEMPTS} times")


class _Worker:
    """Ray actor that holds one model."""

    def __init__(self, settings: Settings) -> None:
        Image.MAX_IMAGE_PIXELS = None  # settings.max_pixels applies instead
        self._runner = Runner(settings)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """Restore the image of a row."""
        outcome = self._runner.attempt(pickle.loads(row["job"]), may_replace=row["replace"])
        return {"index": row["index"], "state": outcome.state, "message": outcome.message}
