"""Signals that stop a training run."""

from __future__ import annotations

import signal
from types import FrameType


class Interrupted(Exception):
    """A signal ended the run; its training state is saved.

    Args:
        number: number of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class StopSignals:
    """Turn SIGINT and SIGTERM into a request to save and stop, inside a ``with`` block.

    A second signal ends the run immediately.

    Attributes:
        received: number of the signal; None before it.
    """

    def __init__(self) -> None:
        self.received: int | None = None

    def __enter__(self) -> StopSignals:
        """Install the handlers."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        self._earlier_handlers = {n: signal.signal(n, self._receive) for n in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        """Restore the earlier handlers."""
        for number, handler in self._earlier_handlers.items():
            signal.signal(number, handler)

    def _receive(self, number: int, _: FrameType | None) -> None:
        self.received = number
        signal.signal(number, signal.default_int_handler)
