"""Weight files: safetensors that carry the network's configuration and its task.

Nothing in a weight file is ever executed. The header's entry ``vheatir`` is JSON: ``network``, the
configuration for :func:`vheatir.archs.build_network`, and ``info``: ``task``, ``level``, ``name``
and how the weights were trained.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vheatir.archs import build_network, network_config
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically
from vheatir.renamed import current_file

_KEY = "vheatir"
_FORMAT = 1
_LONGEST_NAME = 64


@dataclass(frozen=True)
class LoadedModel:
    """A network with its weights, and what the file says of them.

    Attributes:
        network: in evaluation mode.
        info: ``task``, ``level`` (a number, [lowest, highest], or None for a task
            without a level), ``name``, ``training``.
        path: the file.
        sha256: of the file.
    """

    network: nn.Module
    info: dict[str, Any]
    path: Path
    sha256: str


def save_weights(
    path: str | os.PathLike[str],
    network: nn.Module,
    info: Mapping[str, Any],
    *,
    dtype: torch.dtype | None = None,
) -> Path:
    """Write a network that :func:`load_weights` can rebuild from the file alone.

    Args:
        path: target, ``.safetensors``.
        network: made by :func:`vheatir.archs.build_network`.
        info: at least ``task`` and ``level``; JSON types.
        dtype: store floating-point weights in this dtype (``torch.float16`` halves the file).
    """
    state = {
        name: tensor.detach().cpu().to(dtype if tensor.is_floating_point() else None).contiguous()
        for name, tensor in network.state_dict().items()
    }
    header = {"format": _FORMAT, "network": network_config(network), "info": dict(info)}
    data = safetensors.torch.save(state, {_KEY: json.dumps(header)})
    write_bytes_atomically(path, data)
    return Path(path)


def load_weights(path: str | os.PathLike[str], device: torch.device | str = "cpu") -> LoadedModel:
    """Rebuild a network from a weight file alone, in float32.

    Raises:
        VHeatIRError: the file is missing, damaged, not ours, or its weights do not fit its network
            or are not finite.
    """
    file = current_file(Path(path))
    data = _read(file)
    state, metadata = _parse(file, data)
    header = _header(file, metadata)
    _check_fit(file, header["network"], state)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise VHeatIRError(f"{file} holds infinite or NaN values in {name}: fetch it again")
    network = build_network(header["network"])
    network.load_state_dict(state)
    network = network.eval().requires_grad_(False).to(device)
    digest = hashlib.sha256(data).hexdigest()
    return LoadedModel(network, header["info"], file, digest)


def read_info(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read what a weight file says of itself, without reading its weights.

    Returns:
        ``task``, ``level`` (a number or [lowest, highest]), ``name``, ``training`` and whatever
        else was saved with the network; ``network``, its configuration for
        :func:`vheatir.archs.build_network`; ``params``, the number of its weights.

    Raises:
        VHeatIRError: the file is missing, damaged or not ours.
    """
    file = current_file(Path(path))
    _read(file, 0)  # a missing file has an error of its own
    try:
        with safetensors.safe_open(str(file), framework="pt") as opened:  # type: ignore[no-untyped-call]
            metadata = opened.metadata() or {}
            shapes = [opened.get_slice(name).get_shape() for name in opened.keys()]
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged(file, error) from None
    header = _header(file, metadata)
    params = sum(math.prod(shape) for shape in shapes)
    return {**header["info"], "network": header["network"], "params": params}


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """Read the weights of a ``.safetensors`` file, or of a ``.pth`` file as BasicSR writes it.

    Raises:
        VHeatIRError: missing, damaged, or a pickle that holds more than tensors.
    """
    file = current_file(Path(path))
    if file.suffix == ".safetensors":
        return _parse(file, _read(file))[0]
    _read(file, 0)  # a missing file has an error of its own
    try:
        loaded = load_pickle(file)
    except Exception:  # whatever a damaged pickle provokes
        raise VHeatIRError(
            f"weight file {file} is damaged, or holds more than tensors, which could run code: "
            "give one that holds weights only"
        ) from None
    for key in ("params_ema", "params"):
        if isinstance(loaded, dict) and isinstance(loaded.get(key), dict):
            loaded = loaded[key]
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise VHeatIRError(f"{file} holds no weights: a dict of tensors is needed")
    for key, tensor in loaded.items():
        if not _is_plain(tensor):
            raise VHeatIRError(f"{file} holds a tensor that is no plain weight, {key}: give others")
    return loaded


def load_pickle(path: Path) -> Any:
    """Read a file that ``torch.save`` has written; nothing in it is executed.

    Only tensors and plain containers are taken, with no way around it. A file that unpacks to more
    than it holds is no work of ``torch.save``, which never compresses.

    Raises:
        FileNotFoundError: it is missing.
        Exception: whatever a damaged or foreign file provokes.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more than it holds")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what a damaged file claims to be
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_plain(tensor: Tensor) -> bool:
    """Tell whether a tensor holds as many real numbers as its shape says: dense, on the CPU.

    A pickle can also describe tensors that repeat one number a million million times, or hold none.
    """
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_complex() or tensor.is_quantized)
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _read(file: Path, size: int = -1) -> bytes:
    try:
        with file.open("rb") as stream:
            return stream.read(size)
    except FileNotFoundError:
        raise VHeatIRError(f"weight file {file} does not exist") from None
    except OSError as error:
        raise VHeatIRError(f"weight file {file} cannot be opened: {error.strerror}") from None


def _check_fit(file: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Refuse weights that are not those of the network a file describes.

    The network is made without memory for its weights: a few bytes can describe one that no
    machine could hold.

    Raises:
        VHeatIRError: they differ, or the network is impossible.
    """
    # Each block and scale has weights; making the modules of a billion of them would not end.
    lists = [value for value in config.values() if isinstance(value, (list, str))]
    depths = config.get("depths")
    blocks = [d for d in depths if isinstance(d, (int, float))] if isinstance(depths, list) else []
    if max([sum(blocks), *map(len, lists)]) > max(len(state), _LONGEST_NAME):
        raise VHeatIRError(f"{file} describes a network that its weights cannot be: fetch it again")
    try:
        with torch.device("meta"):
            own = build_network(config).state_dict()
    except VHeatIRError as error:
        raise VHeatIRError(f"{file}: {error}") from None
    for name, tensor in own.items():
        if name not in state or state[name].shape != tensor.shape:
            raise VHeatIRError(f"{file} does not fit its own configuration: weight {name} is wrong")
    if extra := state.keys() - own.keys():
        raise VHeatIRError(f"{file} holds weights its network does not have: {sorted(extra)[0]}")


def _damaged(file: Path, error: Exception) -> VHeatIRError:
    return VHeatIRError(
        f"weight file {file} is damaged or no safetensors file ({str(error)[:120]}): fetch it again"
    )


def _header(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return our entry in a file's metadata, checked: ``format``, ``network``, ``info``."""
    if _KEY not in metadata:
        raise VHeatIRError(
            f"{file} carries no vHeatIR configuration: give a file that training exported"
        )
    try:
        header = json.loads(metadata[_KEY])
        sound = isinstance(header["network"], dict) and isinstance(header["info"], dict)
        version = header["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(file, error) from None
    if version != _FORMAT or not sound:
        raise VHeatIRError(
            f"{file} has format {version!r}, not {_FORMAT}: upgrade vHeatIR, or fetch it again"
        )
    return dict(header)


def _parse(file: Path, data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Split a safetensors file into float32 weights and its metadata."""
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _damaged(file, error) from None
    state = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return state, metadata
