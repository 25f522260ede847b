"""Make the package ``vheatir_onnx`` from modules of ``vheatir`` while the wheel is built.

The modules lie side by side with their imports renamed: ``from vheatir.inference.files import``
becomes ``from vheatir_onnx.files import``. So the two distributions share no installed file, and
the repository holds each file once.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

_IMPORT = re.compile(r"^( *)from vheatir\.([\w.]+) import\b", re.MULTILINE)
# What renaming would miss.
_OTHER_IMPORT = re.compile(r"^ *(from vheatir import|import vheatir)\b", re.MULTILINE)


class VHeatIRModules(BuildHookInterface):  # type: ignore[type-arg]
    """Put the modules that ``modules`` names into the wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Write the renamed modules to a folder, from which the wheel is built."""
        modules: list[str] = self.config["modules"]
        self.folder = Path(tempfile.mkdtemp())
        for module in modules:
            source = Path(self.root).parents[1].joinpath("vheatir", *module.split("."))
            text = source.with_suffix(".py").read_text(encoding="utf-8")
            missing = {found[1] for found in _IMPORT.findall(text)} - set(modules)
            if missing or _OTHER_IMPORT.search(text):
                raise ValueError(f"vheatir.{module} imports what the wheel lacks: {missing}")
            name = "__init__" if module == modules[0] else module.rpartition(".")[2]
            file = self.folder / f"{name}.py"
            file.write_text(_IMPORT.sub(_renamed, text), encoding="utf-8")
            build_data["force_include"][str(file)] = f"vheatir_onnx/{name}.py"
        (self.folder / "py.typed").touch()
        build_data["force_include"][str(self.folder / "py.typed")] = "vheatir_onnx/py.typed"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the folder."""
        shutil.rmtree(self.folder)


def _renamed(found: re.Match[str]) -> str:
    return f"{found[1]}from vheatir_onnx.{found[2].rpartition('.')[2]} import"
