"""The one exception type that people are meant to read."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class VHeatIRError(Exception):
    """A problem the user can solve; its message is one line.

    The message says what was wrong, what is allowed and what to do. Entry points print it without
    a traceback and exit with status 2.
    """


class UnsupportedImageError(VHeatIRError):
    """A sound image file of a kind that is not restored: raw, HDR, or a package is missing."""


def unknown_name(kind: str, name: object, allowed: Iterable[str]) -> VHeatIRError:
    """Build the error for a name that is not among ``allowed``, with the nearest one suggested.

    Args:
        kind: what the name stands for, such as ``"option"`` or ``"mixer"``.
        name: what was given.
        allowed: every valid name.
    """
    names = sorted(allowed)
    # "adamw" is nearer to "AdamW" than to "Adam": compare without regard to case
    folded = {known.casefold(): known for known in names}
    near = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return VHeatIRError(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(names)}")


def run_entry_point(function: Callable[[], int], interrupted: str, extra: str | None = None) -> int:
    """Run a script's work; say in one line what the user can mend.

    Args:
        function: the work; returns the exit status.
        interrupted: what to say after Ctrl-C.
        extra: the package's extra that brings what the script needs, such as ``"train"``.

    Returns:
        The function's status; 2 for a VHeatIRError or a package that is not installed, 130 after
        Ctrl-C.
    """
    try:
        return function()
    except VHeatIRError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: {interrupted}\n")
        return 130
    except ModuleNotFoundError as error:
        if extra is None or error.name is None or error.name.split(".")[0] == "vheatir":
            raise
        sys.stderr.write(
            f"error: the package {error.name!r} is not installed: pip install 'vheatir[{extra}]'\n"
        )
        return 2
