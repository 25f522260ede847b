"""LayerNorm over channels, with the faster versions of :mod:`vheatir.ops.fast`."""

from __future__ import annotations

from torch import Tensor, nn

from vheatir.ops.dispatch import accelerated


class LayerNorm(nn.LayerNorm):
    """:class:`torch.nn.LayerNorm`, computed in the dtype of its weights."""

    @accelerated
    def forward(self, x: Tensor) -> Tensor:
        """Normalise (..., C) over C; return the same shape."""
        return super().forward(x.to(self.weight.dtype))
