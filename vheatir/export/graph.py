"""ONNX files: one graph for images of any size.

``input`` (N, C, H, W) in [0, 1] -> ``output`` of the same size, float32, N, H, W >= 1. The graph
pads inside, by the network's own rule. A model that takes a level has a second input, ``sigma``
(N, 1, H, W), the standard deviation of the noise divided by 255, unless the level is built in.
The opset is 18, without custom operators. The DCT consists of products with cosine matrices, see
:mod:`vheatir.export.forms`.

The metadata of the file (``metadata_props``): ``name``, ``task``, ``level_name`` (``sigma``, or
``quality`` of JPEG), ``color`` (of a model trained on pairs alone), ``level_range``, ``level`` (the
one built in), ``licence``, ``sha256`` of the weight file (unless the weights were changed after
loading), ``weights`` (``float32`` or ``float16``), ``float16_psnr``.
"""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

import vheatir
from vheatir.archs import build_network
from vheatir.bundled import heldout_photographs
from vheatir.errors import VHeatIRError
from vheatir.export.forms import shared_matrices  # registers the forms that can be traced
from vheatir.export.source import SIGMA_SCALE, Source
from vheatir.weights import level_range, unchanged_file

if TYPE_CHECKING:
    import onnx

OPSET = 18
#: Increase it when the graphs change, so that cached ones are exported again.
GRAPH_VERSION = 2
#: Size at which the network is traced: N, H, W, all different, and a multiple of nothing.
_TRACED = (2, 19, 26)
_AXES = {0: "batch", 2: "height", 3: "width"}
#: Number of values from which a tensor is stored in float16.
_SMALLEST_HALVED = 256


class _Graph(nn.Module):
    """A network with the inputs of the ONNX file."""

    def __init__(self, network: nn.Module, level: float | None) -> None:
        super().__init__()
        self.network = network
        self.level = level

    def forward(self, image: Tensor, sigma: Tensor | None = None) -> Tensor:
        level = self.level if sigma is None else sigma * SIGMA_SCALE
        with shared_matrices():
            result: Tensor = self.network(image, level)
        return result


def to_onnx(source: Source, level: float | None = None, half: bool = False) -> bytes:
    """Return a model as the contents of an ONNX file.

    Args:
        source: the model.
        level: level to build in; None for the input ``sigma``, if the model takes a level.
        half: whether to store the weights in float16.

    Raises:
        VHeatIRError: the model takes no level, or none as high or low as this; a weight is too
            large for float16.
    """
    import onnx

    if level is not None:
        source.check_level(level)
    model = _trace(source, level)
    _tidy(model)
    if half:
        _halve_weights(model)
    fields = {**describe(source, level), "weights": "float16" if half else "float32"}
    if half:
        fields["float16_psnr"] = f"{half_precision_psnr(source, level):.1f} dB"
    onnx.helper.set_model_props(model, fields)
    model.producer_name, model.producer_version = "vheatir", vheatir.__version__
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def describe(source: Source, level: float | None) -> dict[str, str]:
    """Return the metadata of an exported model: its name, task, level, licence and source.

    Args:
        source: the model.
        level: the level that is built in, if any.
    """
    fields = {"name": source.name}
    if source.task is not None:
        fields["task"] = source.task.name
        if source.task.level_name is not None:
            fields["level_name"] = source.task.level_name
    elif "color" in source.model.info:  # trained on pairs alone
        fields["color"] = str(source.model.info["color"])
    trained = level_range(source.model.info)
    if trained is not None:
        fields["level_range"] = "{:g} to {:g}".format(*trained)
    if level is not None:
        fields["level"] = f"{level:g}"
    fields["licence"] = source.licence or "not stated"
    if unchanged_file(source.model) is not None:
        fields["sha256"] = source.model.sha256
    return fields


def half_precision_psnr(source: Source, level: float | None = None) -> float:
    """Return the PSNR in dB of the result with float16 weights against that with float32 weights.

    Measured on a bundled photograph; infinite for a model whose weights were stored in float16,
    such as the released ones.

    Args:
        source: the model.
        level: the level that is built in; by default the middle of the trained range.

    Raises:
        VHeatIRError: a weight is too large for float16.
    """
    full, half = _copy(source), _copy(source)
    for name, parameter in half.named_parameters():
        if parameter.numel() >= _SMALLEST_HALVED:
            parameter.copy_(parameter.half())
        if not torch.isfinite(parameter).all():
            raise VHeatIRError(f"{source.name}: {name} is too large for float16: use float32")
    photograph = torch.from_numpy(heldout_photographs()["chelsea"][:128, :128]) / 255
    x = photograph.permute(2, 0, 1)[None]
    if source.channels != x.shape[1]:
        x = x.mean(1, keepdim=True).expand(-1, source.channels, -1, -1)
    if level is None and source.takes_level:
        level = sum(level_range(source.model.info) or (0.0, 50.0)) / 2
    with torch.no_grad():
        error = (full(x, level) - half(x, level)).double().square().mean().item()
    return -10 * math.log10(error) if error else math.inf


def _trace(source: Source, level: float | None) -> onnx.ModelProto:
    """Return the graph of a model as PyTorch writes it."""
    batch, height, width = _TRACED
    images = [torch.zeros(batch, source.channels, height, width)]
    names = ["input"]
    if source.takes_level and level is None:
        images.append(torch.zeros(batch, 1, height, width))
        names.append("sigma")
    # Not Dim(min=1): PyTorch distinguishes sizes of one token from others, as to memory formats
    # and broadcasting. The operators of ONNX do not.
    sizes = dict.fromkeys(_AXES, torch.export.Dim.DYNAMIC)
    with warnings.catch_warnings():
        # of the names of sizes that two inputs share, and of PyTorch's own deprecated calls
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            _Graph(_copy(source), level).eval(),
            tuple(images),
            dynamo=True,
            dynamic_shapes=tuple(sizes for _ in images),
            external_data=False,
            opset_version=OPSET,
            input_names=names,
            output_names=["output"],
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _copy(source: Source) -> nn.Module:
    """Return a copy of the network on the CPU, in float32."""
    network = build_network(source.config)
    network.load_state_dict(source.model.network.state_dict())
    return network.eval().requires_grad_(False)


def _tidy(model: onnx.ModelProto) -> None:
    """Name the sizes of images, and drop what only debugging needs.

    The exporter writes, for every node, where in whose source files it comes from.
    """
    graph = model.graph
    for value in (*graph.input, *graph.output):
        for axis, name in _AXES.items():
            value.type.tensor_type.shape.dim[axis].dim_param = name
    del graph.value_info[:]
    del model.metadata_props[:]
    del graph.metadata_props[:]
    for part in (*graph.node, *graph.initializer, *graph.input, *graph.output):
        part.doc_string = ""
        del part.metadata_props[:]


def _halve_weights(model: onnx.ModelProto) -> None:
    """Store the network's weights in float16; the graph starts by converting them to float32.

    Small tensors stay as they are: biases, and constants of the graph.
    """
    import numpy as np
    import onnx
    from onnx import numpy_helper

    casts = []
    for tensor in model.graph.initializer:
        values = numpy_helper.to_array(tensor)
        if values.dtype != np.float32 or values.size < _SMALLEST_HALVED:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}.float16"))
        cast = onnx.helper.make_node(
            "Cast", [tensor.name], [name], f"{name}.cast", to=onnx.TensorProto.FLOAT
        )
        casts.append(cast)
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
