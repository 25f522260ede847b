"""Promises 4 and 5: fuzz the readers for a while, and read all earlier findings again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.reliability import fuzz_readers as fuzz

FINDINGS = sorted((Path(__file__).resolve().parent / "findings").glob("*.bin"))


@pytest.mark.parametrize(("kind", "promise"), [("image", 5), ("weights", 4)])
def test_fuzzing_finds_nothing(ledger: Any, full: bool, kind: str, promise: int) -> None:
    seconds = (40 if kind == "image" else 20) if full else 2
    with ledger(promise, f"{kind} files changed at random by hypothesis, {seconds} s") as row:
        tried, findings = fuzz.fuzz(kind, seconds, first_seed=1000)
        row.cases = tried
        row.losses += list(findings)


def test_earlier_findings_stay_fixed(ledger: Any) -> None:
    if not FINDINGS:
        pytest.skip("fuzzing has found nothing so far")
    with ledger(5, "what fuzzing found earlier, read again") as row:
        for path in FINDINGS:
            wrong = fuzz.try_reader(path.name.split("-")[0], path.read_bytes())
            row.case(wrong is None, f"{path.name}: {wrong}")
