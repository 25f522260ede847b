"""Every mixer: any size, any precision, correct gradients."""

from __future__ import annotations

import pytest
import torch

from tests.archs.mixers import checks
from vheatir.archs.blocks import init_linears
from vheatir.archs.mixers import MIXERS, MOVED, build_mixer
from vheatir.archs.mixers.hco import HeatConductionMixer
from vheatir.errors import VHeatIRError


def test_these_are_the_mixers() -> None:
    assert set(MIXERS) == {"none", "hco", "hco_spread", "attention"}


@pytest.mark.parametrize("size", checks.SIZES, ids=str)
@pytest.mark.parametrize("inner", [None, 8])
@pytest.mark.parametrize("name", MIXERS)
def test_shape_is_kept_at_any_size(name: str, inner: int | None, size: tuple[int, int]) -> None:
    checks.keeps_the_shape(name, inner, size)


@pytest.mark.parametrize("name", MIXERS)
def test_bfloat16_autocast_stays_near_float32(name: str) -> None:
    checks.is_near_float32_under_autocast(name)


@pytest.mark.parametrize("name", MIXERS)
def test_gradcheck(name: str) -> None:
    checks.passes_gradcheck(name)


@pytest.mark.parametrize("name", MIXERS)
@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bf16"])
@pytest.mark.parametrize("norm", ["pre", "post", "unet"])
def test_gradients_are_finite_and_the_first_steps_learn(
    norm: str, autocast: bool, name: str
) -> None:
    checks.learns_in_the_first_steps(name, norm, autocast)


def test_a_typo_names_the_nearest_mixer() -> None:
    with pytest.raises(VHeatIRError, match="unknown mixer 'atention': did you mean 'attention'"):
        build_mixer("atention", 4)


@pytest.mark.parametrize("name", MOVED)
def test_a_mixer_of_the_study_is_told_where_it_is(name: str) -> None:
    with pytest.raises(VHeatIRError, match=r"import studies\.heat\.mixers .*folder studies/heat"):
        build_mixer(name, 4)


def test_spread_heat_starts_from_a_pixel_to_the_whole_image() -> None:
    mixer = HeatConductionMixer(32, spread=True)
    init_linears(mixer)
    k = mixer.diffusivity(torch.zeros(16, 16, 32))
    assert k.min().item() == pytest.approx(0.02) and k.max().item() == pytest.approx(100)
    steps = k[0, 0].log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-4, rtol=0)
