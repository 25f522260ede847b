"""LayerNorm over channels, with the faster versions of :mod:`vheatir.ops.fast`."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.ops.dispatch import accelerated


class LayerNorm(nn.LayerNorm):
    """:class:`torch.nn.LayerNorm` with an optional SiLU gate, in the dtype of its weights."""

    @accelerated
    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """Return ``LN(x)`` or ``LN(x) * silu(gate)``.

        Args:
            x: (..., C), normalised over C.
            gate: shape of x, or None.

        Returns:
            The same shape.
        """
        y = super().forward(x.to(self.weight.dtype))
        return y if gate is None else y * F.silu(gate)
