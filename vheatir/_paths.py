"""Where the project's files lie, and how to keep them from shadowing other packages.

Python puts a script's own folder at the head of ``sys.path``. For ``vheatir/train.py`` that makes
``test.py`` and ``data/`` importable as ``test`` and ``data``; for ``app.py`` it turns
the top-level ``datasets/`` into a namespace package, which makes libraries believe that Hugging
Face's ``datasets`` is installed. A script therefore begins with ::

    sys.path.insert(0, <folder above vheatir/>)
    from vheatir import _paths
    _paths.hide_own_folders()

Once ``vheatir`` itself is imported, its modules are found through ``vheatir.__path__``, and the
folder is needed no more.
"""

from __future__ import annotations

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def checkout_root() -> Path | None:
    """Return the top folder of the checkout the package lies in; None for an installed wheel."""
    root = PACKAGE.parent
    return root if (root / "options").is_dir() and (root / "pyproject.toml").is_file() else None


def options_folder() -> Path:
    """Return the folder of the option files: the checkout's, or the copy inside the wheel."""
    root = checkout_root()
    return PACKAGE / "options" if root is None else root / "options"


def docs_folder() -> Path:
    """Return the folder of the measured results: the checkout's, or the copy inside the wheel."""
    root = checkout_root()
    return PACKAGE / "docs" if root is None else root / "docs"


def hide_own_folders() -> None:
    """Take the package's folder and the checkout's top folder off ``sys.path``.

    ``vheatir`` has to be imported by then, which it is where this function can be called. An
    installed package keeps its folder: that one holds all the other packages.
    """
    hidden = {PACKAGE, checkout_root()}
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in hidden]
