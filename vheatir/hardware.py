"""Device selection, hardware capabilities and memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from vheatir.errors import VHeatIRError

_CGROUP = Path("/sys/fs/cgroup")
# In messages of PyTorch and, the last two, of OpenVINO.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "failed to allocate",
    "bad_alloc",
)


def pick_device(device: str | torch.device = "auto") -> torch.device:
    """Return the torch device named ``device``; ``"auto"`` is CUDA, else MPS, else the CPU.

    Raises:
        VHeatIRError: the device is unknown or not available.
    """
    found = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    available = [*(kind for kind, usable in found.items() if usable), "cpu"]
    if device == "auto":
        return torch.device(available[0])
    with suppress(RuntimeError, AssertionError):
        requested = torch.device(device)
        if requested.type in available:
            torch.empty(1, device=requested)  # raises if the device index is out of range
            return requested
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


def available_memory(device: torch.device) -> int | None:
    """Return the memory available on ``device`` in bytes; None if unknown.

    On the CPU, under Linux only: the smaller of the kernel's ``MemAvailable`` and what remains
    below the container's limit.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    found = (_proc_bytes("meminfo", "MemAvail"), _cgroup_available())
    return min((value for value in found if value is not None), default=None)


def _proc_bytes(file: str, entry: str) -> int | None:
    """Return the bytes of the entry that starts with ``entry`` in a file of Linux's ``/proc``."""
    try:
        lines = Path("/proc", file).read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _cgroup_available() -> int | None:
    """Return the memory left below the cgroup v2 limit; file cache counts as free."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))  # "max" for none
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        stat = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = sum(int(s.split()[1]) for s in stat if s.split()[0].endswith("active_file"))
    except (OSError, ValueError, IndexError):
        return None
    return max(limit - used + cached, 0)


def memory_used(device: torch.device) -> int | None:
    """Return the peak memory use in bytes; None if unknown.

    On the CPU, under Linux only: peak resident size of the process.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    return _proc_bytes("self/status", "VmHWM")


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of PyTorch or OpenVINO says that memory is insufficient."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return any(sign in text for sign in _OUT_OF_MEMORY)
