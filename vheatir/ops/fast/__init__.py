"""Less time and memory, mostly at inference: importing this package plugs it into the definitions.

- ``dct``: the transform by SciPy and in place; in training as well.
- ``heat_conduction``: the HCO module strip by strip, in place.
- ``decay``: the decay exp(-k w^2), cached between calls.
- ``strips``: cache blocking, and a thread pool.
- ``fused``, ``triton_kernels``: LayerNorm with its neighbours, and the decay, in one pass each.

:mod:`vheatir.ops` imports this package, so that it is always active.
"""

from vheatir.ops.fast import dct, fused, heat_conduction

__all__ = ["dct", "fused", "heat_conduction"]
