from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from vheatir import basicsr_import

ROOT = Path(__file__).parents[1]
CALL = """
import sys
from vheatir.errors import VHeatIRError
from vheatir.basicsr_import import import_basicsr
try:
    basicsr = import_basicsr()
except VHeatIRError as error:
    sys.exit(f"error: {error}")
print("basicsr from", basicsr.__file__)
"""


def run_with(packages: Path, code: str = CALL) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter that finds the given stub packages first."""
    path = os.pathsep.join([str(packages), str(ROOT)])
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=300,
    )


def stub(folder: Path, package: str, source: str) -> Path:
    (folder / package).mkdir(parents=True)
    (folder / package / "__init__.py").write_text(source, encoding="utf-8")
    return folder


def only_line(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 1
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_basicsr_imports_and_its_lost_module_is_found(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    code = """
from vheatir.basicsr_import import import_basicsr
import sys
assert import_basicsr() is import_basicsr() is sys.modules["basicsr"]
from torchvision.transforms.functional_tensor import rgb_to_grayscale
import basicsr.data, basicsr.models, basicsr.archs
print("fine")
"""
    result = run_with(tmp_path, code)
    assert result.stdout.strip().endswith("fine"), result.stderr


@pytest.mark.parametrize(
    "failure",
    [
        "raise RuntimeError('operator torchvision::nms does not exist')",
        "raise ImportError('undefined symbol: _ZN3c10')",
        "raise OSError('libcudart.so.13: cannot open shared object file')",
        "import torchvision_of_another_world",
    ],
)
def test_a_broken_torchvision_gives_one_line(tmp_path: Path, failure: str) -> None:
    line = only_line(run_with(stub(tmp_path, "torchvision", failure)))
    assert "torchvision" in line and "torch " in line
    assert "pip install --force-reinstall torch==" in line
    if "nms" in failure:
        assert "operator torchvision::nms does not exist" in line


def test_a_torchvision_of_another_release_is_named(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    line = only_line(run_with(stub(tmp_path, "torchvision", "__version__ = '0.2.1'")))
    assert "torchvision 0.2.1 is not of the same release as torch" in line
    assert torch.__version__ in line
    assert f'"torchvision=={basicsr_import.matching_torchvision(torch.__version__)}"' in line


def test_a_missing_basicsr_gives_one_line(tmp_path: Path) -> None:
    source = "raise ModuleNotFoundError(\"No module named 'basicsr'\", name='basicsr')"
    line = only_line(run_with(stub(tmp_path, "basicsr", source)))
    assert "'basicsr'" in line
    assert 'pip install "vheatir[train]"' in line


def test_a_dependency_missing_below_basicsr_is_named(tmp_path: Path) -> None:
    line = only_line(run_with(stub(tmp_path, "basicsr", "import package_nobody_has")))
    assert "'package_nobody_has'" in line


@pytest.mark.parametrize(
    ("torch_version", "torchvision_version"),
    [
        ("2.14.1", "0.29.1"),
        ("2.14.1+cpu", "0.29.1"),
        ("2.6.0", "0.21.*"),
        ("2.10.0+cu130", "0.25.*"),
        ("3.0.0", None),
        ("2", None),
    ],
)
def test_matching_torchvision(torch_version: str, torchvision_version: str | None) -> None:
    assert basicsr_import.matching_torchvision(torch_version) == torchvision_version
