"""Modules of the user, and the networks that they register in BasicSR's registry.

Only a command line, an option file or an argument names a module to import; weight files, training
states and their metadata never do.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vheatir._paths import PACKAGE
from vheatir.archs import adopt
from vheatir.errors import VHeatIRError, first_line


def import_modules(names: Sequence[str], folders: Sequence[Path] = ()) -> None:
    """Import modules, and adopt the networks that they define or register.

    These are the networks in BasicSR's ``ARCH_REGISTRY`` that the import added, or whose class
    belongs to one of the modules. A module may also add to :data:`vheatir.archs.ARCHS` itself.

    Args:
        names: such as ``my_archs`` or ``hat.archs``; looked up among the installed packages, in the
            working directory and in ``folders``.
        folders: further folders to search.

    Raises:
        VHeatIRError: a module does not exist, or its import fails.
    """
    if not names:
        return
    before = set(registered_networks())
    with _search_also([Path.cwd(), *folders]):
        for name in names:
            _import(name, folders)
    for key, network in registered_networks().items():
        home = f"{getattr(network, '__module__', '')}."
        if key not in before or any(home.startswith(f"{name}.") for name in names):
            adopt(key, network)


def adopt_registered(name: str) -> None:
    """Adopt the network that BasicSR's ``ARCH_REGISTRY`` holds as ``name``, if it does."""
    registered = registered_networks()
    if name in registered:
        adopt(name, registered[name])


def registered_networks() -> dict[str, Any]:
    """Return the content of BasicSR's ``ARCH_REGISTRY``; empty if BasicSR is not installed.

    Raises:
        VHeatIRError: BasicSR is installed, but torchvision does not match torch.
    """
    if importlib.util.find_spec("basicsr") is None:
        return {}
    from vheatir.basicsr_import import import_basicsr

    import_basicsr()
    from basicsr.utils.registry import ARCH_REGISTRY

    return dict(iter(ARCH_REGISTRY))


@contextmanager
def _search_also(folders: Sequence[Path]) -> Iterator[None]:
    """Append folders to ``sys.path``, after all packages, so that they shadow none of these."""
    # In the package's own folder, basicsr.py and others share names with packages.
    added = [str(folder.resolve()) for folder in folders if folder.resolve() != PACKAGE]
    sys.path += added
    importlib.invalidate_caches()
    try:
        yield
    finally:
        for folder in added:
            del sys.path[len(sys.path) - 1 - sys.path[::-1].index(folder)]


def _import(name: str, folders: Sequence[Path]) -> None:
    if name.endswith(".py"):
        raise VHeatIRError(
            f"{name!r} is the name of a file: give that of the module, {Path(name).stem!r}, and "
            "run the command in its folder"
        )
    if not all(part.isidentifier() for part in name.split(".")):
        raise VHeatIRError(
            f"{name!r} is not the name of a module: give one such as my_archs or my.archs"
        )
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and f"{name}.".startswith(f"{error.name}."):
            places = ", ".join(dict.fromkeys(str(path.resolve()) for path in folders))
            raise VHeatIRError(
                f"module {name!r} to import does not exist: it must be installed, or lie in the "
                f"working directory{' or in ' if places else ''}{places}"
            ) from None
        raise VHeatIRError(
            f"module {name!r} needs the package {error.name!r}, which is not installed: install it"
        ) from error
    except (Exception, SystemExit) as error:  # the user's code may raise anything
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise VHeatIRError(f"module {name!r} cannot be imported: {reason}") from error
