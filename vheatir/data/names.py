"""Lists of file names that select the images of a dataset."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePath

from vheatir.errors import VHeatIRError
from vheatir.image_io import HEIF_SUFFIXES, is_image_name

_WILDCARDS = frozenset("*?[")


class NameList:
    """A set of file names, from list files and patterns.

    Args:
        entries: each the path of a ``.txt`` file with one entry per line (lines starting with ``#``
            are comments); a file name, such as ``"12003.jpg"``, whose image suffix is ignored, so
            that a list applies to converted files too; or a file name pattern, such as
            ``"sunhays_*"``. A name with brackets is both. Folders are ignored, so that a list
            applies to any subset or arrangement of a collection. Case-sensitive.

    Raises:
        VHeatIRError: a list file is missing or empty.
    """

    def __init__(self, entries: Sequence[str]) -> None:
        self._names: set[str] = set()
        self._patterns: list[str] = []
        self._key_patterns: list[str] = []
        for entry in entries:
            is_list = entry.endswith(".txt")
            for item in read_lines(Path(entry), "list of file names") if is_list else [entry]:
                name = PurePath(item).name
                self._names.add(_without_image_suffix(name))
                if _WILDCARDS & set(name):
                    self._patterns.append(name)
                    self._key_patterns += [name, PurePath(name).stem]

    def __contains__(self, name: str) -> bool:
        """Whether an image is listed, given its path or its LMDB key, which has no suffix."""
        is_key = "::" in name
        own = PurePath(name.rpartition("::")[2]).name
        if (own if is_key else _without_image_suffix(own)) in self._names:
            return True
        patterns = self._key_patterns if is_key else self._patterns
        return any(fnmatchcase(own, each) for each in patterns)


def _without_image_suffix(name: str) -> str:
    path = PurePath(name)
    return path.stem if is_image_name(path, HEIF_SUFFIXES) else name


def read_lines(path: Path, kind: str) -> list[str]:
    """Return the lines of a list of file names, without blank ones and comments.

    Args:
        path: a text file.
        kind: what it is, for error messages.

    Raises:
        VHeatIRError: the file is missing, no text, or empty.
    """
    lines = [line.strip() for line in read_text(path, kind).splitlines()]
    items = [line for line in lines if line and not line.startswith("#")]
    if not items:
        raise VHeatIRError(f"{kind} {str(path)!r} is empty: give one file name per line")
    return items


def read_text(path: Path, kind: str) -> str:
    """Return the content of a UTF-8 text file; arguments as :func:`read_lines`.

    Raises:
        VHeatIRError: the file is missing, or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not a UTF-8 text file"
        raise VHeatIRError(f"{kind} {str(path)!r} cannot be read: {reason}") from None
