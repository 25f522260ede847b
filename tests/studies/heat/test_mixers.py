"""Importing the study registers its mixers, and each passes the checks of every mixer."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import studies.heat.mixers  # noqa: F401  registers them
from tests.archs.mixers import checks
from vheatir.archs import build_network
from vheatir.archs.mixers import MIXERS, MOVED
from vheatir.weights import load_weights, save_weights


def test_the_study_registers_what_left_the_package() -> None:
    assert set(MIXERS) == {"none", "hco", "hco_spread", "attention", *MOVED}


@pytest.mark.parametrize("size", checks.SIZES, ids=str)
@pytest.mark.parametrize("inner", [None, 8])
@pytest.mark.parametrize("name", MOVED)
def test_shape_is_kept_at_any_size(name: str, inner: int | None, size: tuple[int, int]) -> None:
    checks.keeps_the_shape(name, inner, size)


@pytest.mark.parametrize("name", MOVED)
def test_bfloat16_autocast_stays_near_float32(name: str) -> None:
    checks.is_near_float32_under_autocast(name)


@pytest.mark.parametrize("name", MOVED)
def test_gradcheck(name: str) -> None:
    checks.passes_gradcheck(name)


@pytest.mark.parametrize("name", MOVED)
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("norm", ["pre", "post", "unet"])
def test_gradients_are_finite_and_the_first_steps_learn(
    norm: str, autocast: bool, name: str
) -> None:
    checks.learns_in_the_first_steps(name, norm, autocast)


@pytest.mark.parametrize("name", MOVED)
def test_weights_that_name_a_mixer_of_the_study_load(name: str, tmp_path: Path) -> None:
    config = {
        "type": "VHeatIRUNet",
        "channels": [8, 12],
        "depths": [1, 1],
        "mixers": ["conv", name],
    }
    network = build_network(config).eval()
    info = {"task": "denoise_color", "level": 25, "name": "tiny"}
    loaded = load_weights(save_weights(tmp_path / "tiny.safetensors", network, info)).network
    x = torch.rand(1, 3, 9, 14)
    with torch.no_grad():
        torch.testing.assert_close(loaded(x), network(x))
