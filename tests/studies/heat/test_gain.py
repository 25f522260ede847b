"""Spectral gains and heavy tails against scipy and closed forms."""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch

from studies.heat.mixers.gain import HeavyTailedHeat2d, SpectralGain2d


def test_gains_start_as_the_identity() -> None:
    u = torch.randn(1, 11, 6, 3, dtype=torch.float64)
    torch.testing.assert_close(SpectralGain2d(3).double().mix(u), u)


def test_gains_multiply_the_frequencies_of_an_image_as_large_as_the_grid() -> None:
    torch.manual_seed(0)
    mixer = SpectralGain2d(2, grid=8).double()
    mixer.gain.data.normal_()
    u = torch.randn(1, 8, 8, 2, dtype=torch.float64)
    for c in range(2):
        spectrum = scipy.fft.dctn(u[0, ..., c].numpy(), norm="ortho")
        expected = scipy.fft.idctn(spectrum * mixer.gain[..., c].detach().numpy(), norm="ortho")
        np.testing.assert_allclose(mixer.mix(u)[0, ..., c].detach(), expected, atol=1e-12)


def test_one_physical_frequency_has_one_gain_at_every_size() -> None:
    torch.manual_seed(0)
    mixer = SpectralGain2d(2, grid=8).double()
    mixer.gain.data.normal_()
    small, large = mixer.response(8, 8), mixer.response(24, 16)
    torch.testing.assert_close(large[::3, ::2], small)


def test_heavy_tails_against_the_spectrum_of_their_kernels() -> None:
    mixer = HeavyTailedHeat2d(4).double()
    u = torch.randn(1, 9, 14, 4, dtype=torch.float64)
    rows, columns = np.pi * np.arange(9) / 9, np.pi * np.arange(14) / 14
    squared = rows[:, None] ** 2 + columns[None, :] ** 2
    result = mixer.mix(u).detach().numpy()
    for c, k in enumerate(mixer.log_k.exp().detach().numpy()):
        decay = np.exp(-k * (squared if c < 2 else np.sqrt(squared)))
        spectrum = scipy.fft.dctn(u[0, ..., c].numpy(), norm="ortho")
        expected = scipy.fft.idctn(spectrum * decay, norm="ortho")
        np.testing.assert_allclose(result[0, ..., c], expected, atol=1e-6)
    np.testing.assert_allclose(result.mean((1, 2)), u.mean((1, 2)), atol=1e-12)
