"""The tests of ``studies/`` run only by ``pytest -m studies``, or when their file is named.

They are not even imported otherwise: importing a study registers its mixers in the process.
"""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


def pytest_ignore_collect(config: pytest.Config) -> bool | None:
    chosen = "studies" in config.option.markexpr.replace("not studies", "")
    return None if chosen else True


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.studies)
