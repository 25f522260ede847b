"""Available memory, and the tile size chosen for it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vheatir import Restorer, hardware
from vheatir.inference import restorer


def test_the_kernel_is_asked() -> None:
    available = hardware.available_memory(torch.device("cpu"))
    if available is None:
        pytest.skip("only known under Linux")
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < available <= total


def test_a_containers_limit_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hardware, "_CGROUP", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("700000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 90000\nactive_file 10000\n")
    assert hardware.available_memory(torch.device("cpu")) == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert hardware.available_memory(torch.device("cpu")) != 400_000


@pytest.mark.parametrize(
    ("available", "tile"), [(None, None), (10**9, None), (9 * 10**7, 128), (2 * 10**7, 64), (0, 64)]
)
def test_little_memory_makes_small_tiles(
    monkeypatch: pytest.MonkeyPatch, available: int | None, tile: int | None
) -> None:
    monkeypatch.setattr(restorer, "available_memory", lambda device: available)
    image = np.full((200, 260), 0.5, np.float32)
    result = Restorer("denoise_gray_small", "cpu").restore_detailed(image, 0)
    assert result.tile == tile
