"""Device selection and hardware capabilities."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vheatir.errors import VHeatIRError


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device named ``device``; ``"auto"`` is CUDA, else MPS, else the CPU.

    Raises:
        VHeatIRError: the device is unknown or not available.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available = [*(kind for kind, usable in found.items() if usable), "cpu"]
    if device == "auto":
        return torch.device(available[0])
    try:
        requested = torch.device(device)
        if requested.type in available:
            torch.empty(1, device=requested)  # raises if the device index is out of range
            return requested
    except (RuntimeError, AssertionError):
        pass
    raise VHeatIRError(
        f"device {str(device)!r} is not available here: choose {', '.join(['auto', *available])}"
    )


def has_native_bf16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 in hardware.

    That takes compute capability 8.0 on an NVIDIA GPU, and AMX or AVX-512 BF16 on a CPU. Without it
    bfloat16 is emulated, on a CPU up to eight times slower than float32.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        # PyTorch has no stable public query; Linux lists the CPU features.
        info = Path("/proc/cpuinfo")
        features = info.read_text().split() if info.is_file() else []
        return "amx_bf16" in features or "avx512_bf16" in features
    return False


@contextmanager
def tf32_products(device: torch.device, dtype: torch.dtype | None) -> Iterator[None]:
    """Enable TF32 for float32 matrix products on a GPU during half-precision autocast.

    The DCTs stay in float32 under autocast. TF32 keeps 10 mantissa bits to bfloat16's 7, and makes
    these products eight times faster on an H100.

    Args:
        device: the device in use.
        dtype: the dtype of autocast; no effect for float32 or None.
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
