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
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        wanted = torch.device(device)
        torch.empty(1, device=wanted)
    except (RuntimeError, AssertionError):
        raise VHeatIRError(
            f"device {str(device)!r} is not available here: give auto, cpu, cuda, cuda:1 or mps"
        ) from None
    return wanted


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
