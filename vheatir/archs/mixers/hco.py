"""``mixer: hco``: the paper's Heat Conduction Operator, over the whole image."""

from __future__ import annotations

from vheatir.ops import HeatConduction2d


class HeatConductionMixer(HeatConduction2d):
    """:class:`vheatir.ops.HeatConduction2d` under the mixers' signature."""

    def __init__(self, dim: int, inner_dim: int | None = None, index: int = 0) -> None:
        super().__init__(dim, inner_dim)
