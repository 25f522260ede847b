"""Activation checkpointing: bit-identical gradients, less memory for the backward pass."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.archs.checkpointing import checkpoint_blocks

CONFIGS: dict[str, dict[str, Any]] = {
    "flat": {"type": "VHeatIR", "embed_dim": 6, "depths": [2, 1], "fve_size": 4},
    "U": {"type": "VHeatIRUNet", "channels": [4, 8], "depths": [1, 2], "mixers": ["conv", "hco"]},
}


def network(config: dict[str, Any]) -> nn.Module:
    torch.manual_seed(0)
    net = build_network(config)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.2)
    return net


def step(net: nn.Module) -> tuple[Tensor, dict[str, Tensor], int]:
    """Return the output, the gradients, and the bytes saved for the backward pass."""
    kept: dict[int, int] = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    x = torch.rand(2, 3, 24, 20, generator=torch.Generator().manual_seed(1))
    net.zero_grad()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        out = net(x)
    (out * out).mean().backward()
    gradients = {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}
    return out.detach(), gradients, sum(kept.values())


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_the_same_gradients_for_less_memory(config: dict[str, Any]) -> None:
    plain = network(config)
    names = list(plain.state_dict())
    checkpointed = copy.deepcopy(plain)
    checkpoint_blocks(checkpointed)
    assert list(checkpointed.state_dict()) == names
    out, gradients, kept = step(plain)
    again, same, less = step(checkpointed)
    assert torch.equal(again, out)
    assert gradients.keys() == same.keys()
    assert all(torch.equal(same[key], value) for key, value in gradients.items())
    assert less < 0.5 * kept


def test_a_copy_computes_with_its_own_weights() -> None:
    net = network(CONFIGS["flat"])
    checkpoint_blocks(net)
    other = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.zero_()
    expected, *_ = step(network(CONFIGS["flat"]))
    assert torch.equal(step(other)[0], expected)


@pytest.mark.parametrize("name", ["flat", "U"])
def test_compiles_into_one_graph(name: str) -> None:
    net = network(CONFIGS[name])
    expected = step(copy.deepcopy(net))
    checkpoint_blocks(net)
    net.compile(backend="aot_eager", fullgraph=True)
    out, gradients, _ = step(net)
    torch.testing.assert_close(out, expected[0], rtol=1e-4, atol=1e-4)
    for key, value in gradients.items():
        torch.testing.assert_close(value, expected[1][key], rtol=1e-3, atol=1e-5)
