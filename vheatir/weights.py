"""Weight files: safetensors with the network configuration and the task in their metadata.

Loading a weight file never executes code from it. The metadata entry ``vheatir`` is JSON with
``format``, ``network`` (the configuration for :func:`vheatir.archs.build_network`) and ``info``:
``task``, ``level``, ``name`` and ``training``. A checkpoint of BasicSR (``.pth``) has none of
these: its network is deduced from the weights.
"""

from __future__ import annotations

import hashlib
import json
import math
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from vheatir.archs import ARCHS, FOREIGN, build_network, network_config
from vheatir.archs.detect import detect_config
from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath, write_bytes_atomically
from vheatir.plugins import import_modules
from vheatir.renamed import current_file

_KEY = "vheatir"
_FORMAT = 1
_MAX_NAME_LENGTH = 64
_CHECKPOINTS = (".pth", ".pt", ".ckpt")


@dataclass(frozen=True)
class LoadedModel:
    """A network loaded from a weight file, with the metadata of the file.

    Attributes:
        network: the network, in evaluation mode.
        info: ``task``, ``level`` (a number, [lowest, highest], or None for a task without a level),
            ``name``, ``training``. For a checkpoint of BasicSR only ``name``.
        path: path of the weight file.
        sha256: SHA-256 of the weight file.
    """

    network: nn.Module
    info: dict[str, Any]
    path: Path
    sha256: str

    @property
    def name(self) -> str:
        """Name of the model; that of its file if it has none."""
        return str(self.info.get("name") or self.path.stem)


def save_weights(
    path: StrPath, network: nn.Module, info: Mapping[str, Any], *, dtype: torch.dtype | None = None
) -> Path:
    """Write a self-contained weight file, which :func:`load_weights` can load on its own.

    Args:
        path: output file, ``.safetensors``.
        network: built by :func:`vheatir.archs.build_network`.
        info: at least ``task`` and ``level``; JSON types, see :func:`with_nulls`.
        dtype: store floating-point weights in this dtype (``torch.float16`` halves the file size).

    Returns:
        ``path``.

    Raises:
        VHeatIRError: ``network`` was not built by :func:`vheatir.archs.build_network`.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> network = build_network({"type": "VHeatIRUNet", "size": "small"})
        >>> with TemporaryDirectory() as folder:
        ...     info = {"task": "photo", "level": None}
        ...     file = save_weights(f"{folder}/mine.safetensors", network, info)
        ...     load_weights(file).info["task"]
        'photo'
    """
    # Cloned: a foreign network may share a tensor between modules.
    state = {
        name: tensor.detach()
        .cpu()
        .to(dtype if tensor.is_floating_point() else None)
        .clone(memory_format=torch.contiguous_format)
        for name, tensor in network.state_dict().items()
    }
    header = {"format": _FORMAT, "network": network_config(network), "info": with_nulls(info)}
    write_bytes_atomically(path, safetensors.torch.save(state, {_KEY: json.dumps(header)}))
    return Path(path)


def with_nulls(value: Any) -> Any:
    """Replace numbers that JSON lacks, such as the infinite PSNR of equal images, by None."""
    if isinstance(value, Mapping):
        return {key: with_nulls(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [with_nulls(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def load_weights(
    path: StrPath, device: torch.device | str = "cpu", *, imports: Sequence[str] = ()
) -> LoadedModel:
    """Build a network from a weight file and load its weights, in float32.

    Args:
        path: a weight file, or a checkpoint of BasicSR (``.pth``) with one of the package's
            networks; its average (EMA) if it holds one.
        device: device of the network.
        imports: modules to import first, which register networks that are not part of the package;
            see :func:`vheatir.plugins.import_modules`.

    Raises:
        VHeatIRError: the file is missing, damaged or not a vHeatIR weight file, its network is not
            known, or its weights do not match its network or are not finite.
    """
    import_modules(imports)
    file, data = _read(path)
    return build_model(file, data, hashlib.sha256(data).hexdigest(), device)


def build_model(
    file: Path, data: bytes, sha256: str, device: torch.device | str = "cpu"
) -> LoadedModel:
    """Build a network from the contents of a weight file, see :func:`load_weights`.

    Args:
        file: the weight file.
        data: its contents.
        sha256: their SHA-256.
        device: device for the weights.

    Raises:
        VHeatIRError: see :func:`load_weights`.
    """
    if file.suffix.lower() in _CHECKPOINTS:
        state = read_state_dict(file)
        header = _deduced_header(file, state)
    else:
        state, metadata = _parse(file, data)
        header = _header(file, metadata)
        _check_fit(file, header["network"], state)
    for name, tensor in state.items():
        if not torch.isfinite(tensor).all():
            raise VHeatIRError(
                f"{file} contains infinite or NaN values in {name}: download it again"
            )
    network = build_network(header["network"])
    network.load_state_dict(state)
    network = network.eval().requires_grad_(False).to(device)
    return LoadedModel(network, header["info"], file, sha256)


def unchanged_file(model: LoadedModel) -> bytes | None:
    """Return the contents of a model's weight file; None if the network has other weights now."""
    try:
        data = model.path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != model.sha256:
        return None
    now, stored = model.network.state_dict(), read_state_dict(model.path)
    same = now.keys() == stored.keys() and all(
        tensor.equal(now[name].to("cpu", tensor.dtype)) for name, tensor in stored.items()
    )
    return data if same else None


def level_range(info: Mapping[str, Any]) -> tuple[float, float] | None:
    """Return the lowest and highest level a model is trained for; None if its info names none.

    Args:
        info: :attr:`LoadedModel.info`, whose ``level`` is a number or [lowest, highest].
    """
    level = info.get("level")
    try:
        low, high = level if isinstance(level, (list, tuple)) else (level, level)
        return float(low), float(high)
    except (TypeError, ValueError):  # None, or the file is not of this project
        return None


def read_info(path: StrPath) -> dict[str, Any]:
    """Read the metadata of a weight file without reading its weights.

    Returns:
        ``task``, ``level`` (a number, [lowest, highest] or None), ``name``, ``training`` and any
        other info saved with the network; ``network``, the configuration for
        :func:`vheatir.archs.build_network`; ``params``, the number of parameters.

    Raises:
        VHeatIRError: the file is missing, damaged or not a vHeatIR weight file.
    """
    file, _ = _read(path, 0)  # reports a missing file with a specific message
    try:
        with safetensors.safe_open(str(file), framework="pt") as opened:  # type: ignore[no-untyped-call]
            metadata = opened.metadata() or {}
            params = sum(math.prod(opened.get_slice(name).get_shape()) for name in opened.keys())
    except (safetensors.SafetensorError, OSError) as error:
        raise _damaged_error(file, error) from None
    header = _header(file, metadata)
    return {**header["info"], "network": header["network"], "params": params}


def read_state_dict(path: StrPath, key: str | None = None) -> dict[str, Tensor]:
    """Read the state dict of a ``.safetensors`` file or of a BasicSR ``.pth`` checkpoint.

    Args:
        path: the file.
        key: entry of a ``.pth`` checkpoint to read; ``params`` if it is missing, as in BasicSR.
            None prefers ``params_ema`` to ``params``, and accepts a checkpoint without entries.

    Raises:
        VHeatIRError: the file is missing, damaged, has no such entry, or is a pickle with anything
            but tensors.
    """
    if Path(path).suffix.lower() == ".safetensors":
        return _parse(*_read(path))[0]
    file, _ = _read(path, 0)  # reports a missing file with a specific message
    try:
        loaded = load_pickle(file)
    except Exception:  # a damaged pickle can raise anything
        raise VHeatIRError(
            f"weight file {file} is damaged, or contains objects other than tensors, which could "
            "run code: use a file with weights only"
        ) from None
    entries = loaded if isinstance(loaded, dict) else {}
    for name in ("params_ema", "params") if key is None else (key, "params"):
        if isinstance(entries.get(name), dict):
            loaded = entries[name]
            break
    else:
        if key is not None:
            found = [str(name) for name, value in entries.items() if isinstance(value, dict)]
            raise VHeatIRError(
                f"{file} has no entry {key!r}: leave path:param_key_g out"
                + (f", or give one of {', '.join(found)}" if found else "")
            )
    if not isinstance(loaded, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in loaded.items()
    ):
        raise VHeatIRError(f"{file} contains no weights: it must be a dict of tensors")
    for key, tensor in loaded.items():
        if not _is_real_and_dense(tensor):
            raise VHeatIRError(
                f"{file} contains an unsupported tensor, {key}: weights must be real and dense"
            )
    # The prefix of DistributedDataParallel; half precision as from a .safetensors file.
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in loaded.items()
    }


def load_pickle(path: Path) -> Any:
    """Read a file written by ``torch.save`` without executing code from it.

    Only tensors and plain containers are accepted. ``torch.save`` never compresses, so an archive
    that unpacks to more than its own size is rejected.

    Raises:
        FileNotFoundError: the file is missing.
        Exception: of any type, if the file is damaged or of another kind.
    """
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
                raise ValueError("it unpacks to more than its own size")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged file can trigger any warning
        return torch.load(path, map_location="cpu", weights_only=True)


def _is_real_and_dense(tensor: Tensor) -> bool:
    """Whether a tensor is real, dense, on the CPU, and its storage as large as its shape says.

    A pickle can also describe expanded tensors (stride 0) of arbitrary size, or tensors without
    storage.
    """
    return (
        tensor.layout == torch.strided
        and tensor.device.type == "cpu"
        and not (tensor.is_complex() or tensor.is_quantized)
        and tensor.numel() * tensor.element_size() <= tensor.untyped_storage().nbytes()
    )


def _read(path: StrPath, size: int = -1) -> tuple[Path, bytes]:
    """Return the path and the first ``size`` bytes, or all, of a weight file.

    For a missing released file with an old name, the one with its new name is read.
    """
    file = Path(path)
    file = file if file.exists() else current_file(file)
    try:
        with file.open("rb") as stream:
            return file, stream.read(size)
    except FileNotFoundError:
        raise VHeatIRError(f"weight file {file} does not exist") from None
    except OSError as error:
        raise VHeatIRError(f"weight file {file} cannot be opened: {error.strerror}") from None


def _deduced_header(file: Path, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the header of a checkpoint of BasicSR, whose task is unknown.

    Raises:
        VHeatIRError: the weights are not of a network of the package.
    """
    try:
        network = detect_config(state)
        _check_fit(file, network, state)
    except VHeatIRError:
        raise VHeatIRError(
            f"{file} does not say what its network is, and its weights are not those of a VHeatIR "
            "or VHeatIRUNet: give a .safetensors file exported by training"
        ) from None
    return {"network": network, "info": {"name": file.stem}}


def _check_fit(file: Path, config: Mapping[str, Any], state: Mapping[str, Tensor]) -> None:
    """Check that the weights match the network that the file describes.

    The network is built on the meta device: a few bytes can describe one that exceeds any memory.
    Only one that the user imported, and that cannot be built there, is built in memory.

    Raises:
        VHeatIRError: they do not match, or the network is not known or cannot be built.
    """
    kind = config.get("type")
    if not isinstance(kind, str) or kind not in ARCHS:
        raise VHeatIRError(
            f"{file} needs the network type {str(kind)[:_MAX_NAME_LENGTH]!r}, which is not part of "
            "vHeatIR: give --import MODULE (in Python: imports=[...]) that registers it"
        )
    # Every block and scale has weights, so more of them than tensors is an invalid configuration.
    # Check this first: building the modules of a billion blocks would never finish.
    lists = [value for value in config.values() if isinstance(value, (list, str))]
    depths = config.get("depths")
    blocks = [d for d in depths if isinstance(d, (int, float))] if isinstance(depths, list) else []
    if max([sum(blocks), *map(len, lists)]) > max(len(state), _MAX_NAME_LENGTH):
        raise VHeatIRError(
            f"{file} describes a network that its weights do not match: download it again"
        )
    try:
        expected = _build_empty(config).state_dict()
    except VHeatIRError as error:
        raise VHeatIRError(f"{file}: {error}") from None
    for name, tensor in expected.items():
        if name not in state or state[name].shape != tensor.shape:
            raise VHeatIRError(
                f"{file} does not match its own configuration: weight {name} is wrong"
            )
    if extra := state.keys() - expected.keys():
        raise VHeatIRError(f"{file} contains weights its network does not have: {min(extra)}")


def _build_empty(config: Mapping[str, Any]) -> nn.Module:
    try:
        with torch.device("meta"):
            return build_network(config)
    except VHeatIRError:
        if config["type"] not in FOREIGN:
            raise
    return build_network(config)  # SwinIR, for one, reads values of tensors while it is built


def _damaged_error(file: Path, error: Exception) -> VHeatIRError:
    return VHeatIRError(
        f"weight file {file} is damaged or not a safetensors file ({str(error)[:120]}): "
        "download it again"
    )


def _header(file: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the validated ``vheatir`` entry of the metadata: ``format``, ``network``, ``info``."""
    if _KEY not in metadata:
        raise VHeatIRError(
            f"{file} contains no vHeatIR configuration: use a file exported by training"
        )
    try:
        header = json.loads(metadata[_KEY])
        valid = isinstance(header["network"], dict) and isinstance(header["info"], dict)
        version = header["format"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged_error(file, error) from None
    if version != _FORMAT or not valid:
        raise VHeatIRError(
            f"{file} has format {version!r}, not {_FORMAT}: upgrade vHeatIR, or download it again"
        )
    return dict(header)


def _parse(file: Path, data: bytes) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Parse a safetensors file into float32 weights and its metadata."""
    try:
        tensors = safetensors.torch.load(data)
        size = int.from_bytes(data[:8], "little")
        metadata = json.loads(data[8 : 8 + size]).get("__metadata__") or {}
    except (safetensors.SafetensorError, ValueError, KeyError) as error:
        raise _damaged_error(file, error) from None
    state = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    return state, metadata
