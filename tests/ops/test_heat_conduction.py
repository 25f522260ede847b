"""The HCO against a finite-difference solution of the heat equation, and its invariants."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from vheatir.ops import dct2, heat_conduction, idct2
from vheatir.ops.heat_conduction import squared_frequency

Field = NDArray[np.float64]


def noise(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> Tensor:
    return torch.randn(
        shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    ).to(dtype)


def plate(height: int, width: int, refine: int = 1) -> Field:
    """A smooth, asymmetric temperature with insulated edges, at cell centres of 1/refine pixels."""
    y = math.pi * (np.arange(height * refine) + 0.5) / (height * refine)
    x = math.pi * (np.arange(width * refine) + 0.5) / (width * refine)
    return np.exp(np.cos(y))[:, None] * np.sin(2 * np.cos(x) + 1)[None, :] + np.cos(3 * y)[:, None]


def finite_differences(u: Field, time: float, cell: float) -> Field:
    """Explicit Euler steps of du/dt = u_xx + u_yy; no heat flows through the border."""
    steps = math.ceil(time / (0.2 * cell**2))  # stable below 0.25
    rate = time / steps / cell**2
    for _ in range(steps):
        flow_y = np.pad(np.diff(u, axis=0), ((1, 1), (0, 0)))
        flow_x = np.pad(np.diff(u, axis=1), ((0, 0), (1, 1)))
        u = u + rate * (np.diff(flow_y, axis=0) + np.diff(flow_x, axis=1))
    return u


@pytest.mark.parametrize(("height", "width", "k"), [(24, 17, 4.0), (15, 32, 12.0), (9, 9, 0.5)])
def test_agrees_with_finite_differences(height: int, width: int, k: float) -> None:
    refine = 5  # odd, so that every pixel's centre is the centre of a fine cell
    fine = finite_differences(plate(height, width, refine), k, 1 / refine)
    expected = fine[refine // 2 :: refine, refine // 2 :: refine]
    start = plate(height, width)
    actual = heat_conduction(torch.from_numpy(start), k).numpy()
    # the fine grid's own truncation error, relative to the range of temperatures, is up to 1.2e-4
    assert np.abs(actual - expected).max() < 2e-4 * np.ptp(start)
    assert np.abs(actual - start).max() > 0.05 * np.ptp(start)  # the temperature has changed


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_no_diffusivity_changes_nothing(dtype: torch.dtype, device: torch.device) -> None:
    u = noise(2, 3, 19, 26, dtype=dtype).to(device)
    result = heat_conduction(u, 0.0)
    assert result.dtype == dtype
    torch.testing.assert_close(result, u)


def test_the_mean_is_conserved(device: torch.device) -> None:
    u = noise(2, 3, 19, 26).to(device)
    k = 30 * torch.rand(3, 19, 26, dtype=torch.float64, device=device)
    torch.testing.assert_close(heat_conduction(u, k).mean((-2, -1)), u.mean((-2, -1)))


def test_long_heating_leaves_only_the_mean() -> None:
    u = noise(1, 8, 11)
    torch.testing.assert_close(heat_conduction(u, 1e6), u.mean((-2, -1), True).expand_as(u))


def test_constant_diffusivity_keeps_between_the_extremes() -> None:
    u = (plate(20, 30) > 0).astype(np.float64)
    result = heat_conduction(torch.from_numpy(u), 9.0)
    assert result.min() >= -1e-3 and result.max() <= 1 + 1e-3


def test_heating_twice_is_heating_for_twice_as_long() -> None:
    u = noise(2, 16, 23)
    k = 5 * torch.rand(16, 23, dtype=torch.float64)
    twice = heat_conduction(heat_conduction(u, k), k)
    torch.testing.assert_close(twice, heat_conduction(u, 2 * k))


@pytest.mark.parametrize("backend", ["matmul", "fft"])
@pytest.mark.parametrize("dim", [(0, 1), (1, 2), (2, 1), (-1, 0)])
def test_k_belongs_to_the_frequencies_of_its_dimensions(dim: tuple[int, int], backend: str) -> None:
    u = noise(6, 9, 7)
    k = 3 * torch.rand(6, 9, 7, dtype=torch.float64)
    rows, columns = dim[0] % 3, dim[1] % 3
    spectrum = dct2(u, dim)
    expected = torch.empty_like(spectrum)
    for index in np.ndindex(*u.shape):
        w_n = index[rows] * math.pi / u.shape[rows]
        w_m = index[columns] * math.pi / u.shape[columns]
        expected[index] = spectrum[index] * math.exp(-k[index] * (w_n**2 + w_m**2))
    actual = heat_conduction(u, k, dim, backend)  # type: ignore[arg-type]
    torch.testing.assert_close(actual, idct2(expected, dim))


def test_gradcheck() -> None:
    u = noise(2, 5, 4).requires_grad_()
    k = torch.rand(5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(heat_conduction, (u, k))
    assert torch.autograd.gradgradcheck(heat_conduction, (u, k))


def test_squared_frequency_is_physical() -> None:
    once, twice = squared_frequency(8, 6), squared_frequency(16, 12)
    torch.testing.assert_close(once, twice[::2, ::2])  # every second cosine of twice the size
