"""Adaptive heat: the formula, its limits, its windows, and where its variants differ."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor, nn

from studies.heat.mixers.adaptive_heat import (
    AdaptiveHeat2d,
    LevelAdaptiveHeat2d,
    MixedEnergyAdaptiveHeat2d,
    PilotAdaptiveHeat2d,
    SmoothAdaptiveHeat2d,
)
from vheatir.archs import VHeatIRUNet
from vheatir.ops import heat_conduction


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


def test_smooth_thresholds_follow_three_numbers_a_channel() -> None:
    mixer = SmoothAdaptiveHeat2d(2, window=8).double()
    coefficients = torch.tensor([[-1.0, 0.5], [0.3, -0.2], [-0.1, 0.05]], dtype=torch.float64)
    mixer.log_lambda.data.copy_(coefficients)
    n = np.pi * np.arange(8) / 8
    omega = np.hypot(n[:, None], n[None, :])[..., None]
    a, b, c = coefficients.numpy()
    expected = a + b * omega + c * omega**2
    np.testing.assert_allclose(mixer.log_lambda_map().detach(), expected, atol=1e-6)
    assert sum(p.numel() for p in (mixer.log_k, mixer.log_lambda)) == 4 * 2


def test_mixed_energy_is_a_non_negative_mix_near_the_channels_own() -> None:
    mixer = MixedEnergyAdaptiveHeat2d(6, window=4)
    weights = nn.functional.softplus(mixer.energy_mix).detach()
    assert (weights > 0).all()
    assert weights.diag().numpy() == pytest.approx(np.ones(6), abs=0.01)
    assert weights.sum(1).numpy() == pytest.approx(np.full(6, 1.05), abs=0.02)
    spectrum = torch.zeros(1, 1, 4, 1, 4, 6)
    spectrum[..., 2] = 3.0
    energy = mixer.energy(spectrum, spectrum)
    torch.testing.assert_close(energy, (9 * weights[:, 2]).expand_as(energy))


def test_a_pilot_that_sees_nothing_lets_everything_diffuse() -> None:
    torch.manual_seed(0)
    mixer, u = PilotAdaptiveHeat2d(3, window=8).double(), image()
    nn.init.zeros_(mixer.pilot_proj.weight)
    nn.init.zeros_(mixer.pilot_proj.bias)
    expected = heat_conduction(u[:, 8:16, 8:16], mixer.log_k.exp(), (1, 2))
    torch.testing.assert_close(mixer.mix(u)[:, 8:16, 8:16], expected)
    nn.init.constant_(mixer.pilot_proj.bias, 0.0)
    nn.init.eye_(mixer.pilot_proj.weight)  # pilot = u: plain adaptive heat
    plain = AdaptiveHeat2d(3, window=8).double()
    torch.testing.assert_close(mixer.mix(u), plain.mix(u))


def test_noise_heats_longer_and_raises_thresholds() -> None:
    torch.manual_seed(0)
    conditioned = LevelAdaptiveHeat2d(3, window=8).double()
    u = image().repeat(2, 1, 1, 1)
    level = torch.tensor([0.0, 0.2], dtype=torch.float64)
    plain = conditioned.mix(u)
    torch.testing.assert_close(
        conditioned.mix(u, level=level), plain
    )  # initially independent of the level
    nn.init.constant_(conditioned.level_k, 0.7)
    nn.init.constant_(conditioned.level_lambda, -0.3)
    mixed = conditioned.mix(u, level=level)
    torch.testing.assert_close(mixed[:1], plain[:1])
    other = LevelAdaptiveHeat2d(3, window=8).double()
    with torch.no_grad():
        other.log_k.copy_(conditioned.log_k + 0.7)
        other.log_lambda.copy_(conditioned.log_lambda - 0.3)
    torch.testing.assert_close(mixed[1:], other.mix(u[1:]))


def test_a_network_tells_its_mixer_the_level() -> None:
    torch.manual_seed(0)
    network = VHeatIRUNet(
        1, channels=[8, 8], depths=[1, 1], mixers=["conv", "adaptive_level"], level_scale=255.0
    )
    mixer = network.body.heat.mixer
    nn.init.normal_(network.conv_last.weight)
    nn.init.normal_(mixer.out_proj.weight)
    x = torch.rand(2, 1, 16, 16)
    network(x, torch.tensor([15.0, 50.0])).square().mean().backward()
    assert mixer.level_k.grad.any() and mixer.level_lambda.grad.any()
