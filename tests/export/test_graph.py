"""ONNX Runtime computes what PyTorch does, from one file, at sizes it was not traced at."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from tests.export.conftest import ONNX
from tests.export.networks import CONVOLUTIONS, tiny_model
from vheatir import __version__, load_model
from vheatir.errors import VHeatIRError
from vheatir.export.source import Source, open_source

onnx = pytest.importorskip("onnx", reason=ONNX)
onnxruntime = pytest.importorskip("onnxruntime", reason=ONNX)
pytest.importorskip("onnxscript", reason=ONNX)

from vheatir.export.graph import describe, half_precision_psnr, to_onnx  # noqa: E402

SIZES = [(1, 1), (1, 7), (7, 300), (97, 101), (40, 64)]
TOLERANCE = 1e-5


def run(data: bytes, **feeds: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_inputs()] == list(feeds)
    (output,) = session.run(["output"], {name: each.numpy() for name, each in feeds.items()})
    return torch.from_numpy(output)


def metadata(data: bytes) -> dict[str, str]:
    model = onnx.load_model_from_string(data)
    return {each.key: each.value for each in model.metadata_props}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 3])
def test_a_blind_model(photo: tuple[Source, bytes], size: tuple[int, int], count: int) -> None:
    source, data = photo
    x = torch.rand(count, 3, *size)
    with torch.no_grad():
        expected = source.model.network(x)
    assert (run(data, input=x) - expected).abs().max() < TOLERANCE


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("count", [1, 3])
def test_a_model_with_levels(
    denoiser: tuple[Source, bytes], size: tuple[int, int], count: int
) -> None:
    source, data = denoiser
    x = torch.rand(count, 3, *size)
    maps = [torch.full((count, 1, *size), end) for end in (0.0, 55.0)]
    for level in (*maps, 55 * torch.rand(count, 1, *size)):
        with torch.no_grad():
            expected = source.model.network(x, level)
        assert (run(data, input=x, sigma=level / 255) - expected).abs().max() < TOLERANCE


def test_the_graph_has_standard_operators_without_branches_or_float64(
    denoiser: tuple[Source, bytes],
) -> None:
    model = onnx.load_model_from_string(denoiser[1])
    assert [(each.domain, each.version) for each in model.opset_import] == [("", 18)]
    assert not model.functions
    assert not {node.op_type for node in model.graph.node} & {"If", "Loop", "Scan"}
    kinds = {each.data_type for each in model.graph.initializer}
    kinds |= {
        attribute.i
        for node in model.graph.node
        if node.op_type == "Cast"
        for attribute in node.attribute
        if attribute.name == "to"
    }
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    kinds |= {each.type.tensor_type.elem_type for each in inferred.graph.value_info}
    assert onnx.TensorProto.DOUBLE not in kinds
    shapes = {
        each.name: [dim.dim_param or dim.dim_value for dim in each.type.tensor_type.shape.dim]
        for each in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {
        "input": ["batch", 3, "height", "width"],
        "sigma": ["batch", 1, "height", "width"],
        "output": ["batch", 3, "height", "width"],
    }


def test_the_file_says_what_it_is_and_nothing_about_this_machine(
    photo: tuple[Source, bytes], denoiser: tuple[Source, bytes]
) -> None:
    assert metadata(photo[1]) == {
        "name": "photo_small_clean",
        "task": "photo",
        "licence": "Apache-2.0",
        "sha256": photo[0].model.sha256,
        "weights": "float32",
    }
    found = metadata(denoiser[1])
    assert found["level_name"] == "sigma" and found["level_range"] == "0 to 55"
    assert "BSDS500" in found["licence"]
    model = onnx.load_model_from_string(denoiser[1])
    assert (model.producer_name, model.producer_version) == ("vheatir", __version__)
    assert b".py" not in denoiser[1]


def test_changed_weights_are_no_released_model() -> None:
    model = load_model("photo_small_clean")
    model.network.conv_last.bias += 0.25
    source = open_source(model, "MIT")
    assert (source.entry, source.licence) == (None, "MIT")
    fields = describe(source, None)
    assert "sha256" not in fields and fields["licence"] == "MIT"


def test_a_level_built_in_leaves_one_input_and_float16_halves_the_file() -> None:
    config = {**CONVOLUTIONS, "channels": [32, 32], "level_scale": 255}
    source = open_source(tiny_model(config))
    full, half = to_onnx(source, 15), to_onnx(source, 15, half=True)
    assert to_onnx(source, 15) == full  # equal models give equal files
    noted = metadata(half)
    assert 40 < float(noted.pop("float16_psnr").removesuffix(" dB")) < 150
    assert noted == {**metadata(full), "weights": "float16"}
    assert metadata(full)["level"] == "15" and metadata(full)["licence"] == "not stated"
    x = torch.rand(1, 3, 30, 21)
    with torch.no_grad():
        expected = source.model.network(x, 15)
        assert (run(full, input=x) - expected).abs().max() < TOLERANCE
        for parameter in source.model.network.parameters():
            if parameter.numel() >= 256:
                parameter.copy_(parameter.half())
        rounded = source.model.network(x, 15)
    assert (run(half, input=x) - rounded).abs().max() < TOLERANCE
    assert not torch.equal(rounded, expected)
    assert len(half) < 0.7 * len(full)


def test_the_flat_network() -> None:
    config = {
        "type": "VHeatIR", "embed_dim": 8, "depths": [1], "norm": "post", "img_range": 2.0,
        "out_chans": 1, "level_scale": 100.0,
    }  # fmt: skip
    source = open_source(tiny_model(config))
    data = to_onnx(source)
    for count, size in ((1, (1, 1)), (3, (23, 30))):
        x, level = torch.rand(count, 3, *size), 55 * torch.rand(count, 1, *size)
        with torch.no_grad():
            expected = source.model.network(x, level)
        assert (run(data, input=x, sigma=level / 255) - expected).abs().max() < TOLERANCE


def test_float16_holds_the_released_weights_exactly(photo: tuple[Source, bytes]) -> None:
    assert half_precision_psnr(photo[0]) == math.inf


def test_a_weight_too_large_for_float16_is_refused() -> None:
    model = tiny_model({**CONVOLUTIONS, "channels": [32, 32]})
    model.network.get_parameter("conv_first.weight").fill_(1e6)
    with pytest.raises(VHeatIRError, match=r"conv_first.weight is too large for float16"):
        half_precision_psnr(open_source(model))


@pytest.mark.parametrize(
    ("config", "level", "message"),
    [
        ({}, 15, "takes no level, since it is blind"),
        ({"level_scale": 255}, 56, "level 56: tiny is trained for sigma 0 to 55"),
        ({"level_scale": 255}, -1, "trained for sigma 0 to 55"),
        ({"level_scale": 255}, float("nan"), "trained for sigma 0 to 55"),
    ],
)
def test_a_level_that_does_not_fit(config: dict[str, float], level: float, message: str) -> None:
    source = open_source(tiny_model({**CONVOLUTIONS, **config}))
    with pytest.raises(VHeatIRError, match=message):
        to_onnx(source, level)
