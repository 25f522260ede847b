"""Which device computes, and what it computes natively."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    """Whether a device multiplies bfloat16 in hardware (compute capability 8.0; AMX, AVX-512 BF16).

    Without that bfloat16 is emulated: on a CPU up to eight times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # torch offers no stable public query; Linux lists the processor's features.
        info = Path("/proc/cpuinfo")
        features = info.read_text().split() if info.is_file() else []
        return "amx_bf16" in features or "avx512_bf16" in features
    return False


@contextmanager
def tf32_products(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Let float32 products on a GPU take TF32 while the rest computes in half precision.

    The transforms stay in float32 under autocast. TF32 keeps 10 bits of mantissa, where bfloat16
    keeps 7, and makes these products eight times faster on an H100.

    Args:
        device: where the work runs.
        dtype: of autocast; for float32 or None nothing changes.
    """
    if device.type != "cuda" or dtype in (None, torch.float32):
        yield
        return
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)
