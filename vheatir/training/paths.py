"""Resolve relative paths in option files."""

from __future__ import annotations

from pathlib import Path

from vheatir._paths import checkout_root, options_folder


def resolve_path(path: str | Path) -> Path:
    """Make an input path of an option file absolute.

    A relative path is resolved against the repository root if it exists there, otherwise against
    the working directory.
    """
    given = Path(path).expanduser()
    root = checkout_root()
    if not given.is_absolute() and root is not None and (root / given).exists():
        return root / given
    return Path.cwd() / given


def resolve_list(path: str | Path) -> Path:
    """Make the path of a list of file names absolute, as :func:`resolve_path` does.

    The project's own lists are in ``options/lists``, which the installed package includes.
    """
    own = options_folder().parent / path
    return own if own.is_file() else resolve_path(path)


def resolve_output(path: str | Path) -> Path:
    """Make an output folder absolute: relative to the repository root, else the working directory.

    The result does not depend on which files exist, so that a resumed run finds its output.
    """
    return (checkout_root() or Path.cwd()) / Path(path).expanduser()
