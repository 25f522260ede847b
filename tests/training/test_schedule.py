from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest
import torch

pytest.importorskip("pydantic")

from vheatir.training.schedule import learning_rate, progress, stage_at
from vheatir.training.sections import Stage, TrainOptions


def options(**values: Any) -> TrainOptions:
    return TrainOptions.model_validate({"total_iter": 700, "optim_g": {"lr": 2e-4}, **values})


def rates(train: TrainOptions) -> list[float]:
    return [learning_rate(train, i, progress(train, i, 0.0)) for i in range(train.total_iter)]


def test_multi_step_is_that_of_torch() -> None:
    # no multiple of 1/700 is exact in binary: each milestone must still fall on its iteration
    milestones = [*range(3, 700, 7)]
    scheduler = {"type": "MultiStep", "milestones": milestones, "gamma": 0.97}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    reference = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, gamma=0.97)
    for rate in rates(options(scheduler=scheduler)):
        assert rate == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        reference.step()


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="BasicSR is the reference")
def test_restarts_fall_on_their_iteration_where_fractions_round_up() -> None:
    from vheatir.basicsr_import import import_basicsr

    import_basicsr()
    from basicsr.models.lr_scheduler import CosineAnnealingRestartLR

    assert 14 / 100 * 100 > 14
    settings = {"periods": [14, 86], "restart_weights": [1, 0.5]}
    scheduler = {"type": "CosineRestart", "lr_min": 1e-7, **settings}
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=2e-4)
    reference = CosineAnnealingRestartLR(optimizer, eta_min=1e-7, **settings)
    for rate in rates(options(total_iter=100, scheduler=scheduler)):
        assert rate == pytest.approx(reference.get_last_lr()[0], rel=1e-9)
        optimizer.step()
        reference.step()


def test_warm_up_rises_linearly_and_then_leaves_the_schedule_alone() -> None:
    plain, warm = rates(options()), rates(options(warmup_iter=50))
    assert warm[50:] == plain[50:]
    assert warm[:50] == pytest.approx([plain[i] * (i + 1) / 50 for i in range(50)])
    assert rates(options(warmup_iter=-1)) == plain


def test_minutes_end_the_schedule_when_they_end_the_run() -> None:
    train = options(max_minutes=10)
    assert progress(train, 70, 0.0) == pytest.approx(0.1)
    assert progress(train, 70, 5.0) == pytest.approx(0.5)
    assert progress(train, 0, 12.0) == progress(train, 700, 0.0) == 1
    half = learning_rate(train, 70, progress(train, 70, 5.0))
    assert half == pytest.approx(2e-4 * 0.5 * (1 + math.cos(math.pi / 2)))
    steps = options(max_minutes=10, scheduler={"type": "MultiStep", "milestones": [350]})
    assert learning_rate(steps, 70, progress(steps, 70, 4.9)) == pytest.approx(2e-4)
    assert learning_rate(steps, 70, progress(steps, 70, 5.0)) == pytest.approx(1e-4)


def test_stages_follow_each_other() -> None:
    stages = [
        Stage(until=0.5, gt_size=64, batch_size=16),
        Stage(until=0.75, gt_size=96, batch_size=8),
        Stage(until=1, gt_size=128, batch_size=4),
    ]
    sizes = [stage_at(stages, done).gt_size for done in (0, 0.49, 0.5, 0.74, 0.75, 0.99)]
    assert sizes == [64, 64, 96, 96, 128, 128]
