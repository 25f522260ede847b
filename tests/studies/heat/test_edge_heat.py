"""The edge-stopping heat mixer: heat does not cross edges in the features."""

from __future__ import annotations

import torch
from torch import nn

from studies.heat.mixers.edge_heat import EdgeHeat2d


def test_heat_stays_on_its_side_of_an_edge() -> None:
    mixer = EdgeHeat2d(1).double()
    nn.init.constant_(mixer.log_k, 3.0)
    nn.init.constant_(mixer.to_conductance.weight, -60.0)  # bright pixels insulate
    nn.init.zeros_(mixer.to_conductance.bias)
    wall = torch.zeros(1, 9, 9, 1, dtype=torch.float64)
    wall[:, :, 4] = 1.0
    spark = torch.zeros_like(wall)
    spark[:, 4, 1] = 0.01  # left of the wall
    warmed = (mixer.mix(wall + spark) - mixer.mix(wall))[0, ..., 0].detach()
    assert warmed[4, :4].min() > 1e-4 and warmed[:, 1].min() > 1e-4  # along its row and column
    assert warmed[:, 5:].abs().max() < 1e-9
    torch.testing.assert_close(warmed.mean(), spark.mean())


def test_extreme_features_stay_finite() -> None:
    mixer = EdgeHeat2d(4)
    nn.init.constant_(mixer.to_conductance.weight, 1e4)
    u = torch.randn(1, 12, 7, 4).mul_(1e3).requires_grad_()
    result = mixer.mix(u)
    result.sum().backward()
    assert result.isfinite().all() and u.grad is not None and u.grad.isfinite().all()
