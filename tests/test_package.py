from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import vheatir

ROOT = Path(__file__).parents[1]
HEAVY = ("basicsr", "torchvision", "gradio", "matplotlib")


STATEMENTS = ["import vheatir", "import vheatir.cli"] + [
    f"from vheatir import {name}" for name in ("VHeatIR", "Restorer", "load_model", "psnr")
]


def python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.fixture(scope="module")
def heavy() -> dict[str, str]:
    """Return which heavy packages are loaded after each statement, in one process for all."""
    loaded = f"print([m for m in {HEAVY} if m in sys.modules])"
    lines = [f"{statement}; {loaded}" for statement in STATEMENTS]
    printed = python("\n".join(["import sys", *lines])).splitlines()
    return dict(zip(STATEMENTS, printed, strict=True))


@pytest.mark.parametrize("statement", STATEMENTS)
def test_import_is_light(heavy: dict[str, str], statement: str) -> None:
    assert heavy[statement] == "[]"


def test_import_alone_does_not_load_torch() -> None:
    assert python("import sys, vheatir; print('torch' in sys.modules)") == "False"


@pytest.mark.parametrize("name", vheatir.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert name in dir(vheatir)
    assert getattr(vheatir, name) is not None


def test_typos_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="VHeatIr"):
        vheatir.VHeatIr  # noqa: B018


def imported_parts() -> dict[str, set[str]]:
    """Return which folders and modules of the package import which, also inside functions."""
    package = ROOT / "vheatir"
    parts = {path.stem for path in package.iterdir() if path.suffix == ".py" or path.is_dir()}
    imported: dict[str, set[str]] = defaultdict(set)
    for file in package.rglob("*.py"):
        own = file.relative_to(package).parts[0].removesuffix(".py")
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            for root, _, name in (each.partition(".") for each in names):
                if root == "vheatir" and (part := name.partition(".")[0]) in parts - {own}:
                    imported[own].add(part)
    return imported


def test_imports_point_one_way() -> None:
    left = imported_parts()
    del left["__init__"]  # imports the public names on first use
    assert {"archs", "errors"} <= left["training"]
    while lowest := [part for part in left if not left[part] & left.keys()]:
        for part in lowest:
            del left[part]
    assert not left, "parts that import each other, directly or through others"


def test_the_version_has_one_source() -> None:
    stated = (ROOT / "pyproject.toml").read_text("utf-8")
    assert 'dynamic = ["version"]' in stated and 'path = "vheatir/__init__.py"' in stated
    cited = (ROOT / "CITATION.cff").read_text("utf-8")
    assert f"\nversion: {vheatir.__version__}\n" in cited
