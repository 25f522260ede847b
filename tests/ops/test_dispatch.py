"""Faster versions take over the calls that they support, and leave the others."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import vheatir
from vheatir.ops import dispatch
from vheatir.ops.dispatch import accelerated, speeds_up


@accelerated
def root(x: float, *, negative: bool = False) -> float:
    """The definition."""
    return -(x**0.5) if negative else x**0.5


@speeds_up(root)
def table(x: float, *, negative: bool = False) -> float | None:
    return None if negative else {4: 20.0, 9: 0.0}.get(x)


def test_none_leaves_the_call_to_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (root(4), root(9), root(16), root(4, negative=True)) == (20, 0, 4, -2)
    monkeypatch.setattr(dispatch, "FAST", False)
    assert root(4) == 2


def test_names_and_documentation_are_the_definitions() -> None:
    assert root.__name__ == "root" and root.__doc__ == "The definition."
    assert list(inspect.signature(root).parameters) == ["x", "negative"]


def test_an_error_is_not_hidden() -> None:
    @accelerated
    def definition(x: int) -> int:
        return x

    @speeds_up(definition)
    def broken(x: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        definition(1)


@pytest.mark.parametrize("file", [
    "ops/dct.py", "ops/dispatch.py", "ops/heat_conduction.py", "ops/layer_norm.py",
    "archs/blocks.py", "archs/vheatir_arch.py", "archs/vheatir_unet_arch.py",
])  # fmt: skip
def test_definitions_import_no_faster_version(file: str) -> None:
    tree = ast.parse((Path(vheatir.__file__).parent / file).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports and not any("fast" in ast.unparse(node) for node in imports)
