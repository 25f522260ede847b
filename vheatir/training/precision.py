"""In which precision a device computes fastest."""

from __future__ import annotations

import torch

from vheatir.errors import VHeatIRError
from vheatir.hardware import has_native_bf16


def pick_device(name: str = "auto") -> torch.device:
    """Return the device called ``name``; ``"auto"`` takes CUDA, else MPS, else the CPU.

    Raises:
        VHeatIRError: the device is not there.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if name == "auto":
        name = next((kind for kind, there in found.items() if there), "cpu")
    kind = name.split(":")[0]
    if kind not in ("cpu", *found) or not found.get(kind, True):
        there = ["auto", "cpu", *(kind for kind, there in found.items() if there)]
        raise VHeatIRError(f"device {name!r} is not available here: choose {', '.join(there)}")
    return torch.device(name)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the dtype to autocast to, or None for plain float32.

    Args:
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``: bf16 where the hardware multiplies it
            natively. A CPU without such units is up to eight times slower in bf16 than in float32.
        device: where training runs.
    """
    if precision == "bf16" or (precision == "auto" and has_native_bf16(device)):
        return torch.bfloat16
    return None
