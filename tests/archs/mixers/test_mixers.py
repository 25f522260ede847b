"""Every mixer: any size, any precision, true gradients; and the physics of adaptive heat."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor, nn

from vheatir.archs.blocks import init_linears
from vheatir.archs.mixers import MIXERS, build_mixer
from vheatir.archs.mixers.adaptive_heat import AdaptiveHeat2d
from vheatir.archs.mixers.hco import SpreadHeatConductionMixer
from vheatir.errors import VHeatIRError
from vheatir.ops import heat_conduction

SIZES = [(1, 1), (1, 5), (7, 3), (16, 16), (17, 33)]


def mixer_and_embedding(
    name: str, dim: int, inner: int | None = None, index: int = 0
) -> tuple[nn.Module, Tensor | None]:
    torch.manual_seed(0)
    mixer = build_mixer(name, dim, inner, index)
    wants = mixer.needs_frequency_embedding
    return mixer, torch.randn(4, 4, dim) if wants else None


def test_these_are_the_mixers() -> None:
    assert set(MIXERS) == {"none", "hco", "hco_spread", "adaptive", "dwconv7"}


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("inner", [None, 8])
@pytest.mark.parametrize("name", MIXERS)
def test_shape_is_kept_at_any_size(name: str, inner: int | None, size: tuple[int, int]) -> None:
    mixer, fve = mixer_and_embedding(name, 6, inner, index=1)
    x = torch.randn(2, *size, 6)
    y = mixer(x, fve)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert y.isfinite().all()
    torch.testing.assert_close(mixer(x[1:], fve), y[1:])  # images of a batch stay apart


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
    if isinstance(mixer, AdaptiveHeat2d):  # windows small enough for every derivative
        mixer = AdaptiveHeat2d(2, index=1, window=4).double()
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
    mixer = SpreadHeatConductionMixer(32)
    init_linears(mixer)
    k = mixer.diffusivity(torch.zeros(16, 16, 32))
    assert k.min().item() == pytest.approx(0.02) and k.max().item() == pytest.approx(100)
    steps = k[0, 0].log().diff()
    torch.testing.assert_close(steps, steps.mean().expand_as(steps), atol=1e-4, rtol=0)


# --- adaptive heat -------------------------------------------------------------------------------


def adaptive(index: int = 0, log_lambda: float = 0.0, window: int = 8) -> AdaptiveHeat2d:
    torch.manual_seed(0)
    mixer = AdaptiveHeat2d(3, index=index, window=window).double()
    nn.init.constant_(mixer.log_lambda, log_lambda)
    return mixer


def image(height: int = 24, width: int = 16) -> Tensor:
    return torch.randn(
        1, height, width, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64
    )


def test_adaptive_heat_is_the_formula() -> None:
    mixer, u = adaptive(log_lambda=-0.5), image()
    result = mixer.mix(u).detach().numpy()
    n = np.pi * np.arange(8) / 8
    omega = n[:, None] ** 2 + n[None, :] ** 2
    for c in range(3):
        spectrum = scipy.fft.dctn(u[0, 8:16, 8:16, c].numpy(), norm="ortho")
        decay = np.exp(-mixer.log_k[..., c].exp().detach().numpy() * omega)
        gain = spectrum**2 / (spectrum**2 + np.exp(-0.5) ** 2)
        expected = scipy.fft.idctn(spectrum * (decay + (1 - decay) * gain), norm="ortho")
        np.testing.assert_allclose(result[0, 8:16, 8:16, c], expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("index", "corner"), [(0, 8), (1, 4)])
def test_adaptive_heat_conserves_the_mean_of_a_window(index: int, corner: int) -> None:
    u = image()
    window = slice(corner, corner + 8)
    result = adaptive(index).mix(u)
    assert not torch.allclose(result, u, atol=1e-2)
    torch.testing.assert_close(
        result[:, window, window].mean((1, 2)), u[:, window, window].mean((1, 2))
    )


def test_without_a_threshold_nothing_diffuses() -> None:
    torch.testing.assert_close(adaptive(log_lambda=-30).mix(image()), image())


def test_with_an_infinite_threshold_heat_is_plain() -> None:
    mixer, u = adaptive(log_lambda=30), image()
    window = u[:, 8:16, 8:16]
    expected = heat_conduction(window, mixer.log_k.exp(), (1, 2))
    torch.testing.assert_close(mixer.mix(u)[:, 8:16, 8:16], expected)


def test_windows_of_odd_blocks_are_shifted_by_half() -> None:
    u = torch.zeros(1, 32, 32, 3, dtype=torch.float64)
    u[:, 3, 3] = 1
    for index, reached in ((0, slice(0, 8)), (1, slice(0, 4))):
        touched = adaptive(index, log_lambda=30).mix(u).abs().sum((0, 3)) > 1e-12
        inside = torch.zeros(32, 32, dtype=torch.bool)
        inside[reached, reached] = True
        assert not (touched & ~inside).any()
        assert touched[reached, reached].all()
