"""Locations of the project's files, and removal of its folders from ``sys.path``.

Python prepends the folder of a script to ``sys.path``. For ``vheatir/train.py`` that makes
``test.py`` and ``data/`` importable as ``test`` and ``data``. For ``app.py`` it turns the top-level
``datasets/`` into a namespace package, so that libraries detect Hugging Face's ``datasets`` where
it is not installed. A script therefore begins with ::

    sys.path.insert(0, <folder above vheatir/>)
    from vheatir import _paths
    _paths.hide_own_folders()

Once ``vheatir`` is imported, its modules are found through ``vheatir.__path__``, and the folder is
no longer needed.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def checkout_root() -> Path | None:
    """Return the root folder of the checkout that contains the package; None for a wheel."""
    root = PACKAGE.parent
    return root if (root / "options").is_dir() and (root / "pyproject.toml").is_file() else None


def options_folder() -> Path:
    """Return the folder of the option files: in the checkout, or the copy inside the wheel."""
    return (checkout_root() or PACKAGE) / "options"


def docs_folder() -> Path:
    """Return the folder of the measured results: in the checkout, or the copy inside the wheel."""
    return (checkout_root() or PACKAGE) / "docs"


def hide_own_folders() -> None:
    """Remove the package folder and the root folder of the checkout from ``sys.path``.

    ``vheatir`` must be imported first, which is the case wherever this function can be called. For
    an installed wheel, site-packages stays on the path.
    """
    hidden = {PACKAGE, checkout_root()}
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in hidden]
