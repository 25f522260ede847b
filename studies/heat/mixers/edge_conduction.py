r"""Heat conduction with spatially varying conductivity, which stops at edges.

One implicit Euler step of the diffusion equation :math:`u_t = \mathrm{div}(g \nabla u)` along one
dimension solves :math:`(I + L_g)\, y = u`. L_g is the Laplacian of a chain whose neighbours i and
i + 1 exchange heat through the conductance g_i. The system is symmetric and tridiagonal: O(N),
stable for any g >= 0. Two dimensions use additive operator splitting (AOS; Weickert, ter Haar
Romeny and Viergever, "Efficient and reliable schemes for nonlinear diffusion filtering", IEEE TIP
1998).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


def implicit_heat_step(u: Tensor, conductance: Tensor) -> Tensor:
    """Implicit heat step along dimension 1: solve (I + L_g) y = u.

    Args:
        u: temperature, (B, N, ...), float32 or float64.
        conductance: g >= 0 between neighbours, (B, N - 1, ...), dtype of u.

    Returns:
        Temperature after the step, shape of u. The mean along dimension 1 is conserved.
    """
    return _Solve.apply(u, conductance)


def edge_stopping_heat(u: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Implicit heat step in two dimensions by additive operator splitting.

    Args:
        u: temperature, (B, H, W, C), float32 or float64.
        rows: conductance between vertical neighbours, (B, H - 1, W, C), >= 0.
        columns: conductance between horizontal neighbours, (B, H, W - 1, C), >= 0.

    Returns:
        ((I + 2 L_rows)^-1 u + (I + 2 L_columns)^-1 u) / 2, shape of u. The mean is conserved and
        all values stay within the range of u.
    """
    down = implicit_heat_step(u, 2 * rows)
    across = implicit_heat_step(u.transpose(1, 2), 2 * columns.transpose(1, 2))
    return (down + across.transpose(1, 2)) / 2


class _Solve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, g: Tensor) -> Tensor:
        y = _solve(u, g)
        ctx.save_for_backward(g, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        # The matrix is symmetric, so the adjoint is a solve with the same matrix.
        g, y = ctx.saved_tensors
        adjoint = _solve(grad, g)
        return adjoint, adjoint.diff(dim=1) * -y.diff(dim=1)


def _solve(u: Tensor, g: Tensor) -> Tensor:
    """Thomas algorithm: forward elimination, back substitution; pivots stay >= 1 for g >= 0."""
    last = u.shape[1] - 1
    if last == 0:
        return u.clone()
    values, conductances = u.unbind(1), g.unbind(1)
    shares, partial = [], []
    # Write the pivot as excess + conductance to the next: no subtraction, so no cancellation.
    excess = torch.ones_like(values[0])
    right = values[0]
    for i in range(last):
        share = conductances[i] / (excess + conductances[i])
        shares.append(share)
        partial.append(right / (excess + conductances[i]))
        right = values[i + 1] + share * right
        excess = 1 + share * excess
    result = [right / excess]
    for i in reversed(range(last)):
        result.append(partial[i] + shares[i] * result[-1])
    return torch.stack(result[::-1], 1)
