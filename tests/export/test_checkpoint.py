"""BasicSR reads an exported checkpoint, and the network is deduced from it again."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.export.networks import CONVOLUTIONS, tiny_model
from vheatir import build_network, load_model, load_weights
from vheatir.archs import network_config
from vheatir.errors import VHeatIRError
from vheatir.export import export_model


@pytest.mark.parametrize("name", ["photo_small_clean", "denoise_color_small"])
def test_the_network_is_deduced_again(tmp_path: Path, name: str) -> None:
    model = load_model(name)
    path = export_model(name, tmp_path / f"{name}.pth")
    again = load_weights(path).network
    x = torch.rand(1, 3, 20, 25)
    level = 15.0 if model.network.takes_level else None
    with torch.no_grad():
        assert torch.equal(again(x, level), model.network(x, level))


def test_basicsr_reads_it(tmp_path: Path) -> None:
    if find_spec("basicsr") is None:
        pytest.skip("the extra train is not installed")
    from vheatir.basicsr_import import import_basicsr

    import_basicsr()
    from basicsr.models.base_model import BaseModel

    model = load_model("denoise_color_small")
    path = export_model(model, tmp_path / "model.pth")
    network = build_network(network_config(model.network))
    reader = BaseModel({"num_gpu": 0, "is_train": False})
    reader.load_network(network, str(path), strict=True, param_key="params_ema")
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, model.network.state_dict()[name])


def test_it_holds_float32_tensors_alone(tmp_path: Path) -> None:
    path = export_model("photo_small_clean", tmp_path / "model.pth")
    loaded = torch.load(path, weights_only=True)
    assert list(loaded) == ["params_ema"]
    assert {tensor.dtype for tensor in loaded["params_ema"].values()} == {torch.float32}


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"type": "VHeatIR", "norm": "post"}, "norm 'post', which leaves no trace"),
        ({"type": "VHeatIR", "img_range": 255.0}, "img_range 255.0, which leaves no trace"),
        ({**CONVOLUTIONS, "level_scale": 100.0}, "only level_scale 255.0"),
    ],
)
def test_arguments_without_a_trace_are_refused(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    small = {"embed_dim": 8, "depths": [1]} if config["type"] == "VHeatIR" else {}
    with pytest.raises(VHeatIRError, match=message):
        export_model(tiny_model({**config, **small}), tmp_path / "model.pth")
    assert not list(tmp_path.iterdir())


def test_a_flat_network_with_the_default_arguments(tmp_path: Path) -> None:
    model = tiny_model({"type": "VHeatIR", "embed_dim": 8, "depths": [1, 2], "downscale": 2})
    again = load_weights(export_model(model, tmp_path / "model.pth")).network
    assert network_config(again) == {**network_config(model.network), "out_chans": 3}
