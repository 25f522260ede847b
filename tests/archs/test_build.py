"""Building networks by name: sizes, configurations, errors."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn

from vheatir import VHeatIR, VHeatIRUNet
from vheatir._paths import options_folder
from vheatir.archs import ARCHS, build_network, network_config
from vheatir.errors import VHeatIRError
from vheatir.training.options import load_options


def count(net: nn.Module, ending: str = "") -> int:
    return sum(p.numel() for name, p in net.named_parameters() if name.endswith(ending))


def test_base_is_swinirs_denoiser_with_heat() -> None:
    net = build_network({"type": "VHeatIR", "size": "base"})
    assert [len(group.blocks) for group in net.groups] == [6] * 6  # type: ignore[union-attr]
    # SwinIR has 11.5 M; counted by hand: groups, three convolutions, two norms
    c, inner, grid = 180, 360, 16
    block = 10 * c + (c + 1) * 2 * c + 2 * (c + 1) * c + 2 * c  # the HCO module
    block += 2 * 2 * c + (c + 1) * inner + (inner + 1) * c  # norms and MLP
    conv = (9 * c + 1) * c
    group = 6 * block + conv + grid * grid * c
    assert count(net) == 6 * group + conv + 2 * 2 * c + (9 * 3 + 1) * c + (9 * c + 1) * 3
    assert count(net) == 11_809_803
    assert count(net, "fve") < 0.03 * count(net)


@pytest.mark.parametrize(("size", "least", "most"), [("light", 0.9e6, 1e6), ("mini", 0.5e6, 1e6)])
def test_the_smaller_sizes(size: str, least: float, most: float) -> None:
    net = build_network({"type": "VHeatIR", "size": size})
    assert least < count(net) < most
    assert net.downscale == (2 if size == "mini" else 1)
    assert count(VHeatIR(**VHeatIR.SIZES[size])) == count(net)


@pytest.mark.parametrize("size", VHeatIRUNet.SIZES)
def test_the_sizes_of_the_u_are_those_of_its_option_files(size: str) -> None:
    file = options_folder() / "all_levels" / f"denoise_color_{size}.yml"
    options = load_options(file, ["datasets:train:dataroot_gt=bundled"])
    config = {"type": "VHeatIRUNet", "size": size, "out_chans": 3, "level_scale": 255.0}
    with torch.device("meta"):
        named, written = (build_network(c) for c in (config, options.network_g.config()))
    assert network_config(named) == network_config(written)


def test_an_option_file_may_name_a_size() -> None:
    file = options_folder() / "all_levels" / "denoise_gray_small.yml"
    network = "network_g={type: VHeatIRUNet, size: medium, depths: [1, 1, 1]}"
    options = load_options(file, ["datasets:train:dataroot_gt=bundled", network])
    with torch.device("meta"):
        config = network_config(build_network(options.network_g.config()))
    assert (config["channels"], config["depths"]) == ([128] * 3, [1, 1, 1])
    assert (config["in_chans"], config["level_scale"]) == (1, 255.0)


def test_what_stands_beside_a_size_wins() -> None:
    net = build_network({"type": "VHeatIR", "size": "mini", "depths": [1], "in_chans": 1})
    assert len(net.groups) == 1 and net.in_chans == 1  # type: ignore[arg-type]
    assert net.conv_first.out_channels == 64  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "config",
    [
        {"type": "VHeatIR", "embed_dim": 8, "depths": (1, 1), "mixer": "attention"},
        {"type": "VHeatIR", "size": "mini", "level_scale": 255.0, "in_chans": 1},
        {"type": "VHeatIRUNet", "channels": [8, 8], "depths": [1, 1], "mixers": ["conv", "none"]},
    ],
)
def test_a_network_is_rebuilt_from_its_configuration(config: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net = build_network(config)
    complete = network_config(net)
    assert complete == json.loads(json.dumps(complete))
    assert complete["type"] == config["type"] and "size" not in complete
    torch.manual_seed(0)
    again = build_network(complete)
    assert network_config(again) == complete
    for (name, ours), (other, theirs) in zip(
        net.state_dict().items(), again.state_dict().items(), strict=True
    ):
        assert name == other and torch.equal(ours, theirs)


def test_defaults_are_written_out() -> None:
    net = build_network({"type": "VHeatIRUNet"})
    assert isinstance(net, VHeatIRUNet)
    assert network_config(net)["channels"] == [64, 64, 64]


def test_the_configuration_of_a_network_made_otherwise_is_unknown() -> None:
    with pytest.raises(VHeatIRError, match=r"build it with vheatir\.build_network"):
        network_config(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "unknown network type None"),
        ({"type": "VHeatIr"}, "did you mean 'VHeatIR'"),
        ({"type": "VHeatIR", "embed_dims": 8}, "unknown option of VHeatIR .*mean 'embed_dim'"),
        ({"type": "VHeatIRUNet", "chanels": [8]}, "did you mean 'channels'"),
        ({"type": "VHeatIR", "size": "lite"}, "unknown size of VHeatIR 'lite': .*'light'"),
        ({"type": "VHeatIRUNet", "size": "light"}, "unknown size of VHeatIRUNet 'light'"),
        ({"type": "VHeatIR", "mixer": "hc"}, "did you mean 'hco'"),
        ({"type": "VHeatIRUNet", "mixers": ["conv", "conv", "hoc"]}, "did you mean 'hco'"),
        ({"type": "VHeatIR", "norm": "prenorm"}, "did you mean 'pre'"),
        ({"type": "VHeatIR", "depths": 6}, "cannot be built"),
        ({"type": "VHeatIR", "in_chans": 3, "out_chans": 2}, "use the same number, or 1"),
        ({"type": "VHeatIRUNet", "depths": [1, 1]}, "different numbers of scales"),
        ({"type": "VHeatIRUNet", "channels": [8, 0, 8]}, "channels 0 is invalid"),
        *(
            ({"type": name, key: bad}, f"{key} .* is invalid: use a number above 0")
            for name in ARCHS
            for key in ("in_chans", "downscale", "fve_size", "level_scale")
            for bad in (0, -1, "a")
        ),
        ({"type": "VHeatIR", "img_range": 0}, "img_range 0 is invalid"),
        ({"type": "VHeatIR", "embed_dim": 0}, "embed_dim 0 is invalid"),
        ({"type": "VHeatIRUNet", "heat_ratio": -0.5}, "heat_ratio -0.5 is invalid"),
    ],
)
def test_invalid_configurations_are_reported_in_one_line(
    config: dict[str, Any], message: str
) -> None:
    with pytest.raises(VHeatIRError, match=message) as caught:
        build_network(config)
    assert "\n" not in str(caught.value)
