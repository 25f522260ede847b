"""Importing the study registers its mixers, and each passes the checks of every mixer."""

from __future__ import annotations

import pytest

import studies.heat.mixers  # noqa: F401  registers them
from tests.archs.mixers import checks
from vheatir.archs.mixers import MIXERS, MOVED


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
