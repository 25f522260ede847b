"""How much memory there is to work with."""

from __future__ import annotations

from pathlib import Path

import torch

_CGROUP = Path("/sys/fs/cgroup")


def memory_at_hand(device: torch.device) -> int | None:
    """Return the bytes that a computation on ``device`` can still take; None if unknown.

    On the CPU under Linux: what the kernel calls available, or what the container's limit leaves
    if that is less.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    if device.type != "cpu":
        return None
    known = [value for value in (_available(), _left_in_cgroup()) if value is not None]
    return min(known, default=None)


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvail"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _left_in_cgroup() -> int | None:
    """What version 2 of Linux's control groups leaves: its file cache can be dropped."""
    try:
        limit = int((_CGROUP / "memory.max").read_text(encoding="ascii"))  # or "max": none
        used = int((_CGROUP / "memory.current").read_text(encoding="ascii"))
        stat = (_CGROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        cached = sum(int(s.split()[1]) for s in stat if s.split()[0].endswith("active_file"))
    except (OSError, ValueError, IndexError):
        return None
    return max(limit - used + cached, 0)


def memory_used(device: torch.device) -> int | None:
    """Return the largest memory the computation has held, in bytes; None if unknown.

    On the CPU: of the whole process, under Linux.
    """
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None
