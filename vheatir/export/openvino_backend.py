"""A model's network in OpenVINO, for ``Restorer(model, backend="openvino")``.

The graph of :mod:`vheatir.export.graph` runs on the CPU. It is exported once and kept in the
user's cache folder, as ``vheatir/<SHA-256 of the network>-<graph version>-<checksum>.onnx``.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vheatir.archs.base import level_plane
from vheatir.errors import VHeatIRError
from vheatir.export.source import SIGMA_SCALE
from vheatir.image_io import write_bytes_atomically
from vheatir.weights import LoadedModel

log = logging.getLogger(__name__)

_PACKAGES = ("openvino", "onnx", "onnxscript")


def require_openvino() -> None:
    """Raise VHeatIRError unless the packages of the extra ``openvino`` are installed."""
    for name in _PACKAGES:
        if find_spec(name) is None:
            raise VHeatIRError(
                f"the backend 'openvino' needs the package {name!r}, which is not installed: "
                "pip install 'vheatir[openvino]'"
            )


class OpenVinoNetwork(nn.Module):
    """A network whose forward pass runs in OpenVINO, on the CPU, without gradients.

    It computes in float32, and under PyTorch's autocast to bfloat16 in bfloat16, with as many
    threads as PyTorch in the calling thread. Threads may call it at the same time. Attributes of
    the wrapped network, such as ``in_chans``, are found on this one.

    Args:
        model: the model. It is exported if the cache folder does not hold its graph.

    Raises:
        VHeatIRError: a package is not installed, or the network cannot be exported.
    """

    def __init__(self, model: LoadedModel) -> None:
        super().__init__()
        require_openvino()
        self.network = model.network
        openvino = import_openvino()
        self._core = openvino.Core()
        self._graph = self._core.read_model(_graph(model))
        # By precision and number of threads. A call takes one, or makes one with a compiled model
        # of its own: the requests of one compiled model share its threads and wait for each other.
        self._idle: dict[tuple[str, int], list[Any]] = {}
        self.eval()

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of this module, or else of the wrapped network."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "network":  # not set yet
                raise
            return getattr(self.network, name)

    def forward(self, x: Tensor, level: float | Tensor | None = None) -> Tensor:
        """Restore an image.

        Args:
            x: (B, in_chans, H, W) in [0, 1], on the CPU.
            level: a number, (B,) or (B, 1, H, W), sigma on 0..255; None if the model takes none.

        Returns:
            (B, out_chans, H, W), float32, not clipped.

        Raises:
            VHeatIRError: the level does not fit the model.
        """
        planes = level_plane(x.detach().float(), level, SIGMA_SCALE if self.takes_level else None)
        inputs = {"input": planes[:, : self.in_chans]}
        if self.takes_level:
            inputs["sigma"] = planes[:, self.in_chans :]
        low = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
        key = ("bf16" if low else "f32", torch.get_num_threads())
        idle = self._idle.setdefault(key, [])
        try:
            request = idle.pop()
        except IndexError:
            request = self._compile(*key)
        # Not infer(), which hides a lack of memory and returns the previous output.
        request.start_async({name: each.contiguous().numpy() for name, each in inputs.items()})
        request.wait()
        result = torch.from_numpy(request.get_tensor("output").data.copy())
        idle.append(request)
        return result

    def _compile(self, precision: str, threads: int) -> Any:
        settings = {
            # It would pin the calling thread, and those of several requests to the same cores.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
        }
        return self._core.compile_model(self._graph, "CPU", settings).create_infer_request()


def cache_folder() -> Path:
    """Return the folder of cached graphs, which may be deleted at any time.

    That is ``vheatir`` in ``$XDG_CACHE_HOME`` or ``~/.cache``, or on Windows in ``%LOCALAPPDATA%``.
    """
    variable = "LOCALAPPDATA" if os.name == "nt" else "XDG_CACHE_HOME"
    return Path(os.environ.get(variable) or Path.home() / ".cache") / "vheatir"


def _graph(model: LoadedModel) -> bytes:
    """Return the ONNX graph of a model, from the cache if it is there and undamaged."""
    from vheatir.export.graph import GRAPH_VERSION, to_onnx
    from vheatir.export.source import open_source

    try:
        source = open_source(model)
    except VHeatIRError as error:
        raise VHeatIRError(f"this model runs with the backend 'torch' alone: {error}") from None
    # Not the hash of the weight file: the weights may have changed since it was read.
    found = hashlib.sha256(json.dumps(source.config, sort_keys=True).encode())
    for name, tensor in model.network.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy())
    stem = f"{found.hexdigest()}-{GRAPH_VERSION}-"
    try:
        folder = cache_folder()
        for file in folder.glob(f"{stem}*.onnx"):
            data = file.read_bytes()
            if file.name == _file_name(stem, data):
                return data
    except (OSError, RuntimeError):  # RuntimeError: there is no home folder
        folder = None
    log.info("exporting %s for OpenVINO", source.name)
    data = to_onnx(source)
    try:
        if folder is not None:
            write_bytes_atomically(folder / _file_name(stem, data), data)
    except OSError as error:
        log.info("%s cannot be written: %s", folder, error.strerror)
    return data


def _file_name(stem: str, data: bytes) -> str:
    return f"{stem}{hashlib.sha256(data).hexdigest()[:16]}.onnx"


def import_openvino() -> Any:
    """Import OpenVINO without its telemetry, which reports each import to Google Analytics."""
    name = "openvino_telemetry"
    loaded = name in sys.modules
    if not loaded:
        sys.modules[name] = None  # type: ignore[assignment]  # OpenVINO then uses its stub
    try:
        import openvino
    finally:
        if not loaded:
            del sys.modules[name]
    return openvino
