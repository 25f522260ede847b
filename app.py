"""Restore images in the browser: ``python app.py`` (``--help`` lists the options)."""

from __future__ import annotations

import sys
from pathlib import Path

# Runs from a clone that is not installed: see vheatir/_paths.py.
sys.path.insert(0, str(Path(__file__).resolve().parent))
from vheatir import _paths  # noqa: E402

_paths.hide_own_folders()

from vheatir.demo import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
