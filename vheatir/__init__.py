"""vHeatIR: image restoration by heat conduction.

Public names are imported lazily, so that ``import vheatir`` is fast and needs no training or demo
dependencies.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vheatir.archs import VHeatIR, VHeatIRUNet, build_network
    from vheatir.inference import Restorer
    from vheatir.metrics import psnr, psnrb, ssim
    from vheatir.ops import HeatConduction2d, dct2, heat_conduction, idct2
    from vheatir.weights import load_weights, save_weights
    from vheatir.zoo import load_model

__version__ = "0.2.0"

_MODULE_OF = {
    "HeatConduction2d": "vheatir.ops",
    "Restorer": "vheatir.inference",
    "VHeatIR": "vheatir.archs",
    "VHeatIRUNet": "vheatir.archs",
    "build_network": "vheatir.archs",
    "dct2": "vheatir.ops",
    "heat_conduction": "vheatir.ops",
    "idct2": "vheatir.ops",
    "load_model": "vheatir.zoo",
    "load_weights": "vheatir.weights",
    "psnr": "vheatir.metrics",
    "psnrb": "vheatir.metrics",
    "save_weights": "vheatir.weights",
    "ssim": "vheatir.metrics",
}

__all__ = [
    "HeatConduction2d",
    "Restorer",
    "VHeatIR",
    "VHeatIRUNet",
    "__version__",
    "build_network",
    "dct2",
    "heat_conduction",
    "idct2",
    "load_model",
    "load_weights",
    "psnr",
    "psnrb",
    "save_weights",
    "ssim",
]


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
