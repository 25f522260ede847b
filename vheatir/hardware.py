"""Which device computes, and what it computes natively."""

from __future__ import annotations

from pathlib import Path

import torch

from vheatir.errors import VHeatIRError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device that ``device`` names; ``"auto"``: CUDA, else MPS, else the CPU.

    Raises:
        VHeatIRError: the device is unknown or not there.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    there = [*(kind for kind, usable in found.items() if usable), "cpu"]
    if device == "auto":
        return torch.device(there[0])
    try:
        wanted = torch.device(device)
        if wanted.type in there:
            torch.empty(1, device=wanted)  # its number may be wrong still
            return wanted
    except (RuntimeError, AssertionError):
        pass
    raise VHeatIRError(
        f"device {str(device)!r} is not available here: choose {', '.join(['auto', *there])}"
    )


def has_native_bf16(device: torch.device) -> bool:
    """Tell whether a device has matrix units for bfloat16.

    Without them bfloat16 is emulated: on a CPU up to eight times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # torch offers no stable public query; Linux lists the processor's features.
        info = Path("/proc/cpuinfo")
        return info.is_file() and "amx_bf16" in info.read_text()
    return False
