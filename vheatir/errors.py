"""The one exception type that people are meant to read."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class VHeatIRError(Exception):
    """A problem the user can solve; its message is one line.

    The message says what was wrong, what is allowed and what to do. Entry points print it without
    a traceback and exit with status 2.
    """


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
