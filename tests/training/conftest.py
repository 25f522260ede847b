"""Fixtures: a tiny experiment, the lines of the log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.training.helpers import Tiny, make_tiny


@pytest.fixture(autouse=True)
def begins_with_own_networks(only_own_networks: None) -> None:
    """Option files adopt networks of BasicSR's registry."""


@pytest.fixture
def tiny(tmp_path: Path) -> Tiny:
    return make_tiny(tmp_path)


@pytest.fixture
def log_lines() -> Iterator[list[str]]:
    """Return the messages of the package's log so far, which does not propagate to caplog."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("vheatir").addHandler(handler)
    yield lines
    logging.getLogger("vheatir").removeHandler(handler)
