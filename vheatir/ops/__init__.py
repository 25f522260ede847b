"""The 2-D DCT and the Heat Conduction Operator built on it."""

from vheatir.ops import fast
from vheatir.ops.dct import dct2, idct2
from vheatir.ops.heat_conduction import HeatConduction2d, heat_conduction

__all__ = ["HeatConduction2d", "dct2", "fast", "heat_conduction", "idct2"]
