"""Where relative paths of option files lead."""

from __future__ import annotations

from pathlib import Path


def checkout_root() -> Path | None:
    """Return the root of the cloned repository, or None for a package installed elsewhere."""
    root = Path(__file__).resolve().parents[2]
    found = (root / "options" / "_base").is_dir() and (root / "vheatir").is_dir()
    return root if found else None


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
