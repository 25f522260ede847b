"""Exceptions for problems that users can solve."""

from __future__ import annotations

from collections.abc import Iterable
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
    if near and folded[near[0]] not in names:
        # of many names, one is always a little alike: NAFNet and DFDNet
        near = get_close_matches(str(name).casefold(), near, cutoff=0.7)
    hint = f"did you mean {folded[near[0]]!r}? " if near else ""
    return VHeatIRError(f"unknown {kind} {name!r}: {hint}allowed: {', '.join(names)}")


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message; the name of its type if it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]
