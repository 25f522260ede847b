"""The configuration of a network, deduced from its weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from vheatir.archs import build_network, network_config
from vheatir.archs.detect import detect_config
from vheatir.errors import VHeatIRError
from vheatir.zoo import list_models, load_model

UNET = {"type": "VHeatIRUNet", "channels": [8, 12, 20], "depths": [1, 2, 1]}
CONFIGS: list[dict[str, Any]] = [
    {"type": "VHeatIR", "size": "light"},
    {"type": "VHeatIR", "size": "mini", "in_chans": 1},
    {"type": "VHeatIR", "embed_dim": 7, "depths": [1, 3], "mlp_ratio": 2.5, "fve_size": 5},
    {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "mixer": "none", "level_scale": 255.0},
    {"type": "VHeatIR", "embed_dim": 32, "depths": [2], "mixer": "attention", "out_chans": 1},
    {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "in_chans": 1, "downscale": 4},
    {"type": "VHeatIR", "embed_dim": 8, "depths": [2] * 11},
    {**UNET, "mixers": ["conv", "conv", "hco_spread"], "level_scale": 255.0},
    {**UNET, "mixers": ["conv", "none", "hco"], "heat_ratio": 0.9, "downscale": 1},
    {**UNET, "mixers": ["conv", "conv", "conv"], "in_chans": 1},
    {**UNET, "mixers": ["hco", "attention", "none"]},
    {**UNET, "mixers": ["hco", "hco", "hco"], "heat_ratio": 0.37, "out_chans": 1, "downscale": 3},
    {"type": "VHeatIRUNet", "channels": [8], "depths": [1], "mixers": ["hco"], "fve_size": 3},
    {**UNET, "channels": [24, 48, 96], "mixers": ["hco", "hco", "hco"], "heat_ratio": 0.56},
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS, ids=str)
def test_the_detected_network_is_the_same(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = build_network(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    found = detect_config(network.state_dict())
    again = build_network(found).eval()
    again.load_state_dict(network.state_dict())
    x = torch.rand(1, network.in_chans, 13, 18)  # type: ignore[arg-type]
    level = () if network.level_scale is None else (25.0,)
    with torch.no_grad():
        assert torch.equal(again(x, *level), network(x, *level))
    expected, complete = network_config(network), network_config(again)
    expected["out_chans"] = network.out_chans
    for key in expected.keys() - {"mlp_ratio", "heat_ratio", "mixer", "mixers", "fve_size"}:
        assert complete[key] == expected[key], key


def test_every_released_model_is_detected() -> None:
    entries = list_models()
    assert entries
    for entry in entries:
        network = load_model(entry.name).network
        expected = network_config(network)
        if "mixers" in expected:
            expected["mixers"] = [name.replace("hco_spread", "hco") for name in expected["mixers"]]
        found = network_config(build_network(detect_config(network.state_dict())))
        assert found == expected, entry.name


def test_other_weights_are_refused() -> None:
    sequence = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 3, 3)).state_dict()
    flat = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [1]}).state_dict()
    unet = build_network(UNET).state_dict()
    cases: list[dict[str, torch.Tensor]] = [
        {}, sequence,
        {**flat, "conv_first.weight": torch.zeros(8)},
        {**flat, "conv_first.weight": torch.zeros(8, 5, 3, 3)},
        {**flat, "conv_last.weight": torch.zeros(0, 8, 3, 3)},
        {key: value for key, value in flat.items() if not key.startswith("groups")},
        {key: value for key, value in flat.items() if ".mlp." not in key},
        {**unet, "down.0.weight": torch.zeros(())},
        {**unet, "body.heat.mixer.in_proj.weight": torch.zeros(())},
    ]  # fmt: skip
    for number, state in enumerate(cases):
        with pytest.raises(VHeatIRError) as error:
            detect_config(state)
        assert "\n" not in str(error.value), number
