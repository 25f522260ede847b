"""vHeatIR: image restoration by heat conduction.

Public names are imported lazily, so that ``import vheatir`` is fast and needs no training or demo
dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vheatir.archs import VHeatIR as VHeatIR
    from vheatir.archs import VHeatIRUNet as VHeatIRUNet
    from vheatir.archs import build_network as build_network
    from vheatir.hub import from_pretrained as from_pretrained
    from vheatir.hub import save_pretrained as save_pretrained
    from vheatir.inference import Restorer as Restorer
    from vheatir.metrics import psnr as psnr
    from vheatir.metrics import psnrb as psnrb
    from vheatir.metrics import ssim as ssim
    from vheatir.ops import HeatConduction2d as HeatConduction2d
    from vheatir.ops import dct2 as dct2
    from vheatir.ops import heat_conduction as heat_conduction
    from vheatir.ops import idct2 as idct2
    from vheatir.weights import load_weights as load_weights
    from vheatir.weights import save_weights as save_weights
    from vheatir.zoo import load_model as load_model

__version__ = "0.2.0"

_NAMES_IN = {
    "archs": ["VHeatIR", "VHeatIRUNet", "build_network"],
    "hub": ["from_pretrained", "save_pretrained"],
    "inference": ["Restorer"],
    "metrics": ["psnr", "psnrb", "ssim"],
    "ops": ["HeatConduction2d", "dct2", "heat_conduction", "idct2"],
    "weights": ["load_weights", "save_weights"],
    "zoo": ["load_model"],
}
_MODULE_OF = {name: f"vheatir.{module}" for module, names in _NAMES_IN.items() for name in names}

__all__ = ["__version__", *_MODULE_OF]


def __getattr__(name: str) -> Any:
    """Import a public name on first use (PEP 562)."""
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(_MODULE_OF[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, imported or not."""
    return sorted({*globals(), *__all__})
