"""``VHeatIRUNetBeside`` passes the tests of the networks of the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import studies.heat.mixers  # noqa: F401  registers it
from tests.archs import test_checkpointing, test_networks
from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.weights import load_weights, save_weights

BESIDE: dict[str, Any] = {
    "type": "VHeatIRUNetBeside",
    "channels": [8, 12],
    "depths": [1, 2],
    "mixers": ["attention", "hco_spread"],
    "fve_size": 4,
}


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 2), (16, 16), (19, 37)], ids=str)
@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_any_size(channels: int, downscale: int, size: tuple[int, int]) -> None:
    test_networks.test_any_size(BESIDE, channels, downscale, size)


@pytest.mark.parametrize("more", [{}, {"level_scale": 255.0}, {"downscale": 2}, {"in_chans": 1}])
def test_a_fresh_network_returns_its_input_exactly(more: dict[str, Any]) -> None:
    test_networks.test_a_fresh_network_returns_its_input_exactly(BESIDE, more)


@pytest.mark.parametrize(
    "test",
    [
        test_networks.test_inference_agrees_with_training_mode,
        test_networks.test_weights_and_image_in_bfloat16,
        test_networks.test_a_constant_level_may_come_in_any_form,
        test_networks.test_each_image_and_each_pixel_may_have_its_own_level,
        test_networks.test_a_level_that_does_not_fit_is_refused,
        test_networks.test_input_that_does_not_fit_is_refused,
        test_checkpointing.test_the_same_gradients_for_less_memory,
    ],
)
def test_as_the_networks_of_the_package(test: Any) -> None:
    test(BESIDE)


def test_weights_that_name_it_load(tmp_path: Path) -> None:
    network = build_network({**BESIDE, "mixers": ["conv", "adaptive"]}).eval()
    info = {"task": "denoise_color", "level": 25, "name": "tiny"}
    loaded = load_weights(save_weights(tmp_path / "tiny.safetensors", network, info)).network
    x = torch.rand(1, 3, 9, 14)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x))


def test_the_package_names_it() -> None:
    with pytest.raises(VHeatIRError, match=r"VHeatIRUNetBeside of studies\.heat\.mixers"):
        build_network({"type": "VHeatIRUNet", "heat_placement": "beside"})
