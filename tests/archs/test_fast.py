"""The faster versions are active after any import, at inference alone, and change no result."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.ops import dispatch
from vheatir.ops.fast import strips

CONFIGS: dict[str, dict[str, Any]] = {
    "pre": {"type": "VHeatIR", "embed_dim": 6, "depths": [2, 1], "fve_size": 4},
    "post": {"type": "VHeatIR", "embed_dim": 6, "depths": [2, 1], "fve_size": 4, "norm": "post"},
    "other mixer": {"type": "VHeatIR", "embed_dim": 6, "depths": [2], "mixer": "none"},
    "U": {
        "type": "VHeatIRUNet", "channels": [6, 8], "depths": [1, 1],
        "mixers": ["hco", "hco_spread"], "level_scale": 255.0,
    },
}  # fmt: skip

#: Prints how often the network ran something in strips, with gradients and without.
COUNT = """
strips = sys.modules["vheatir.ops.fast.strips"]
for_each_strip, count = strips.for_each_strip, 0
def counted(*arguments):
    global count
    count += 1
    for_each_strip(*arguments)
strips.for_each_strip = counted
network.eval()(torch.rand(1, 3, 16, 16), *arguments)
print(count)
with torch.inference_mode():
    network(torch.rand(1, 3, 16, 16), *arguments)
print(count)
"""


def network(name: str) -> tuple[nn.Module, list[Any]]:
    """A network with weights of both signs, and an input."""
    torch.manual_seed(0)
    network = build_network(CONFIGS[name])
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.3)
    x = torch.rand(2, 3, 42, 26, dtype=torch.float64)
    return network.double().eval(), [x, *([25.0] if network.takes_level else [])]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One item for each pass in strips."""
    seen: list[int] = []
    for_each_strip = strips.for_each_strip

    def counted(*arguments: Any) -> None:
        seen.append(1)
        for_each_strip(*arguments)

    monkeypatch.setattr(strips, "for_each_strip", counted)
    yield seen


@pytest.mark.parametrize("start", [
    "from vheatir.archs import VHeatIR\n"
    "network, arguments = VHeatIR(embed_dim=6, depths=[1]), []",
    "from vheatir.archs import VHeatIRUNet\n"
    "network, arguments = VHeatIRUNet(channels=[4, 4, 8]), []",
    "import vheatir\n"
    "network, arguments = vheatir.load_model('denoise_color_small').network, [25.0]\n"
    "assert 'sympy' not in sys.modules, 'loading imports the compiler of PyTorch'",
    "from vheatir.ops import HeatConduction2d\n"
    "network, arguments = HeatConduction2d(16), [torch.rand(4, 4, 16)]",
], ids=["flat", "U", "load_model", "operator"])  # fmt: skip
def test_a_fresh_process_infers_by_the_faster_versions(start: str) -> None:
    code = f"import sys, torch\n{start}\n{COUNT}"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    training, inference = map(int, done.stdout.split())
    assert training == 0 and inference > 0


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_definitions_and_faster_versions_agree(
    name: str, dtype: torch.dtype, counts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    net, (x, *level) = network(name)
    net, x = net.to(dtype), x.to(dtype)
    before = x.clone()
    with torch.inference_mode():
        fast = net(x, *level)
        assert counts
        counts.clear()
        monkeypatch.setattr(dispatch, "FAST", False)
        definition = net(x, *level)
    # Rounding is proportional to the largest values: those of "U" exceed 1,000.
    bound = 1e-12 if dtype == torch.float64 else 2e-6
    assert (fast - definition).abs().max() <= bound * definition.abs().max()
    assert not counts and torch.equal(x, before)


@pytest.mark.parametrize("name", CONFIGS)
def test_training_and_compiled_networks_use_the_definitions(name: str, counts: list[int]) -> None:
    net, arguments = network(name)
    expected = net(*arguments).detach()
    torch.compiler.reset()
    with torch.no_grad():
        net.train()(*arguments)
        assert not counts
        compiled = torch.compile(net.eval(), fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(*arguments), expected)
        assert not counts
        net(*arguments)
    assert counts


@pytest.mark.parametrize("name", CONFIGS)
def test_copies_infer_by_the_faster_versions(name: str, counts: list[int]) -> None:
    net, arguments = network(name)
    with torch.inference_mode():
        expected: Tensor = net(*arguments)
        for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
            counts.clear()
            assert torch.equal(other(*arguments), expected)
            assert counts
