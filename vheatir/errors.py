"""Exceptions for problems that users can solve, and how scripts report them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class VHeatIRError(Exception):
    """An error that the user can solve, with a one-line message.

    The message states what is wrong, what is allowed and what to do. Entry points print it without
    a traceback and exit with status 2.
    """


class UnsupportedImageError(VHeatIRError):
    """A valid image file of an unsupported kind: raw, HDR, or its decoder is not installed."""


def unknown_name(
    kind: str, name: object, allowed: Iterable[str], also: Iterable[str] = ()
) -> VHeatIRError:
    """Build the error for a name that is not among ``allowed``; it suggests the closest match.

    Args:
        kind: what the name refers to, such as ``"option"`` or ``"mixer"``.
        name: the invalid name.
        allowed: all valid names, which are listed.
        also: more valid names, too many to list.
    """
    names = sorted(allowed)
    # compare case-insensitively: "adamw" is meant to match "AdamW" rather than "Adam"
    folded = {known.casefold(): known for known in (*also, *names)}
    near = get_close_matches(str(name).casefold(), folded, n=1, cutoff=0.5)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return VHeatIRError(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(names)}")


def report_error(message: object) -> int:
    """Print an error in one line on stderr; return the exit status of user errors, 2."""
    sys.stderr.write(f"error: {message}\n")
    return 2


def is_missing_dependency(error: ModuleNotFoundError) -> bool:
    """Whether the missing module belongs to another package, which the user can install."""
    return error.name is not None and error.name.split(".")[0] != "vheatir"


def run_entry_point(function: Callable[[], int], interrupted: str, extra: str | None = None) -> int:
    """Run the main function of a script; report user errors in one line on stderr.

    Args:
        function: main function; returns the exit status.
        interrupted: message after Ctrl-C.
        extra: extra of the package with the dependencies of the script, such as ``"train"``.

    Returns:
        The status returned by ``function``; 2 after a VHeatIRError or if a dependency is not
        installed, 130 after Ctrl-C.
    """
    try:
        return function()
    except VHeatIRError as error:
        return report_error(error)
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: {interrupted}\n")
        return 130
    except ModuleNotFoundError as error:
        if extra is None or not is_missing_dependency(error):
            raise
        return report_error(
            f"the package {error.name!r} is not installed: pip install 'vheatir[{extra}]'"
        )
