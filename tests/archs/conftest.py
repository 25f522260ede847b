from __future__ import annotations

import pytest

from tests.archs.mixer_checks import Own
from vheatir.archs.mixers import MIXERS


@pytest.fixture(autouse=True)
def own_mixer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixer ``own``, as a plug-in registers it."""
    monkeypatch.setitem(MIXERS, "own", Own)
