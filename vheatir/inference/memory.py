"""Available and used memory."""

from __future__ import annotations

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def available_memory(device: torch.device) -> int | None:
    """Return the memory available on ``device`` in bytes; None if unknown.

    On the CPU, under Linux only: the smaller of the kernel's ``MemAvailable`` and what remains
    below the container's limit.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    known = [value for value in (_system_available(), _cgroup_available()) if value is not None]
    return min(known, default=None)


def _system_available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
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
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
