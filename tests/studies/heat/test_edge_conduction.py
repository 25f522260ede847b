"""Implicit heat steps against dense float64 solves, and their physical invariants."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from studies.heat.mixers.edge_conduction import edge_stopping_heat, implicit_heat_step


def laplacian(g: np.ndarray) -> np.ndarray:
    """Graph Laplacian L_g of a chain with conductances g between neighbours."""
    size = len(g) + 1
    difference = np.diff(np.eye(size), axis=0)
    return difference.T @ np.diag(g) @ difference


@given(size=st.integers(1, 40), largest=st.floats(-6, 6), seed=st.integers(0, 2**32 - 1))
def test_a_chain_is_the_dense_solve(size: int, largest: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    u, g = rng.normal(size=size), 10 ** rng.uniform(-8, largest, size - 1)
    expected = np.linalg.solve(np.eye(size) + laplacian(g), u)
    result = implicit_heat_step(torch.from_numpy(u)[None], torch.from_numpy(g)[None])[0]
    # the accuracy of the dense solve is limited by its condition number, up to 1 + 4 * 10^6
    np.testing.assert_allclose(result, expected, atol=1e-7)
    assert result.mean().item() == pytest.approx(u.mean(), abs=1e-9)


def test_two_dimensions_are_the_mean_of_rows_and_columns() -> None:
    rng = np.random.default_rng(0)
    u = rng.normal(size=(5, 4))
    rows, columns = rng.uniform(0, 3, (4, 4)), rng.uniform(0, 3, (5, 3))
    down = np.stack(
        [np.linalg.solve(np.eye(5) + 2 * laplacian(rows[:, j]), u[:, j]) for j in range(4)], 1
    )
    across = np.stack(
        [np.linalg.solve(np.eye(4) + 2 * laplacian(columns[i]), u[i]) for i in range(5)]
    )
    result = edge_stopping_heat(*(torch.from_numpy(a)[None, ..., None] for a in (u, rows, columns)))
    np.testing.assert_allclose(result[0, ..., 0], (down + across) / 2, atol=1e-12)


def test_gradients() -> None:
    torch.manual_seed(0)
    u = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    g = torch.rand(2, 5, 3, dtype=torch.float64).mul_(4).requires_grad_()
    assert torch.autograd.gradcheck(implicit_heat_step, (u, g))
    u = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    rows = torch.rand(1, 3, 3, 2, dtype=torch.float64, requires_grad=True)
    columns = torch.rand(1, 4, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(edge_stopping_heat, (u, rows, columns))


@pytest.mark.parametrize("conductance", [0.0, 1.0, 1e8])
def test_no_value_leaves_the_range_and_the_mean_stays(conductance: float) -> None:
    torch.manual_seed(0)
    u = torch.rand(1, 30, 20, 3)
    rows = torch.full((1, 29, 20, 3), conductance)
    columns = torch.full((1, 30, 19, 3), conductance)
    result = edge_stopping_heat(u, rows, columns)
    assert result.min() >= u.min() - 1e-5 and result.max() <= u.max() + 1e-5
    torch.testing.assert_close(result.mean((1, 2)), u.mean((1, 2)))
    if conductance == 0:
        torch.testing.assert_close(result, u)


def test_single_precision_stays_near_double() -> None:
    torch.manual_seed(0)
    u, g = torch.randn(4, 300, 5), (torch.randn(4, 299, 5) * 4).exp()
    exact = implicit_heat_step(u.double(), g.double())
    error = (implicit_heat_step(u, g).double() - exact).abs().max()
    assert error < 1e-4
