"""The building blocks of both networks against their formulas."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.archs.blocks import HeatBlock, HeatGroup, HeatResidual, ResidualConvBlock


def stirred(module: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


def tokens() -> Tensor:
    return torch.randn(1, 6, 5, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_block_adds_mixer_and_mlp(norm: str) -> None:
    block, x = stirred(HeatBlock(8, "hco", 2.0, norm, 0)), tokens()  # type: ignore[arg-type]
    assert isinstance(block, HeatBlock)
    fve = torch.randn(4, 4, 8)
    if norm == "pre":
        middle = x + block.mixer(block.norm1(x), fve)
        expected = middle + block.mlp(block.norm2(middle))
    else:
        middle = x + block.norm1(block.mixer(x, fve))
        expected = middle + block.norm2(block.mlp(middle))
    torch.testing.assert_close(block(x, fve), expected)


@pytest.mark.parametrize(("mixer", "held"), [("hco", True), ("attention", False)])
def test_a_group_shares_one_embedding_among_its_blocks(mixer: str, held: bool) -> None:
    group = HeatGroup(8, 2, mixer, 2.0, "pre", 4)
    assert (group.fve is not None) is held
    stirred(group)
    y = x = tokens()
    for block in group.blocks:
        y = block(y, group.fve)
    expected = x + group.conv(y.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(group(x), expected)


def test_blocks_for_images_are_residual() -> None:
    x = tokens().permute(0, 3, 1, 2)
    conv = ResidualConvBlock(8)
    torch.testing.assert_close(conv(x), x + conv.conv2(conv.conv1(x).relu()))
    heat = HeatResidual(8, "attention", 4, 0)
    mixed = heat.mixer(heat.norm(x.permute(0, 2, 3, 1)))
    torch.testing.assert_close(heat(x, None), x + mixed.permute(0, 3, 1, 2))


def test_new_heat_in_the_u_changes_nothing() -> None:
    net = build_network({"type": "VHeatIRUNet", "channels": [8, 8, 8]})
    heats = [part for part in net.modules() if isinstance(part, HeatResidual)]
    assert heats
    for heat in heats:
        x = tokens().permute(0, 3, 1, 2)
        torch.testing.assert_close(heat(x, net.body.fve), x)  # type: ignore[union-attr]


def test_the_body_works_on_img_range() -> None:
    config = {"type": "VHeatIR", "embed_dim": 8, "depths": [1]}
    wide, unit = build_network({**config, "img_range": 4.0}), build_network(config)
    stirred(wide)
    state = dict(wide.state_dict())
    state["conv_first.weight"] = state["conv_first.weight"] * 4
    for name in ("conv_last.weight", "conv_last.bias"):
        state[name] = state[name] / 4
    unit.load_state_dict(state)
    x = torch.rand(1, 3, 9, 12)
    torch.testing.assert_close(wide(x), unit(x))
