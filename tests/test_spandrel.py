"""spandrel reads the package's files, and its images are those of Restorer."""

from __future__ import annotations

import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from vheatir import Restorer, build_network, load_model
from vheatir.archs import network_config
from vheatir.errors import VHeatIRError
from vheatir.export import export_model
from vheatir.zoo import ModelEntry, list_models

spandrel = pytest.importorskip("spandrel", reason="needs spandrel, in the extra integrations")

SMALL = [entry for entry in list_models() if "small" in entry.name]

NETWORKS: dict[str, dict[str, Any]] = {
    "flat": {"type": "VHeatIR", "embed_dim": 8, "depths": [1, 2], "level_scale": 255.0},
    "gray": {"type": "VHeatIR", "embed_dim": 12, "depths": [1], "in_chans": 1, "downscale": 2},
    "U": {"type": "VHeatIRUNet", "channels": [8, 16], "depths": [1, 1], "mixers": ["conv", "hco"]},
    "convolutions": {"type": "VHeatIRUNet", "channels": [8, 8], "depths": [1, 1],
                     "mixers": ["conv", "conv"], "out_chans": 1},
}  # fmt: skip


@pytest.fixture
def own() -> Iterator[ModuleType]:
    """The module, with its architectures installed for the time of a test."""
    module = importlib.import_module("vheatir.spandrel")
    registry = spandrel.MAIN_REGISTRY
    saved = registry.copy()
    module.install()
    yield module
    vars(registry).update(vars(saved))


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(1, 3, 29, 22, generator=torch.Generator().manual_seed(0))


def restored(entry: ModelEntry, image: Tensor, level: float | None) -> Tensor:
    result: Tensor = Restorer(entry.name, "cpu").restore(image, level, tile=None)
    return result.clamp(0, 1)


@pytest.mark.parametrize("entry", SMALL, ids=lambda entry: entry.name)
def test_images_equal_those_of_restorer(
    entry: ModelEntry, own: ModuleType, image: Tensor, tmp_path: Path
) -> None:
    load = spandrel.ModelLoader().load_from_file
    model = load(entry.path)
    exported = load(export_model(entry.name, tmp_path / "model.pth"))
    for name, tensor in exported.model.state_dict().items():
        assert torch.equal(tensor, model.model.state_dict()[name])
    network = load_model(entry.name).network
    assert (model.architecture.id, model.purpose, model.scale) == ("VHeatIRUNet", "Restoration", 1)
    assert (model.input_channels, model.output_channels) == (network.in_chans, network.out_chans)
    assert model.tags == ["small"] and model.dtype == torch.float32
    image = image[:, : model.input_channels]
    if network.takes_level:
        assert type(model) is own.LevelModelDescriptor and model.level == 15
        assert torch.equal(exported(image), restored(entry, image, 15))
        model.level = 40
        assert torch.equal(model(image), restored(entry, image, 40))
    else:
        assert type(model) is spandrel.ImageModelDescriptor and not hasattr(model, "level")
        quality = None if entry.task == "photo" else 30
        assert torch.equal(exported(image), restored(entry, image, quality))


@pytest.mark.parametrize("name", NETWORKS)
def test_the_network_is_deduced(name: str, own: ModuleType) -> None:
    network = build_network(NETWORKS[name])
    model = spandrel.ModelLoader().load_from_state_dict({"params": network.state_dict()})
    assert network_config(model.model) == {
        **network_config(network),
        "out_chans": network.out_chans,
    }
    for side in (1, 2, 3, 9):
        x = torch.rand(1, model.input_channels, side, side + 1)
        assert model.size_requirements.check(side + 1, side)
        assert model(x).shape == (1, model.output_channels, side, side + 1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision(dtype: torch.dtype, own: ModuleType, image: Tensor) -> None:
    model = spandrel.ModelLoader().load_from_file(load_model("denoise_color_small").path)
    expected = model(image)
    low = model.to(dtype)(image.to(dtype))
    assert low.dtype == dtype
    error = (low.float() - expected).square().mean()
    assert -10 * torch.log10(error) > (70 if dtype == torch.float16 else 50)


@pytest.mark.parametrize("level", [25, np.float32(25), torch.tensor(25.0)])
def test_a_level_may_be_any_number(level: Any, own: ModuleType) -> None:
    model = own.LevelModelDescriptor.__new__(own.LevelModelDescriptor)
    model.level = level
    assert model.level == 25 and type(model.level) is float


@pytest.mark.parametrize("level", [-1, float("nan"), float("inf"), "15", None])
def test_an_invalid_level_is_refused(level: Any, own: ModuleType) -> None:
    network = build_network(NETWORKS["flat"])
    model = spandrel.ModelLoader().load_from_state_dict(network.state_dict())
    with pytest.raises(VHeatIRError, match="give the sigma of the noise"):
        model.level = level
    assert model.level == 15


def test_in_inference_mode(own: ModuleType, image: Tensor) -> None:
    """ComfyUI loads and runs models in it."""
    entry = next(entry for entry in SMALL if entry.task == "denoise_color")
    with torch.inference_mode():
        model = spandrel.ModelLoader().load_from_file(entry.path)
        result = model(image)
    assert torch.equal(result, restored(entry, image, 15))


def test_installing_twice_changes_nothing(own: ModuleType) -> None:
    before = [support.architecture.id for support in spandrel.MAIN_REGISTRY]
    assert before[-2:] == ["VHeatIR", "VHeatIRUNet"]
    assert own.install() == []
    assert [support.architecture.id for support in spandrel.MAIN_REGISTRY] == before


def test_without_spandrel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spandrel", None)
    monkeypatch.delitem(sys.modules, "vheatir.spandrel", raising=False)
    with pytest.raises(ModuleNotFoundError, match="'spandrel', which is not installed: pip"):
        importlib.import_module("vheatir.spandrel")


def foreign_networks() -> dict[str, nn.Module]:
    """Small networks of spandrel, with names of weights like the package's own."""
    from spandrel.architectures.DRUNet import DRUNet
    from spandrel.architectures.ESRGAN import ESRGAN
    from spandrel.architectures.HAT import HAT
    from spandrel.architectures.NAFNet import NAFNet
    from spandrel.architectures.SwinIR import SwinIR

    return {
        "SwinIR": SwinIR(depths=[2], embed_dim=12, num_heads=[2], window_size=4, img_size=16),
        "HAT": HAT(depths=[1], embed_dim=60, num_heads=[2], window_size=4, img_size=16),
        "ESRGAN": ESRGAN(num_filters=8, num_blocks=2),
        "DRUNet": DRUNet(in_nc=4, out_nc=3, nc=[8, 8, 8, 8], nb=2),
        "NAFNet": NAFNet(width=8, enc_blk_nums=[1], dec_blk_nums=[1]),
    }


def test_their_networks_are_not_taken_for_ours(own: ModuleType) -> None:
    for name, network in foreign_networks().items():
        state = network.state_dict()
        found = [s.architecture.id for s in spandrel.MAIN_REGISTRY if s.detect(state)]
        assert name in found and not {"VHeatIR", "VHeatIRUNet"} & set(found)


def test_our_networks_are_not_taken_for_theirs(own: ModuleType) -> None:
    models = {entry.name: load_model(entry.name).network for entry in SMALL}
    models |= {name: build_network(config) for name, config in NETWORKS.items()}
    for network in models.values():
        state = network.state_dict()
        found = [s.architecture.id for s in spandrel.MAIN_REGISTRY if s.detect(state)]
        assert found == [network_config(network)["type"]]


def test_damaged_weights_are_not_ours(own: ModuleType) -> None:
    state = build_network(NETWORKS["flat"]).state_dict()
    last = "conv_last.weight"
    for damaged in (
        {},
        {"conv_first.weight": 1, "conv_last.weight": 2},
        {**state, "other.weight": state[last]},
        {name: value for name, value in state.items() if name != last},
        {**state, "groups.1.conv.weight": state[last]},
        {**state, last: "text"},
    ):
        assert not any(support.detect(damaged) for support in own.REGISTRY)
        with pytest.raises(spandrel.UnsupportedModelError):
            spandrel.ModelLoader(registry=own.REGISTRY).load_from_state_dict(damaged)


# Programs that bring their own packages, such as ComfyUI, lack most of ours.
WITHOUT = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

MISSING = ["cv2", "skimage", "pywt", "tifffile", "yaml", "rich", "pydantic", "basicsr"]
sys.meta_path.insert(0, Missing())
import torch, spandrel, vheatir, vheatir.archs, vheatir.weights, vheatir.spandrel
from vheatir.ops.dct import dct2

vheatir.spandrel.install()
model = spandrel.ModelLoader().load_from_file(sys.argv[1])
x = torch.rand(1, 3, 40, 40)
assert model(x).shape == x.shape
model = spandrel.ModelLoader().load_from_state_dict(torch.load(sys.argv[2]))
x = torch.rand(1, 3, 200, 300)
for module in model.model.modules():
    if hasattr(module, "backend"):
        module.backend = "matmul"
expected = model(x)
for module in model.model.modules():
    if hasattr(module, "backend"):
        module.backend = "fft"
difference = (model(x) - expected).abs().max()
assert difference < 1e-5, difference
"""


def test_with_the_packages_of_spandrel_alone(tmp_path: Path) -> None:
    entry = next(entry for entry in SMALL if entry.task == "photo")
    torch.manual_seed(0)
    network = build_network({**NETWORKS["flat"], "level_scale": None})
    nn.init.normal_(network.conv_last.weight, std=0.1)
    torch.save(network.state_dict(), tmp_path / "flat.pth")
    command = [sys.executable, "-c", WITHOUT, str(entry.path), str(tmp_path / "flat.pth")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
