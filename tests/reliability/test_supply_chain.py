"""Promise 8: no dependency is older than its bound, each is reviewed, hashes are checked.

Installing wheel and sdist is tested by tools/check_install.py.
"""

from __future__ import annotations

import importlib.metadata
import random
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from vheatir import zoo
from vheatir.errors import VHeatIRError

ROOT = Path(__file__).resolve().parents[2]


def bounds() -> dict[str, str]:
    """Return the lower version bounds of user dependencies, by package."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("\ndependencies = [") : text.index("\ndev = [")]
    return dict(re.findall(r'"([\w-]+)[>=]=([\d.]+)"', text))


def as_numbers(version: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", version.split("+")[0])]


def test_dependencies_are_bounded_and_reviewed(ledger: Any) -> None:
    review = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
    with ledger(8, "dependencies: bounded, not older than that here, reviewed") as row:
        for name, bound in bounds().items():
            row.case(f"| {name} {bound} |" in review, f"{name} {bound} is not in the review")
            try:
                here = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                continue
            row.case(as_numbers(here) >= as_numbers(bound), f"{name} {here} is older than {bound}")


def test_released_weights_are_the_released_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ledger: Any, full: bool
) -> None:
    rng = random.Random(0)
    entry = min(zoo.list_models(), key=lambda each: each.params)
    whole = entry.path.read_bytes()
    shutil.copy(zoo.REGISTRY, tmp_path)
    monkeypatch.setattr(zoo, "FOLDER", tmp_path)
    file = tmp_path / entry.path.name
    with ledger(8, "released weights changed by one bit: refused by their hash") as row:
        for _ in range(200 if full else 10):
            damaged = bytearray(whole)
            bit = rng.randrange(8 * len(damaged))
            damaged[bit // 8] ^= 1 << bit % 8
            file.write_bytes(damaged)
            try:
                zoo.load_model(entry.name)
                row.case(False, f"bit {bit} went unnoticed")
            except VHeatIRError as error:
                row.case("damaged or not the released ones" in str(error), str(error))
