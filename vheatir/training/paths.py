"""Where relative paths of option files lead."""

from __future__ import annotations

from pathlib import Path

from vheatir._paths import checkout_root, options_folder


def resolve_path(path: str | Path) -> Path:
    """Make a path of an option file absolute.

    A relative path means the one below the repository's root where that exists, and otherwise the
    one below the working directory.
    """
    given = Path(path).expanduser()
    root = checkout_root()
    if not given.is_absolute() and root is not None and (root / given).exists():
        return root / given
    return Path.cwd() / given


def resolve_list(path: str | Path) -> Path:
    """Make the path of a list of file names absolute: as :func:`resolve_path`.

    The project's own lists lie in ``options/lists``, which an installed package carries.
    """
    own = options_folder().parent / path
    return own if own.is_file() else resolve_path(path)


def resolve_output(path: str | Path) -> Path:
    """Make a folder to write to absolute: below the repository's root, else the working directory.

    What is written does not depend on what exists: a resumed run must find what it wrote.
    """
    return (checkout_root() or Path.cwd()) / Path(path).expanduser()
