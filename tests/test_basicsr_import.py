from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vheatir import basicsr_import

ROOT = Path(__file__).parents[1]
FAILURES = [
    "raise RuntimeError('operator torchvision::nms does not exist')",
    "raise ImportError('undefined symbol: _ZN3c10')",
    "raise OSError('libcudart.so.13: cannot open shared object file')",
    "import torchvision_of_another_world",
]
OF_ANOTHER_RELEASE = "__version__ = '0.2.1'"
MISSING = "raise ModuleNotFoundError(\"No module named 'basicsr'\", name='basicsr')"
MISSING_BELOW = "import package_nobody_has"
# Broken packages, each found in place of the real one. Those of torchvision come first, as the
# others need the real one.
STUBS = [("torchvision", source) for source in (*FAILURES, OF_ANOTHER_RELEASE)]
STUBS += [("basicsr", source) for source in (MISSING, MISSING_BELOW)]
# One process tries them all, as importing torch and torchvision takes seconds, and then imports
# BasicSR. Nothing of a broken package stays imported.
TRY_ALL = """
import importlib, json, sys
from vheatir.errors import VHeatIRError
from vheatir.basicsr_import import import_basicsr

stubs, messages = json.loads(sys.argv[1]), []
for package, folder in stubs:
    sys.path.insert(0, folder)
    importlib.invalidate_caches()
    assert package not in sys.modules
    try:
        import_basicsr()
    except VHeatIRError as error:
        messages.append(str(error))
    else:
        messages.append(None)
    sys.path.remove(folder)
    sys.modules.pop(package, None)
importlib.invalidate_caches()
print(json.dumps(messages), flush=True)
assert import_basicsr() is import_basicsr() is sys.modules["basicsr"]
from torchvision.transforms.functional_tensor import rgb_to_grayscale
import basicsr.data, basicsr.models, basicsr.archs
print("fine")
"""


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """Return what the process has printed: the messages, and whether BasicSR was imported."""
    stubs = []
    for package, source in STUBS:
        folder = tmp_path_factory.mktemp("stub")
        (folder / package).mkdir()
        (folder / package / "__init__.py").write_text(source, encoding="utf-8")
        stubs.append((package, str(folder)))
    return subprocess.run(
        [sys.executable, "-c", TRY_ALL, json.dumps(stubs)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
    )


def message(result: subprocess.CompletedProcess[str], source: str) -> str:
    """Return the only line that importing gives with the broken package of this source."""
    assert result.stdout, result.stderr
    messages = json.loads(result.stdout.splitlines()[0])
    (found,) = (m for (_, each), m in zip(STUBS, messages, strict=True) if each == source)
    assert found is not None and len(found.splitlines()) == 1, found
    return str(found)


def test_basicsr_imports_and_its_lost_module_is_found(
    result: subprocess.CompletedProcess[str],
) -> None:
    pytest.importorskip("torchvision")
    assert result.stdout.strip().endswith("fine"), result.stderr
    assert not result.stderr  # nor have the broken packages printed anything


@pytest.mark.parametrize("failure", FAILURES)
def test_a_broken_torchvision_gives_one_line(
    result: subprocess.CompletedProcess[str], failure: str
) -> None:
    line = message(result, failure)
    assert "torchvision" in line and "torch " in line
    assert "pip install --force-reinstall torch==" in line
    if "nms" in failure:
        assert "operator torchvision::nms does not exist" in line


def test_a_torchvision_of_another_release_is_named(
    result: subprocess.CompletedProcess[str],
) -> None:
    torch = pytest.importorskip("torch")
    line = message(result, OF_ANOTHER_RELEASE)
    assert "torchvision 0.2.1 is not of the same release as torch" in line
    assert torch.__version__ in line
    assert f'"torchvision=={basicsr_import.matching_torchvision(torch.__version__)}"' in line


def test_a_missing_basicsr_gives_one_line(
    result: subprocess.CompletedProcess[str],
) -> None:
    line = message(result, MISSING)
    assert "'basicsr'" in line
    assert 'pip install "vheatir[train]"' in line


def test_a_dependency_missing_below_basicsr_is_named(
    result: subprocess.CompletedProcess[str],
) -> None:
    line = message(result, MISSING_BELOW)
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
