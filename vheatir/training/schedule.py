"""Learning rate and training stage as pure functions of progress, without state to save."""

from __future__ import annotations

import math
from bisect import bisect_right

from vheatir.training.sections import SchedulerOptions, Stage, TrainOptions


def progress(train: TrainOptions, iteration: int, minutes: float) -> float:
    """Return the fraction of the training that is done, 0 to 1.

    With ``max_minutes`` it is the larger of the fractions of iterations and minutes, so that the
    schedule ends when the time is up.
    """
    done = iteration / train.total_iter
    if train.max_minutes is not None:
        done = max(done, minutes / train.max_minutes)
    return min(done, 1.0)


def learning_rate(train: TrainOptions, iteration: int, done: float) -> float:
    """Return the learning rate of an iteration.

    Args:
        train: training options.
        iteration: iterations done so far.
        done: see :func:`progress`.
    """
    # done * total_iter alone may round down and reach a milestone one iteration late
    reached = max(float(iteration), done * train.total_iter)
    rate = train.optim_g.lr * _decay_factor(train.scheduler, train.optim_g.lr, reached, done)
    if iteration < train.warmup_iter:
        rate *= (iteration + 1) / train.warmup_iter
    return rate


def _decay_factor(scheduler: SchedulerOptions, peak: float, iteration: float, done: float) -> float:
    if scheduler.type == "MultiStep":
        return scheduler.gamma ** bisect_right(scheduler.milestones, iteration)
    floor = scheduler.lr_min / peak
    return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def stage_at(train: TrainOptions, done: float) -> Stage | None:
    """Return the current stage (crop and batch size), or None after the last stage."""
    return next((stage for stage in train.stages or () if done < stage.until), None)
