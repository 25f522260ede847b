"""Starting the demo from any folder, its error messages and its API."""

from __future__ import annotations

import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vheatir.demo import parse_arguments
from vheatir.image_io import read_image, write_image
from vheatir.inference import Restorer
from vheatir.inference.strength import apply_strength

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """Return a copy of the files, not installed, without weights and with a data set folder."""
    folder = tmp_path / "clone"
    ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
    for name in ("vheatir", "options"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("app.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "datasets" / "Set12").mkdir(parents=True)
    return folder


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, capture_output=True, text=True, timeout=120
    )


def test_flags() -> None:
    default = parse_arguments([])
    assert (default.host, default.port, default.share) == ("127.0.0.1", None, False)
    assert default.browser
    given = parse_arguments(["--weights", "a", "b", "--weights", "c", "--host", "0.0.0.0"])
    assert given.weights == (Path("a"), Path("b"), Path("c"))
    assert given.host == "0.0.0.0" and parse_arguments(["--share"]).share


def test_help_is_quick_and_needs_no_gradio(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['gradio'] = None; sys.modules['torch'] = None\n"
        "from vheatir.demo import main; main(['--help'])"
    )
    result = run("-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{code}", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "--max-upload-mb" in result.stdout


def run_without_gradio(arguments: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules['gradio'] = None\n"
        f"from vheatir.demo import main; sys.exit(main({arguments!r}))"
    )
    return run("-c", code, cwd=cwd)


def test_a_missing_gradio_is_one_line(tmp_path: Path) -> None:
    result = run_without_gradio([], tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "vheatir[app]" in result.stderr


def test_a_missing_device_is_one_line_before_gradio_is_imported(tmp_path: Path) -> None:
    result = run_without_gradio(["--device", "no-such-device"], tmp_path)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert result.stderr.startswith("error: device 'no-such-device' is not available here")


def test_nothing_is_shadowed(clone: Path, tmp_path: Path) -> None:
    # As `python app.py` from another folder, up to where the page would be built.
    code = (
        f"import sys; sys.argv = ['app.py']; sys.path.insert(0, {str(clone)!r})\n"
        f"import runpy; runpy.run_path({str(clone / 'app.py')!r}, run_name='app')\n"
        "import importlib.util as u, vheatir.demo.uploads\n"
        "spec = u.find_spec('datasets')\n"
        "print(vheatir.__file__)\n"
        "print(list(spec.submodule_search_locations) if spec else [])"
    )
    result = run("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    package, datasets = result.stdout.splitlines()
    assert Path(package).resolve() == (clone / "vheatir" / "__init__.py").resolve()
    assert str(clone) not in datasets


def test_bad_weights_end_with_one_line(tmp_path: Path) -> None:
    pytest.importorskip("gradio")
    result = run(ROOT / "app.py", "--no-browser", "--weights", "none.safetensors", cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1] == "error: weight file none.safetensors does not exist"
    assert "Traceback" not in result.stderr


def test_a_copy_without_any_model_ends_with_one_line(clone: Path) -> None:
    pytest.importorskip("gradio")
    result = run(clone / "app.py", "--no-browser", cwd=clone)
    assert result.returncode == 2
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: no model found") and "reinstall vheatir" in last
    assert "Traceback" not in result.stderr


def test_a_port_in_use_ends_with_one_line(tmp_path: Path, weights: dict[str, Path]) -> None:
    pytest.importorskip("gradio")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run(ROOT / "app.py", "--no-browser", "--port", str(port), cwd=tmp_path)
    assert result.returncode == 2
    assert f"error: cannot listen on 127.0.0.1, port {port}" in result.stderr
    assert "Traceback" not in result.stderr
    result = run(ROOT / "app.py", "--no-browser", "--port", "99999", cwd=tmp_path)
    assert (result.returncode, result.stderr.count("Traceback")) == (2, 0)
    assert "error: cannot listen on 127.0.0.1, port 99999" in result.stderr


def test_the_api_from_a_client(
    address: str, tmp_path: Path, weights: dict[str, Path], photograph: np.ndarray[Any, Any]
) -> None:
    client_module = pytest.importorskip("gradio_client")
    write_image(tmp_path / "photo.png", photograph)
    client = client_module.Client(address, verbose=False, download_files=tmp_path / "got")
    try:
        label = next(iter(_labels(client)))
        images, details, file = client.predict(
            client_module.handle_file(tmp_path / "photo.png"), label, False, 25,
            api_name="/restore",
        )  # fmt: skip
        part, _, _ = client.predict(
            client_module.handle_file(tmp_path / "photo.png"), label, False, 25, luma=50, chroma=0,
            api_name="/restore",
        )  # fmt: skip
        with pytest.raises(Exception, match="150"):
            client.predict(
                client_module.handle_file(tmp_path / "photo.png"), label, luma=151,
                api_name="/restore",
            )  # fmt: skip
        _, table, _, _ = client.predict(
            client_module.handle_file(tmp_path / "photo.png"), "Cat", "JPEG", 80, "Non-local means",
            api_name="/try_clean",
        )  # fmt: skip
        assert "quality 80" in table
        endpoints = client.view_api(return_format="dict")["named_endpoints"]
    finally:
        client.close()
    assert set(endpoints) == {"/restore", "/restore_batch", "/try_clean"}
    assert "sigma 25.0 (chosen)" in details
    expected = Restorer(weights["all_levels"], "cpu").restore(photograph, 25)
    np.testing.assert_array_equal(read_image(file), expected)
    assert len(images) == 2
    # At the requested strength.
    np.testing.assert_array_equal(read_image(part[1]), apply_strength(photograph, expected, 50, 0))


def test_the_snippet_of_the_documentation(
    address: str, tmp_path: Path, photograph: np.ndarray[Any, Any]
) -> None:
    pytest.importorskip("gradio_client")
    write_image(tmp_path / "photo.png", photograph[:64, :64])
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs/restore.md").read_text("utf-8"), re.S)
    snippet = next(block for block in blocks if "gradio_client" in block)
    assert "http://127.0.0.1:7860" in snippet
    code = snippet.replace("http://127.0.0.1:7860", address) + "\nprint(png)"
    result = run("-c", code, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "found " in result.stdout
    restored = read_image(result.stdout.splitlines()[-1])
    assert restored.shape == (64, 64, 3) and (restored != photograph[:64, :64]).any()


def _labels(client: Any) -> list[str]:
    parameters = client.view_api(return_format="dict")["named_endpoints"]["/restore"]["parameters"]
    found = re.findall(r"'([^']+)'", str(parameters[1]["python_type"]["type"]))
    return [label for label in found if label.startswith("all_levels")]
