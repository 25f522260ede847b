"""The folder for a Hugging Face Space: complete, and its demo starts there."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from vheatir.demo import Settings, parse_arguments

tomllib = pytest.importorskip("tomllib", reason="tools/space.py needs Python 3.11")
ROOT = Path(__file__).resolve().parents[1]


def write(out: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(ROOT / "tools" / "space.py"), str(out)],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


@pytest.fixture(scope="module")
def space(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("hub") / "space"
    result = write(out)
    assert result.returncode == 0, result.stderr
    return out


def app_of(space: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("space_app", space / "app.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_readme_has_the_metadata_of_a_space(space: Path) -> None:
    _, front, text = (space / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    metadata = yaml.safe_load(front)
    assert metadata["sdk"] == "gradio" and metadata["app_file"] == "app.py"
    assert (space / metadata["app_file"]).is_file()
    assert "python tools/space.py" in text


def test_the_hub_accepts_the_metadata(space: Path) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs pip install 'vheatir[hub]'")
    data = hub.SpaceCard.load(space / "README.md").data
    assert data.sdk == "gradio" and data.license == "apache-2.0"


def test_the_requirements_are_those_of_the_package(space: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {*project["dependencies"], *extras["app"], *extras["heif"]}
    assert set((space / "requirements.txt").read_text().split()) == wanted


def test_the_folder_has_what_a_wheel_has(space: Path) -> None:
    files = {path.relative_to(space / "vheatir") for path in (space / "vheatir").rglob("*")}
    for name in ("zoo/photo_small_clean.safetensors", "demo/page.css", "options/quickstart.yml",
                 "docs/results/README.md", "docs/benchmarks.md"):  # fmt: skip
        assert Path(name) in files
    assert not [path for path in files if path.name == "__pycache__" or path.name.startswith(".")]


def test_all_limits_are_given_and_no_laxer_than_at_home(space: Path) -> None:
    flags = app_of(space).FLAGS
    settings, home = parse_arguments(flags), Settings()
    assert (settings.host, settings.port) == ("0.0.0.0", 7860)
    assert not settings.share and not settings.browser
    for limit in ("max_pixels", "max_upload_mb", "max_results_mb", "queue", "keep"):
        assert f"--{limit.replace('_', '-')}" in flags
        assert 0 < getattr(settings, limit) <= getattr(home, limit)
    assert home.host == "127.0.0.1"


def test_an_existing_folder_stays(space: Path) -> None:
    result = write(space)
    assert result.returncode == 2 and "exists: give a folder that does not" in result.stderr
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(sys.platform != "linux", reason="looks the address up in /proc")
def test_the_demo_listens_on_all_addresses(space: Path, tmp_path: Path) -> None:
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # 7860 may be taken: a later --port replaces it
    code = (
        f"import app, vheatir; print(vheatir.__file__); app.main([*app.FLAGS, '--port', '{port}'])"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"GRADIO_TEMP_DIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    server = subprocess.Popen(
        [sys.executable, "-c", code], cwd=space, env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    try:
        assert server.stdout is not None
        assert server.stdout.readline().strip() == str(space / "vheatir" / "__init__.py")
        for line in server.stdout:
            if "vHeatIR demo:" in line:
                break
        listening = Path("/proc/net/tcp").read_text()
        assert f"00000000:{port:04X}" in listening
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        began = time.monotonic()
        while True:
            try:
                page = opener.open(f"http://127.0.0.1:{port}/", timeout=60).read()
                break
            except OSError:
                assert time.monotonic() - began < 60
        assert b"vHeatIR" in page
    finally:
        server.terminate()
        server.communicate(timeout=60)
