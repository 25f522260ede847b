"""torch.compile captures each network in one graph, for inference and for training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vheatir.archs import build_network

CONFIGS: dict[str, dict[str, Any]] = {
    "flat": {"type": "VHeatIR", "embed_dim": 6, "depths": [1], "fve_size": 4, "downscale": 2},
    "U": {
        "type": "VHeatIRUNet", "channels": [4, 8], "depths": [1, 1],
        "mixers": ["conv", "hco_spread"], "level_scale": 255.0,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "training", "autocast"),
    [("flat", False, True), ("flat", True, False), ("U", False, False), ("U", True, True)],
)
def test_no_graph_breaks(name: str, training: bool, autocast: bool) -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    network = build_network(CONFIGS[name]).train(training)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.1)
    # 70 pixels (140 downscaled) take the fft backend, a custom operator, rather than matmul
    arguments = [torch.rand(1, 3, 22, 140), *([25.0] if network.takes_level else [])]
    compiled = torch.compile(network, fullgraph=True, backend="aot_eager" if training else "eager")
    with torch.set_grad_enabled(training), torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        expected, actual = network(*arguments), compiled(*arguments)
    if training:
        actual.float().square().mean().backward()
        assert all(p.grad is not None for p in network.parameters())
    tolerance = 0.05 if autocast else 1e-4
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)
