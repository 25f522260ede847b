"""The HCO and its gradients in float32 and bfloat16 against float64."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vheatir.ops import HeatConduction2d, heat_conduction

# odd, prime, powers of two, a single row; they cover both backends
SIZES = [(1, 127), (7, 7), (13, 17), (16, 16), (31, 64), (53, 97), (96, 64), (160, 101)]
LIMITS = {torch.float32: 1e-5, torch.bfloat16: 1e-2}


def example(height: int, width: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Pixels between 0 and 1, k up to 20 pixels squared, and a gradient, all exact in ``dtype``."""
    generator = torch.Generator().manual_seed(height * width)
    u = torch.rand(2, height, width, 3, generator=generator).to(dtype)
    k = 20 * torch.rand(8, 8, 3, generator=generator)
    gradient = torch.randn(2, height, width, 3, generator=generator).to(dtype)
    return u, k, gradient


def error(actual: Tensor, expected: Tensor) -> float:
    """Relative error in the Euclidean norm."""
    return float((actual.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_modules_operator(height: int, width: int, dtype: torch.dtype) -> None:
    """k is float32 for any pixel dtype, and so is the result."""
    module = HeatConduction2d(3)
    u, k, gradient = example(height, width, dtype)
    leaves = u.clone().requires_grad_(), k.clone().requires_grad_()
    exact = u.double().requires_grad_(), k.double().requires_grad_()
    expected = module.conduct(*exact)
    expected.backward(gradient.double())
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        actual = module.conduct(*leaves)
        with torch.no_grad():
            inferred = module.eval().conduct(u, k)
    actual.backward(gradient.to(actual.dtype))
    assert actual.dtype == torch.float32
    for result in (actual, inferred):
        assert error(result.detach(), expected.detach()) < LIMITS[dtype]
    for leaf, reference in zip(leaves, exact, strict=True):
        assert leaf.grad is not None and reference.grad is not None
        assert error(leaf.grad, reference.grad) < LIMITS[dtype]


@pytest.mark.parametrize("backend", ["matmul", "fft"])
@pytest.mark.parametrize("dtype", LIMITS, ids=str)
@pytest.mark.parametrize(("height", "width"), SIZES)
def test_the_plain_operator(height: int, width: int, dtype: torch.dtype, backend: str) -> None:
    """The result is rounded to the pixels' dtype."""
    u, _, gradient = example(height, width, dtype)
    leaf, exact = u.clone().requires_grad_(), u.double().requires_grad_()
    expected = heat_conduction(exact, 4.5, (1, 2))
    expected.backward(gradient.double())
    actual = heat_conduction(leaf, 4.5, (1, 2), backend)  # type: ignore[arg-type]
    actual.backward(gradient)
    assert actual.dtype == dtype
    assert leaf.grad is not None and exact.grad is not None
    assert error(actual.detach(), expected.detach()) < LIMITS[dtype]
    assert error(leaf.grad, exact.grad) < LIMITS[dtype]
