"""A photograph's way through the package stays short: ``tools/walk.py``."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

WALK = Path(__file__).resolve().parents[1] / "tools" / "walk.py"


def test_a_photograph_passes_few_files() -> None:
    done = subprocess.run(
        [sys.executable, str(WALK), "photograph"], capture_output=True, text=True, timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *files, count = done.stdout.splitlines()
    assert count == f"{len(files)} files" and len(files) <= 15
    assert files[:2] == ["cli.py", "restore.py"] and "inference/restorer.py" in files
