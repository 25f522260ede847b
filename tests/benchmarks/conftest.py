"""Benchmarks set the number of threads of their process; the tests' own is restored."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def threads_are_restored(restored_threads: None) -> None:
    """Apply :func:`tests.conftest.restored_threads` to every test of this folder."""
