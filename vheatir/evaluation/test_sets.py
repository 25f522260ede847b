"""Test sets: folders of clean images, or the photographs that scikit-image ships."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vheatir.bundled import heldout_photographs
from vheatir.degradations import to_color_mode
from vheatir.errors import VHeatIRError
from vheatir.image_io import IMAGE_SUFFIXES, list_images, read_image
from vheatir.tasks import TASKS, Task

BUNDLED = "bundled"


@dataclass(frozen=True)
class TestSet:
    """Clean images, read when they are needed.

    Attributes:
        name: for tables; the folder's name.
        names: of the images, without suffix, unique.
        bundled: these are scikit-image's photographs.
        whole: no image of the set is left out.
    """

    name: str
    names: tuple[str, ...]
    loaders: tuple[Callable[[], NDArray[Any]], ...]
    bundled: bool = False
    whole: bool = True

    __test__ = False  # not a test case, whatever pytest thinks of the name

    def __len__(self) -> int:
        return len(self.names)

    def load(self, index: int, task: Task) -> NDArray[np.uint8]:
        """Return an image in the colours of ``task``: ``uint8``, (H, W) or (H, W, 3)."""
        return np.ascontiguousarray(to_color_mode(self.loaders[index](), task.color))

    def first(self, limit: int | None) -> TestSet:
        """Return the set of the first ``limit`` images; all of them for None."""
        if limit is None or limit >= len(self):
            return self
        return replace(self, names=self.names[:limit], loaders=self.loaders[:limit], whole=False)


def folder_test_set(folder: str | os.PathLike[str]) -> TestSet:
    """Return the images below a folder, sorted by path, as a test set of the folder's name.

    Raises:
        VHeatIRError: the folder is missing or holds no image.
    """
    root = Path(folder)
    paths = list_images(root)
    stems = [path.relative_to(root).with_suffix("").as_posix().replace("/", "_") for path in paths]
    names = tuple(
        stem if stems.count(stem) == 1 else f"{stem}_{path.suffix[1:]}"
        for stem, path in zip(stems, paths, strict=True)
    )
    loaders = tuple(_reader(path) for path in paths)
    return TestSet(root.resolve().name, names, loaders)


def bundled_test_set() -> TestSet:
    """Return the held-out photographs of :mod:`vheatir.bundled`."""
    photographs = heldout_photographs()
    loaders = tuple(_constant(image) for image in photographs.values())
    return TestSet(BUNDLED, tuple(photographs), loaders, bundled=True)


def default_data_folder() -> Path | None:
    """Return where the test sets lie when nobody says so, or None where there are none.

    ``$VHEATIR_DATA/test`` if the variable is set; otherwise ``datasets`` (or ``datasets/test``)
    at the repository's root or in the working directory.

    Raises:
        VHeatIRError: the variable names no such folder.
    """
    named = os.environ.get("VHEATIR_DATA")
    if named:
        folder = Path(named) / "test"
        if not folder.is_dir():
            raise VHeatIRError(
                f"VHEATIR_DATA is set, but the folder {str(folder)!r} does not exist: "
                "unset the variable, correct it, or give --data"
            )
        return folder
    known = {name for task in TASKS.values() for name in task.benchmark_sets}
    for base in (Path(__file__).resolve().parents[2], Path.cwd()):
        for folder in (base / "datasets" / "test", base / "datasets"):
            if any((folder / name).is_dir() for name in known):
                return folder
    return None


def find_test_sets(folder: str | os.PathLike[str], task: Task) -> list[TestSet]:
    """Return the test sets for ``task`` below ``folder``.

    Where any of the published test sets lies there, those of the task; otherwise the folder
    itself if images lie in it, or each of its folders that holds images.

    Raises:
        VHeatIRError: the folder is missing, or holds no images at all.
    """
    root = Path(folder)
    if not root.is_dir():
        raise VHeatIRError(
            f"data folder {str(root)!r} does not exist: give one that holds Set12, McMaster, LIVE1 "
            "or classic5, or images of your own"
        )
    known = {name for any_task in TASKS.values() for name in any_task.benchmark_sets}
    if any(_holds_images(root / name) for name in known):
        found = [name for name in task.benchmark_sets if _holds_images(root / name)]
        return [folder_test_set(root / name) for name in found]
    if root.name in known:
        return [folder_test_set(root)] if root.name in task.benchmark_sets else []
    if any(path.suffix.lower() in IMAGE_SUFFIXES for path in root.iterdir()):
        return [folder_test_set(root)]
    sets = [folder_test_set(path) for path in sorted(root.iterdir()) if _holds_images(path)]
    if not sets:
        raise VHeatIRError(
            f"data folder {str(root)!r} holds no images: give one that holds Set12, McMaster, "
            "LIVE1 or classic5, or images of your own"
        )
    return sets


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(
        path.suffix.lower() in IMAGE_SUFFIXES for path in folder.rglob("*")
    )


def _reader(path: Path) -> Callable[[], NDArray[Any]]:
    return lambda: read_image(path)


def _constant(image: NDArray[Any]) -> Callable[[], NDArray[Any]]:
    return lambda: image
