"""Models as folders of the Hugging Face Hub: :func:`save_pretrained`, :func:`from_pretrained`.

A folder holds

- ``model.safetensors``: a weight file, see :mod:`vheatir.weights`. It is complete on its own.
- ``config.json``: the same header as in the weight file, ``format``, ``network`` and ``info``, and
  ``sha256``, the SHA-256 of the weight file, which is checked before the file is parsed.
- ``README.md``: the model card, see :mod:`vheatir.hub_card`.
- ``NOTICE``: the training photographs that such a card refers to.

Loading runs no code from the folder. docs/hub.md says what was tried.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vheatir._paths import checkout_root
from vheatir.archs import network_config
from vheatir.errors import VHeatIRError, first_line
from vheatir.hub_card import hub_card
from vheatir.image_io import StrPath, read_file, write_bytes_atomically
from vheatir.plugins import import_modules
from vheatir.weights import LoadedModel, build_model, read_info, save_weights, unchanged_file
from vheatir.zoo import released_entry

if TYPE_CHECKING:
    import torch

#: Prefix of a name on the Hub where a file or a released model may be meant too.
PREFIX = "hf://"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"

_FORMAT = 1
_MAX_CONFIG_BYTES = 1_000_000
_NAME = re.compile(r"[\w.-]+/[\w.-]+")


def save_pretrained(model: LoadedModel, folder: StrPath, *, licence: str | None = None) -> Path:
    """Write a model as a folder that :func:`from_pretrained` loads and the Hub can host.

    The weight file is copied where the network still has its weights, so that a released model
    keeps its SHA-256; otherwise the weights are written in float32. Existing files of the same
    names are replaced.

    Args:
        model: from :func:`vheatir.load_model`, :func:`vheatir.load_weights` or
            :func:`from_pretrained`.
        folder: created if it does not exist.
        licence: licence of the weights, such as ``"MIT"``, for a model that is not a released one.

    Returns:
        ``folder``.

    Raises:
        VHeatIRError: the network was not built by :func:`vheatir.build_network`, the licence is
            already known, or the folder cannot be written.
    """
    target = Path(folder)
    network = network_config(model.network)  # refuses a network without one before any file exists
    data = unchanged_file(model) if model.path.suffix == ".safetensors" else None
    entry = released_entry(model)
    if entry is not None and licence is not None:
        raise VHeatIRError(f"the licence of {entry.name} is known: leave licence out")
    try:
        if data is not None:
            write_bytes_atomically(target / WEIGHTS, data)
        else:
            data = save_weights(target / WEIGHTS, model.network, model.info).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        config = {"format": _FORMAT, "sha256": sha256, **_header(target / WEIGHTS)}
        card = hub_card(model, network, sha256, entry, licence)
        write_bytes_atomically(target / "README.md", card.encode())
        if entry is not None and entry.commercial_use and (notice := _notice()) is not None:
            write_bytes_atomically(target / "NOTICE", notice.encode())
        # last: a folder without it, or with that of other weights, is refused
        write_bytes_atomically(target / CONFIG, (json.dumps(config, indent=1) + "\n").encode())
    except OSError as error:
        raise VHeatIRError(
            f"{target} cannot be written: {error.strerror}: choose another folder"
        ) from None
    return target


def from_pretrained(
    name: StrPath,
    device: torch.device | str = "cpu",
    *,
    revision: str | None = None,
    imports: Sequence[str] = (),
) -> LoadedModel:
    """Load a model from a folder, or from the Hugging Face Hub or its cache.

    Args:
        name: a folder written by :func:`save_pretrained`; or ``"org/name"``, with or without
            ``hf://`` in front. A folder comes first, unless ``hf://`` is given.
        device: device of the network.
        revision: branch, tag or commit on the Hub; its main branch by default.
        imports: see :func:`vheatir.load_weights`.

    Raises:
        VHeatIRError: there is no such folder or repository, it cannot be fetched and is not in the
            cache, huggingface_hub is not installed, a file is missing, damaged or not the one that
            ``config.json`` describes, or any error of :func:`vheatir.load_weights`.
    """
    import_modules(imports)
    text = os.fspath(name)
    if Path(text).is_dir():
        if revision is not None:
            raise VHeatIRError(f"{text} is a folder, which has no revision: leave revision out")
        return _load(Path(text, CONFIG), Path(text, WEIGHTS), device)
    repository = text.removeprefix(PREFIX)
    if not _NAME.fullmatch(repository):
        raise VHeatIRError(
            f"{text!r} is neither a folder nor a name on the Hugging Face Hub: give a folder "
            "written by save_pretrained, or org/name"
        )
    config = _fetch(repository, CONFIG, revision)
    _read_config(config)  # before the weights of some other project are fetched
    # a file in the cache lies in the folder of its commit: both files are of the same one
    return _load(config, _fetch(repository, WEIGHTS, config.parent.name), device)


def from_address(address: str, *, imports: Sequence[str] = ()) -> LoadedModel:
    """Load ``hf://org/name`` or ``hf://org/name@revision``, see :func:`from_pretrained`."""
    name, _, revision = address.partition("@")
    return from_pretrained(name, revision=revision or None, imports=imports)


def _load(config_file: Path, file: Path, device: torch.device | str) -> LoadedModel:
    """Load a weight file that has the SHA-256 and the header of ``config.json``."""
    config = _read_config(config_file)
    data = read_file(file, str(file))
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != config["sha256"]:
        raise VHeatIRError(
            f"{file} is damaged or not the file that {CONFIG} beside it describes (SHA-256): "
            "download it again"
        )
    model = build_model(file, data, sha256, device)
    header = _header(file)
    stated = {key: config.get(key) for key in header}
    if json.dumps(stated, sort_keys=True) != json.dumps(header, sort_keys=True):  # NaN equals NaN
        raise VHeatIRError(
            f"{config_file} describes another model than {WEIGHTS} beside it: download it again"
        )
    return model


def _read_config(file: Path) -> dict[str, Any]:
    """Read ``config.json``."""
    try:
        with file.open("rb") as stream:
            data = stream.read(_MAX_CONFIG_BYTES)
    except FileNotFoundError:
        raise VHeatIRError(
            f"{file} does not exist: give a folder written by save_pretrained"
        ) from None
    except OSError as error:
        raise VHeatIRError(f"{file} cannot be opened: {error.strerror}") from None
    try:
        config = json.loads(data)
        known = isinstance(config["sha256"], str) and isinstance(config["network"], dict)
        version = config["format"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise VHeatIRError(
            f"{file} is damaged or not of vHeatIR: it needs format, sha256, network and info, as "
            "save_pretrained writes them"
        ) from None
    if version != _FORMAT or not known:
        raise VHeatIRError(
            f"{file} has format {version!r}, not {_FORMAT}: upgrade vHeatIR, or download it again"
        )
    return dict(config)


def _header(file: Path) -> dict[str, Any]:
    """Return ``network`` and ``info`` from the header of a weight file."""
    info = read_info(file)
    del info["params"]
    return {"network": info.pop("network"), "info": info}


def _fetch(repository: str, file: str, revision: str | None) -> Path:
    """Return a file of a repository on the Hub, in huggingface_hub's cache.

    Raises:
        VHeatIRError: it cannot be fetched and is not in the cache, or huggingface_hub is not
            installed.
    """
    try:
        from huggingface_hub import errors, hf_hub_download
    except ModuleNotFoundError as error:
        raise VHeatIRError(
            f"loading from the Hugging Face Hub needs the package {error.name!r}, which is not "
            "installed: pip install 'vheatir[hub]'"
        ) from None
    where = f"{repository}, revision {revision}," if revision else repository
    try:
        return Path(hf_hub_download(repository, file, revision=revision))
    except errors.LocalEntryNotFoundError:
        raise VHeatIRError(
            f"{file} of {where} is not in the cache of the Hugging Face Hub, which is offline or "
            "cannot be reached: connect and try again, or give a folder"
        ) from None
    except errors.GatedRepoError:
        reason = "access must be requested on its page, followed by hf auth login"
    except errors.RepositoryNotFoundError:
        reason = "there is no such repository, or it is private: check the name, or hf auth login"
    except errors.RevisionNotFoundError:
        reason = "there is no such revision: give a branch, a tag or a commit"
    except errors.EntryNotFoundError:
        reason = "there is no such file: give a repository with a model saved by save_pretrained"
    except Exception as error:  # of the network, of the disk, or an invalid name
        reason = first_line(error)
    raise VHeatIRError(f"{file} of {where} cannot be fetched from the Hugging Face Hub: {reason}")


def _notice() -> str | None:
    """Return the project's NOTICE, which lists the training photographs; None without it."""
    root = checkout_root()
    if root is not None:
        return (root / "NOTICE").read_text(encoding="utf-8")
    try:
        return metadata.distribution("vheatir").read_text("licenses/NOTICE")
    except metadata.PackageNotFoundError:
        return None
