"""Checkouts of the programs that the scripts of this folder run."""

from __future__ import annotations

import subprocess
from pathlib import Path


def commit_of(clone: Path) -> str:
    """Return the commit of a checkout, or ``(unknown commit)``."""
    command = ["git", "-C", str(clone), "rev-parse", "HEAD"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else "(unknown commit)"
