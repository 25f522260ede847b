"""Every mixer: any size, any precision, correct gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from vheatir.archs.blocks import init_linears
from vheatir.archs.mixers import MIXERS, build_mixer
from vheatir.archs.mixers.adaptive_heat import AdaptiveHeat2d
from vheatir.archs.mixers.hco import HeatConductionMixer
from vheatir.archs.mixers.window_attention import WindowAttention2d
from vheatir.errors import VHeatIRError

SIZES = [(1, 1), (1, 5), (7, 3), (16, 16), (17, 33)]


def mixer_and_embedding(
    name: str, dim: int, inner: int | None = None, index: int = 0
) -> tuple[nn.Module, Tensor | None]:
    torch.manual_seed(0)
    mixer = build_mixer(name, dim, inner, index)
    wants = mixer.needs_frequency_embedding
    return mixer, torch.randn(4, 4, dim) if wants else None


def test_these_are_the_mixers() -> None:
    heat = {"hco", "hco_spread", "heat_tails", "edge_heat"}
    kinds = ("smooth", "mix", "pilot", "level", "14")
    adaptive = {"adaptive", *(f"adaptive_{kind}" for kind in kinds)}
    controls = {"none", "dwconv7", "gain", "attention", "attention_7"}
    assert set(MIXERS) == controls | heat | adaptive


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("inner", [None, 8])
@pytest.mark.parametrize("name", MIXERS)
def test_shape_is_kept_at_any_size(name: str, inner: int | None, size: tuple[int, int]) -> None:
    mixer, fve = mixer_and_embedding(name, 6, inner, index=1)
    x = torch.randn(2, *size, 6)
    y = mixer(x, fve)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert y.isfinite().all()
    torch.testing.assert_close(mixer(x[1:], fve), y[1:])  # images of a batch are independent


@pytest.mark.parametrize("name", MIXERS)
def test_bfloat16_autocast_stays_near_float32(name: str) -> None:
    mixer, fve = mixer_and_embedding(name, 8)
    x = torch.randn(1, 9, 12, 8)
    expected = mixer(x, fve)
    with torch.autocast("cpu", torch.bfloat16):
        actual = mixer(x, fve)
    error = (actual.float() - expected).square().mean().sqrt()
    assert error < 2e-2 * expected.square().mean().sqrt()
    actual.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


@pytest.mark.parametrize("name", MIXERS)
def test_gradcheck(name: str) -> None:
    mixer, fve = mixer_and_embedding(name, 2, index=1)
    mixer.double()
    if isinstance(mixer, AdaptiveHeat2d | WindowAttention2d):
        # windows small enough to check every derivative
        mixer = type(mixer)(2, index=1, window=4).double()
    x = torch.randn(1, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    given = None if fve is None else fve.double()
    assert torch.autograd.gradcheck(lambda x: mixer(x, given), x)
    names = list(dict(mixer.named_parameters()))

    def of_weights(*values: Tensor) -> Tensor:
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(mixer, named, (x.detach(), given))

    weights = [p.detach().clone().requires_grad_() for p in mixer.parameters()]
    assert torch.autograd.gradcheck(of_weights, weights)


def test_a_typo_names_the_nearest_mixer() -> None:
    with pytest.raises(VHeatIRError, match="unknown mixer 'adaptiv': did you mean 'adaptive'"):
        build_mixer("adaptiv", 4)


def test_spread_heat_starts_from_a_pixel_to_the_whole_image() -> None:
    mixer = HeatConductionMixer(32, spread=True)
    init_linears(mixer)
    k = mixer.diffusivity(torch.zeros(16, 16, 32))
    assert k.min().item() == pytest.approx(0.02) and k.max().item() == pytest.approx(100)
    steps = k[0, 0].log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-4, rtol=0)
