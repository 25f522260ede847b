"""Learning rate and stage as pure functions of progress: nothing to save, nothing to drift."""

from __future__ import annotations

import math
from bisect import bisect_right

from vheatir.training.sections import SchedulerOptions, Stage, TrainOptions


def progress(train: TrainOptions, iteration: int, minutes: float) -> float:
    """Return how much of the training is done, 0 to 1.

    With ``max_minutes`` the further along of iterations and minutes counts, so that the schedule
    ends when the time does.
    """
    done = iteration / train.total_iter
    if train.max_minutes is not None:
        done = max(done, minutes / train.max_minutes)
    return min(done, 1.0)


def learning_rate(train: TrainOptions, iteration: int, done: float) -> float:
    """Return the learning rate of an iteration.

    Args:
        train: the options.
        iteration: iterations finished so far.
        done: see :func:`progress`.
    """
    # not done * total_iter alone: its rounding would pass a milestone an iteration late
    reached = max(float(iteration), done * train.total_iter)
    rate = train.optim_g.lr * _decay(train.scheduler, train.optim_g.lr, reached, done)
    if iteration < train.warmup_iter:
        rate *= (iteration + 1) / train.warmup_iter
    return rate


def _decay(scheduler: SchedulerOptions, peak: float, iteration: float, done: float) -> float:
    if scheduler.type == "MultiStep":
        return scheduler.gamma ** bisect_right(scheduler.milestones, iteration)
    floor = scheduler.lr_min / peak
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def stage_at(train: TrainOptions, done: float) -> Stage | None:
    """Return the stage of crop and batch size, or None once the stages are over."""
    return next((stage for stage in train.stages or () if done < stage.until), None)
