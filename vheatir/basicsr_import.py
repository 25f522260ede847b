"""Import BasicSR: check its dependencies and patch an import that newer torchvision removed.

BasicSR 1.4.2 imports ``torchvision.transforms.functional_tensor``, removed in torchvision 0.17.
Call :func:`import_basicsr` before importing anything from BasicSR.
"""

from __future__ import annotations

import sys
from importlib import import_module, metadata
from types import ModuleType

from vheatir.errors import VHeatIRError, first_line

#: The torchvision release of each torch release that the tests pass with.
_TESTED = {"2.14.1": "0.29.1"}

_REMOVED_MODULE = "torchvision.transforms.functional_tensor"


def import_basicsr() -> ModuleType:
    """Import BasicSR with its dependencies checked and patched; repeated calls are cheap.

    Returns:
        The package ``basicsr``.

    Raises:
        VHeatIRError: torchvision is missing, broken or does not match the torch release, or
            BasicSR is not installed.
    """
    check_torchvision()
    if _REMOVED_MODULE not in sys.modules:
        try:
            import_module(_REMOVED_MODULE)
        except ModuleNotFoundError:
            # BasicSR uses only rgb_to_grayscale, which is still available here.
            sys.modules[_REMOVED_MODULE] = import_module("torchvision.transforms.functional")
    try:
        return import_module("basicsr")
    except ModuleNotFoundError as error:
        missing = error.name or "basicsr"
        raise VHeatIRError(
            f"training needs the package {missing!r}, which is not installed: "
            'pip install "vheatir[train]"'
        ) from error


def check_torchvision() -> None:
    """Check that torchvision can be imported and matches the torch release.

    A torchvision built for another torch fails at import or later inside an operator. The error
    says what is installed and what to install.

    Raises:
        VHeatIRError: torchvision is missing, fails to import or does not match torch.
    """
    import torch

    torch_version = str(torch.__version__)
    try:
        torchvision = import_module("torchvision")
    except (ImportError, RuntimeError, OSError, AttributeError) as error:
        problem = (
            f"torchvision {_installed('torchvision')} does not work with torch {torch_version} "
            f"({first_line(error)})"
        )
        if isinstance(error, ModuleNotFoundError) and error.name == "torchvision":
            problem = "training needs torchvision, which is not installed"
        raise VHeatIRError(f"{problem}: {_advice(torch_version)}") from error
    wanted = matching_torchvision(torch_version)
    if wanted is not None:
        version = str(getattr(torchvision, "__version__", "")) or _installed("torchvision")
        if version.split(".")[:2] != wanted.split(".")[:2]:
            raise VHeatIRError(
                f"torchvision {version} is not of the same release as torch {torch_version}: "
                f"{_advice(torch_version)}"
            )


def matching_torchvision(torch_version: str) -> str | None:
    """Return the torchvision release that matches a torch release.

    torch 2.N matches torchvision 0.(N + 15); the patch release is that of a tested pair where
    there is one.

    Args:
        torch_version: such as ``"2.14.1"`` or ``"2.14.1+cpu"``.

    Returns:
        Such as ``"0.29.1"`` or ``"0.28.*"``; None if the matching release is unknown.
    """
    release = torch_version.split("+")[0]
    if release in _TESTED:
        return _TESTED[release]
    major, minor, *_ = [*release.split("."), "", ""]
    return f"0.{int(minor) + 15}.*" if major == "2" and minor.isdigit() else None


def _advice(torch_version: str) -> str:
    release = torch_version.split("+")[0]
    wanted = matching_torchvision(torch_version)
    pair = f'torch=={release} "torchvision=={wanted}"' if wanted else "torch torchvision"
    same = ", from one index (CPU or CUDA builds alike)" if "+" in torch_version else ""
    return f"install both in one command{same}: pip install --force-reinstall {pair}"


def _installed(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "(unknown version)"
