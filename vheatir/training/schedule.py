"""Learning rate and training stage as pure functions of progress, without state to save."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

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
    reached = float(iteration)
    if done > iteration / train.total_iter:  # else done * total_iter may round either way
        reached = max(reached, done * train.total_iter)
    peak = train.optim_g.lr
    rate = peak * _decay_factor(train.scheduler, peak, reached, done)
    if iteration + 1 < train.warmup_iter:
        # BasicSR warms up to the initial rate, not to that of the schedule
        start = peak if train.scheduler.type == "CosineRestart" else rate
        rate = start * ((iteration + 1) / train.warmup_iter)
    return rate


def _decay_factor(scheduler: SchedulerOptions, peak: float, iteration: float, done: float) -> float:
    if scheduler.type == "MultiStep":
        return scheduler.gamma ** bisect_right(scheduler.milestones, iteration)
    floor = scheduler.lr_min / peak
    weight = 1.0
    if scheduler.type == "CosineRestart":
        weight, done = _position(scheduler, iteration)
    elif scheduler.T_max is not None:
        done = iteration / scheduler.T_max
    return floor + weight * (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))


def _position(scheduler: SchedulerOptions, iteration: float) -> tuple[float, float]:
    """Return the weight of the current period and the fraction of it that is done."""
    periods = scheduler.periods or []
    ends = list(accumulate(periods))
    # an end belongs to the period that ends there, as in BasicSR
    number = min(bisect_left(ends, iteration), len(periods) - 1)
    weights = scheduler.restart_weights or [1.0]
    return weights[number], (iteration - ends[number] + periods[number]) / periods[number]


def stage_at(stages: Sequence[Stage], done: float) -> Stage:
    """Return the stage (crop and batch size) at a fraction ``done`` < 1 of the training."""
    return next(stage for stage in stages if done < stage.until)
