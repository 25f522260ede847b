"""A package does in darktable's steps what the network does."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.export.conftest import ONNX
from tests.export.networks import CONVOLUTIONS, tiny_model
from vheatir.errors import VHeatIRError
from vheatir.export.source import Source, open_source
from vheatir.weights import LoadedModel

pytest.importorskip("onnx", reason=ONNX)
pytest.importorskip("onnxruntime", reason=ONNX)
pytest.importorskip("onnxscript", reason=ONNX)

from tools.integrations import darktable as acting  # noqa: E402
from vheatir.export import export_model  # noqa: E402
from vheatir.export.darktable import manifest, pack  # noqa: E402

#: What darktable-ai's validate.py looks for.
REQUIRED = {"id", "name", "description", "task", "backend", "version"}


def linear_image(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, 3), np.float32)


def through_network(source: Source, linear: np.ndarray, level: float | None) -> np.ndarray:
    """Restore a whole image in PyTorch, mirrored by 64 pixels at every border."""
    edge = acting.OVERLAP
    srgb = np.pad(acting.to_srgb(linear), [(edge, edge), (edge, edge), (0, 0)], "reflect")
    with torch.no_grad():
        result = source.model.network(torch.from_numpy(srgb.transpose(2, 0, 1))[None], level)
    return acting.to_linear(result[0].permute(1, 2, 0).numpy()[edge:-edge, edge:-edge])


@pytest.mark.parametrize("level", [None, 7.5])
def test_tiles_give_the_result_of_the_whole_image(tmp_path: Path, level: float | None) -> None:
    model = tiny_model({**CONVOLUTIONS, "level_scale": 255})
    path = export_model(model, tmp_path / "tiny.dtmodel", level=level, licence="MIT")
    package = acting.read_package(path)
    assert package.config["num_inputs"] == (2 if level is None else 1)
    for tile, size in ((256, (300, 210)), (1024, (130, 970))):
        linear = linear_image(*size)
        restored = acting.restore_in_tiles(package, linear, tile)
        # without a built-in level, darktable passes its own, sigma 25
        expected = through_network(open_source(model), linear, 25.0 if level is None else level)
        assert np.abs(restored - expected).max() < 2e-5
        assert np.abs(restored - linear).max() > 0.01


def test_a_released_model(tmp_path: Path, photo: tuple[Source, bytes]) -> None:
    source, data = photo
    (tmp_path / "photo.dtmodel").write_bytes(pack(*manifest(source), data))
    package = acting.read_package(tmp_path / "photo.dtmodel")
    assert package.config["num_inputs"] == 1
    linear = linear_image(256, 256)
    srgb = torch.from_numpy(acting.to_srgb(linear).transpose(2, 0, 1))[None]
    with torch.no_grad():
        expected = source.model.network(srgb)[0].permute(1, 2, 0).numpy()
    restored = acting.run_tile(package, linear)
    assert np.abs(restored - acting.to_linear(expected)).max() < 2e-5


def test_the_package_keeps_the_contract() -> None:
    source = open_source(tiny_model({**CONVOLUTIONS, "level_scale": 255}), licence="MIT")
    identifier, config = manifest(source, 7.5)
    assert identifier == "denoise-vheatir-tiny-sigma7-5"
    assert config.keys() >= REQUIRED
    assert (config["id"], config["task"]) == (identifier, "denoise")
    assert config["description"].endswith("sigma 7.5; licence: MIT")
    with zipfile.ZipFile(io.BytesIO(pack(identifier, config, b"model"))) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{identifier}/config.json", f"{identifier}/model.onnx"]
        assert json.loads(archive.read(f"{identifier}/config.json")) == config
        assert archive.read(f"{identifier}/model.onnx") == b"model"


@pytest.mark.parametrize(
    ("model", "licence", "message"),
    [
        ("denoise_color_small", None, "does not allow a package for darktable .*BSDS500"),
        ("photo_small", None, "does not allow a package for darktable"),
        ("denoise_gray_small", None, "is for grayscale denoising"),
        ("jpeg_color_small", None, "is for JPEG artifact removal"),
        (tiny_model(CONVOLUTIONS, task=None), "MIT", "is for an unknown task"),
        (tiny_model(CONVOLUTIONS), None, "licence of tiny is not known: give --licence"),
    ],
)
def test_models_that_may_not_be_packaged(
    tmp_path: Path, model: str | LoadedModel, licence: str | None, message: str
) -> None:
    with pytest.raises(VHeatIRError, match=message):
        export_model(model, tmp_path / "model.dtmodel", licence=licence)
    assert not list(tmp_path.iterdir())
