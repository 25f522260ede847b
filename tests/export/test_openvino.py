"""``Restorer(backend="openvino")`` restores as PyTorch does; graphs are cached; clear errors."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.export.networks import CONVOLUTIONS, tiny_model
from vheatir import Restorer, cli
from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import add_noise
from vheatir.errors import VHeatIRError
from vheatir.image_io import read_image, write_image
from vheatir.inference import AutoRestorer
from vheatir.inference.jobs import Settings, plan
from vheatir.inference.manifest import Manifest
from vheatir.metrics import psnr
from vheatir.weights import LoadedModel, save_weights

TOLERANCE = 1e-4
WITH_LEVEL = {**CONVOLUTIONS, "level_scale": 255}


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def cache_of_these_tests(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Share the exported graphs, but not with the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    monkeypatch.setenv("LOCALAPPDATA", str(cache))


@pytest.fixture(scope="session")
def openvino() -> None:
    for package in ("openvino", "onnx", "onnxscript"):
        if find_spec(package) is None:
            pytest.skip("the extra openvino is not installed: pip install 'vheatir[openvino]'")
    # A worker in which other tests had imported much else ended with a segmentation fault later.
    if "PYTEST_XDIST_WORKER" in os.environ:
        pytest.skip("in a process of its own: pytest tests/export/test_openvino.py")


def both(model: str | LoadedModel, **options: Any) -> tuple[Restorer, Restorer]:
    """Return the restorers with PyTorch and with OpenVINO."""
    return (
        Restorer(model, "cpu", **options),
        Restorer(model, backend="openvino", **options),
    )


def apart(first: Restorer, second: Restorer, x: Tensor, *arguments: Any) -> float:
    """Return the largest difference of what two networks compute."""
    with torch.no_grad():
        return float((first.network(x, *arguments) - second.network(x, *arguments)).abs().max())


@pytest.fixture(scope="module")
def tiny(openvino: None, cache: Path) -> tuple[Restorer, Restorer]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(cache))
        patch.setenv("LOCALAPPDATA", str(cache))
        return both(tiny_model(WITH_LEVEL))


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (97, 101)])
@pytest.mark.parametrize("count", [1, 3])
def test_any_size_and_level(
    tiny: tuple[Restorer, Restorer], size: tuple[int, int], count: int
) -> None:
    x = torch.rand(count, 3, *size)
    for level in (0, 17.5, 50 * torch.rand(count), 50 * torch.rand(count, 1, *size)):
        assert apart(*tiny, x, level) < TOLERANCE
    with torch.no_grad():
        changed = tiny[1].network(x, 10) - tiny[1].network(x, 50)
    assert changed.abs().max() > 10 * TOLERANCE  # the level matters


@pytest.mark.usefixtures("openvino")
def test_a_blind_network_with_heat_and_one_channel_out() -> None:
    config = {**CONVOLUTIONS, "mixers": ["conv", "hco"], "out_chans": 1}
    pair = both(tiny_model(config, "photo", None))
    for size in ((1, 1), (7, 300), (97, 101)):
        assert apart(*pair, torch.rand(2, 3, *size)) < TOLERANCE


@pytest.mark.usefixtures("openvino")
@pytest.mark.parametrize(
    ("name", "mode"), [("denoise_color_small", "rgb"), ("denoise_gray_small", "gray")]
)
def test_released_models_on_a_photograph(name: str, mode: Literal["rgb", "gray"]) -> None:
    clean = to_color_mode(heldout_photographs()["coffee"][:97, :120], mode)
    truth = clean / np.float32(255)
    noisy = add_noise(truth, 25, np.random.default_rng(0)).astype(np.float32)
    first, second = both(name)
    for options in ({}, {"tile": 64}, {"self_ensemble": True}, {"strength": (60, 130)}):
        expected = first.restore(noisy, 25, **options)
        assert np.abs(second.restore(noisy, 25, **options) - expected).max() < TOLERANCE
    levels = np.linspace(0, 55, 97 * 120, dtype=np.float32).reshape(97, 120)
    for level in (None, levels):
        expected = first.restore(noisy, level, tile=64)
        assert np.abs(second.restore(noisy, level, tile=64) - expected).max() < TOLERANCE
    low = Restorer(name, backend="openvino", precision="bfloat16").restore(noisy, 25)
    loss = psnr(first.restore(noisy, 25), truth) - psnr(low, truth)
    assert loss < 0.1


def test_threads_share_a_network(tiny: tuple[Restorer, Restorer], restored_threads: None) -> None:
    images = [torch.rand(1, 3, 40 + 8 * index, 40) for index in range(12)]
    torch.set_num_threads(1)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda x: tiny[1].network(x, 15), images))
    for x, result in zip(images, results, strict=True):
        with torch.no_grad():
            assert (tiny[0].network(x, 15) - result).abs().max() < TOLERANCE


@pytest.fixture
def exports(openvino: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Return the names of the models that are exported, with an empty cache."""
    from vheatir.export import graph

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
    names: list[str] = []
    to_onnx = graph.to_onnx
    monkeypatch.setattr(
        graph, "to_onnx", lambda source: [names.append(source.name), to_onnx(source)][1]
    )
    return names


def test_a_graph_is_exported_once_and_again_if_damaged_or_changed(
    exports: list[str], tmp_path: Path
) -> None:
    model = tiny_model(WITH_LEVEL)
    x = torch.rand(1, 3, 19, 23)
    for _ in range(2):
        assert apart(*both(model), x, 15) < TOLERANCE
    assert exports == ["tiny"]
    (file,) = (tmp_path / "vheatir").iterdir()
    whole = file.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 2] ^= 1
    for damaged in (whole[:-100], bytes(changed)):
        file.write_bytes(damaged)
        exports.clear()
        assert apart(*both(model), x, 15) < TOLERANCE
        assert exports == ["tiny"] and list((tmp_path / "vheatir").iterdir()) == [file]
        assert file.read_bytes() == whole
    # The file of the weights is the same, the weights are not.
    model.network.get_parameter("conv_last.bias").add_(0.1)
    assert apart(*both(model), x, 15) < TOLERANCE
    assert len(list((tmp_path / "vheatir").iterdir())) == 2


def test_a_cache_that_cannot_be_written(exports: list[str], tmp_path: Path) -> None:
    (tmp_path / "vheatir").write_text("a file where the folder would be")
    assert apart(*both(tiny_model(CONVOLUTIONS)), torch.rand(1, 3, 16, 16)) < TOLERANCE
    assert exports == ["tiny"]


@pytest.mark.usefixtures("openvino")
def test_what_it_does_not_run() -> None:
    class Foreign(nn.Module):
        pass

    foreign = dataclasses.replace(tiny_model(CONVOLUTIONS), network=Foreign())
    for model, options, message in (
        (foreign, {}, "runs with the backend 'torch' alone: .*'Foreign'"),
        ("auto", {"device": "cuda"}, "on the CPU alone, not on 'cuda': give the device 'auto' or"),
        ("photo", {"device": torch.device("mps")}, "on the CPU alone, not on 'mps'"),
        ("photo", {"precision": "float16"}, "has no float16: use float32 or bfloat16"),
    ):
        with pytest.raises(VHeatIRError, match=message) as raised:
            Restorer(model, backend="openvino", **options)
        assert "\n" not in str(raised.value)


@pytest.mark.parametrize("model", ["photo", "auto"])
def test_an_unknown_backend(model: str) -> None:
    with pytest.raises(VHeatIRError, match="unknown backend 'openvio': did you mean 'openvino'"):
        Restorer(model, backend="openvio")  # type: ignore[arg-type]


@pytest.mark.parametrize("model", [["--model", "photo"], []])
@pytest.mark.parametrize("package", ["openvino", "onnx", "onnxscript"])
def test_without_the_extra(
    package: str,
    model: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("openvino", "onnx", "onnxscript"):
        monkeypatch.setitem(sys.modules, name, None if name == package else pytest)
    write_image(tmp_path / "in.png", np.zeros((8, 8, 3), np.uint8))
    command = ["restore", str(tmp_path / "in.png"), "-o", str(tmp_path / "out.png"), *model]
    assert cli.main([*command, "--backend", "openvino"]) == 2
    said = capsys.readouterr().err
    assert f"needs the package {package!r}" in said and "pip install 'vheatir[openvino]'" in said
    assert said.count("\n") == 1 and not (tmp_path / "out.png").exists()


@pytest.mark.usefixtures("openvino")
def test_restore_on_the_command_line(
    tmp_path: Path, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tiny_model(WITH_LEVEL)
    weights = save_weights(tmp_path / "tiny.safetensors", model.network, model.info)
    photograph = heldout_photographs()["chelsea"][:64, :80]
    write_image(tmp_path / "in/photo.png", photograph)
    command = [
        "restore", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--task", "denoise",
        "--level", "20", "--model", str(weights), "--resume",
    ]  # fmt: skip
    assert cli.main([*command, "--backend", "openvino"]) == 0
    restored = Restorer(str(weights), backend="openvino").restore(photograph, 20)
    assert np.array_equal(read_image(tmp_path / "out/photo.png"), restored)
    assert cli.main([*command, "--backend", "openvino"]) == 0
    assert "1 already done" in capsys.readouterr().err
    assert cli.main(command) == 0  # another backend, other pixels
    assert "1 restored" in capsys.readouterr().err
    assert list((cache / "vheatir").glob("*.onnx"))


def test_automatic_models_have_the_backend(openvino: None) -> None:
    from vheatir.export.openvino_backend import OpenVinoNetwork

    auto = Restorer("auto", backend="openvino")
    assert isinstance(auto, AutoRestorer) and auto.device == torch.device("cpu")
    assert isinstance(auto.restorer("denoise_color_small").network, OpenVinoNetwork)


def test_records_of_torch_stay_valid(tmp_path: Path) -> None:
    """A run that began before there were backends continues."""
    write_image(tmp_path / "in.png", np.zeros((8, 8), np.uint8))
    (job,) = plan([str(tmp_path / "in.png")], str(tmp_path / "out"))
    records = []
    for settings in (Settings(), Settings(backend="openvino")):
        manifest = Manifest(tmp_path / "out", settings)
        records.append(manifest._record(job, "done")["settings"])
        manifest.close()
    assert records[0] == "868f72ca742c3c4e" and records[1] != records[0]


@pytest.mark.usefixtures("openvino")
@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_a_lack_of_memory_is_noticed(tmp_path: Path) -> None:
    """OpenVINO's ``infer`` would return the output of the image before."""
    model = tiny_model(CONVOLUTIONS, "photo", None)
    save_weights(tmp_path / "tiny.safetensors", model.network, model.info)
    program = """
import resource, sys
import torch
from vheatir import Restorer
from vheatir.hardware import _proc_bytes, is_out_of_memory

network = Restorer(sys.argv[1], backend="openvino").network
small, large = torch.rand(1, 3, 32, 32), torch.rand(1, 3, 2000, 2000)
expected = network(small)
limit = _proc_bytes("self/status", "VmSize") + 150_000_000
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
try:
    print(network(large).shape)
except (RuntimeError, MemoryError) as error:
    assert is_out_of_memory(error), error
    print("noticed")
assert torch.equal(network(small), expected)
"""
    command = [sys.executable, "-c", program, str(tmp_path / "tiny.safetensors")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "noticed\n"


@pytest.mark.usefixtures("openvino")
def test_it_is_imported_without_telemetry(tmp_path: Path) -> None:
    program = """
import sys
from vheatir.export.openvino_backend import import_openvino
assert import_openvino().Core().available_devices
assert "openvino_telemetry" not in sys.modules
"""
    home = {"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)}
    subprocess.run([sys.executable, "-c", program], check=True, env={**os.environ, **home})
    assert not list(tmp_path.iterdir())
