"""Test sets: folders of clean images, folders of pairs, or the photographs of scikit-image.

Pairs are for the task ``photo``: real noisy photographs and the means of many shots of the same
scene. Two layouts are supported: ``noisy/`` and ``clean/`` with files of equal names, and files
``NAME_real`` and ``NAME_mean`` in one folder, as in the repositories of CC15 and PolyU.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.data.sources import BUNDLED
from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath, is_image_name, list_images, read_image
from vheatir.tasks import TASKS, Task

#: Test sets of published tables, by folder name.
PUBLISHED_SETS = sorted({name for task in TASKS.values() for name in task.benchmark_sets})

# The two layouts of paired sets: folder names, and suffixes of file stems.
_NOISY, _CLEAN = "noisy", "clean"
_REAL, _MEAN = "_real", "_mean"


class Images(Protocol):
    """Images by index: arrays, or files that are read when they are asked for."""

    def __getitem__(self, index: int, /) -> NDArray[Any]:
        """Return an image, see :func:`vheatir.image_io.read_image`."""


@dataclass(frozen=True)
class _Files:
    """Image files, read when they are asked for."""

    paths: Sequence[Path]

    def __getitem__(self, index: int, /) -> NDArray[Any]:
        return read_image(self.paths[index])


@dataclass(frozen=True)
class BenchmarkSet:
    """A test set of clean images, optionally paired with noisy ones, loaded lazily.

    Attributes:
        name: name in tables; the name of the folder.
        names: unique names of the images, without suffix.
        clean: the clean images.
        noisy: the noisy images; None if the degradation is synthetic.
    """

    name: str
    names: tuple[str, ...]
    clean: Images
    noisy: Images | None = None

    def __len__(self) -> int:
        return len(self.names)

    @property
    def is_paired(self) -> bool:
        """Whether each clean image has a noisy one."""
        return self.noisy is not None

    def load(self, index: int, task: Task) -> NDArray[np.uint8]:
        """Return a clean image in the colour mode of ``task``: ``uint8``, (H, W) or (H, W, 3)."""
        return np.ascontiguousarray(to_color_mode(self.clean[index], task.color))

    def load_pair(
        self, index: int, task: Task
    ) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
        """Return a clean and its noisy image (None if the set is not paired); see :meth:`load`.

        Raises:
            VHeatIRError: the two differ in size.
        """
        clean = self.load(index, task)
        if self.noisy is None:
            return clean, None
        noisy = np.ascontiguousarray(to_color_mode(self.noisy[index], task.color))
        if noisy.shape != clean.shape:
            sizes = [f"{image.shape[1]}x{image.shape[0]}" for image in (noisy, clean)]
            raise VHeatIRError(
                f"pair {self.names[index]!r} of {self.name} does not match: the noisy image has "
                f"{sizes[0]} pixels, the clean one {sizes[1]}; give pairs of equal size"
            )
        return clean, noisy

    def first(self, limit: int | None) -> BenchmarkSet:
        """Return a set of the first ``limit`` images; None keeps all."""
        return replace(self, names=self.names[:limit])


def folder_test_set(folder: StrPath) -> BenchmarkSet:
    """Return the images below a folder, sorted by path, as a test set named after the folder.

    Raises:
        VHeatIRError: the folder is missing or contains no images.
    """
    root = Path(folder)
    paths = list_images(root)
    stems = [path.relative_to(root).with_suffix("").as_posix().replace("/", "_") for path in paths]
    counts = Counter(stems)
    names = tuple(
        stem if counts[stem] == 1 else _whole_name(path.relative_to(root))
        for stem, path in zip(stems, paths, strict=True)
    )
    return BenchmarkSet(root.resolve().name, names, _Files(paths))


def paired_test_set(folder: StrPath) -> BenchmarkSet:
    """Return the pairs in a folder, sorted by name, as a test set named after the folder.

    Args:
        folder: contains ``noisy/`` and ``clean/``, or images ``*_real`` and ``*_mean``, perhaps in
            subfolders; other files in the second layout are ignored.

    Raises:
        VHeatIRError: there are no pairs, or an image has no counterpart.
    """
    root = Path(folder)
    if (root / _NOISY).is_dir() or (root / _CLEAN).is_dir():
        noisy, clean = (_by_stem(root / kind, nested=True) for kind in (_NOISY, _CLEAN))
    else:
        images = _by_stem(root)
        noisy, clean = (
            {name[: -len(end)]: images[name] for name in images if name.lower().endswith(end)}
            for end in (_REAL, _MEAN)
        )
    if alone := sorted(noisy.keys() ^ clean.keys()):
        missing = "clean" if alone[0] in noisy else "noisy"
        more = f" (and {len(alone) - 1} more)" if len(alone) > 1 else ""
        raise VHeatIRError(
            f"{alone[0]!r} in {str(root)!r} has no {missing} image{more}: give each pair one name"
            f" in {_NOISY}/ and {_CLEAN}/, or NAME{_REAL} and NAME{_MEAN}"
        )
    if not noisy:
        raise VHeatIRError(
            f"{str(root)!r} contains no pairs: give {_NOISY}/ and {_CLEAN}/ with images of equal "
            f"names, or images NAME{_REAL} and NAME{_MEAN}"
        )
    names = tuple(sorted(noisy))
    sources = (_Files([files[name] for name in names]) for files in (clean, noisy))
    return BenchmarkSet(root.resolve().name, names, *sources)


def bundled_test_set() -> BenchmarkSet:
    """Return the held-out photographs of :mod:`vheatir.bundled`."""
    photographs = heldout_photographs()
    return BenchmarkSet(BUNDLED, tuple(photographs), tuple(photographs.values()))


def default_data_folder() -> Path | None:
    """Return the default folder of the test sets, or None if there is none.

    ``$VHEATIR_DATA/test`` if the variable is set; otherwise ``datasets/test`` or ``datasets`` in
    the repository root or the working directory, if it contains a published test set.

    Raises:
        VHeatIRError: ``VHEATIR_DATA`` is set, but the folder does not exist.
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
    for base in (Path(__file__).resolve().parents[2], Path.cwd()):
        for folder in (base / "datasets" / "test", base / "datasets"):
            if any((folder / name).is_dir() for name in PUBLISHED_SETS):
                return folder
    return None


def find_test_sets(folder: StrPath, task: Task) -> list[BenchmarkSet]:
    """Return the test sets for ``task`` below ``folder``.

    If the folder contains any of the published test sets, the result is those of the task.
    Otherwise it is the folder itself, if it directly contains images, or each subfolder with
    images. A folder of pairs becomes a paired set for ``photo`` and pairs, see
    :func:`paired_test_set`, and for other tasks the set of its clean images, as any other folder.

    Raises:
        VHeatIRError: the folder is missing, contains no images, or an image of a pair is missing.
    """
    root = Path(folder)
    advice = f"test sets ({', '.join(PUBLISHED_SETS)}) or images of your own"
    if not root.is_dir():
        raise VHeatIRError(
            f"data folder {str(root)!r} does not exist: give one that contains {advice}"
        )
    can_be_paired = task.kind in ("photo", "pairs")
    if any(_has_images(root / name) for name in PUBLISHED_SETS):
        folders = [root / name for name in task.benchmark_sets if _has_images(root / name)]
    elif root.name in PUBLISHED_SETS:
        folders = [root] if root.name in task.benchmark_sets else []
    elif _looks_paired(root) or any(map(is_image_name, root.iterdir())):
        folders = [root]
    elif not (folders := [path for path in sorted(root.iterdir()) if _has_images(path)]):
        raise VHeatIRError(f"data folder {str(root)!r} contains no images: give one with {advice}")
    # Results on a published set of pairs would mislead if it were not paired.
    sets = [
        paired_test_set(path)
        if _looks_paired(path) or (can_be_paired and path.name in PUBLISHED_SETS)
        else folder_test_set(path)
        for path in folders
    ]
    # For other tasks, noisy photographs are neither references nor inputs.
    return sets if can_be_paired else [replace(each, noisy=None) for each in sets]


def _looks_paired(folder: Path) -> bool:
    names = [path.stem.lower() for path in folder.iterdir() if is_image_name(path)]
    return (folder / _NOISY).is_dir() or all(
        any(name.endswith(end) for name in names) for end in (_REAL, _MEAN)
    )


def _whole_name(path: Path) -> str:
    """Return a name that no other relative path has, with the folders and the suffix."""
    return path.as_posix().replace("/", "__").replace(".", "_")


def _by_stem(folder: Path, *, nested: bool = False) -> dict[str, Path]:
    """Return the images below a folder by name without suffix.

    ``nested`` puts the names of subfolders in front, so that images in different ones may have
    equal names.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if is_image_name(path) and path.is_file():
            inside = path.relative_to(folder).with_suffix("")
            name = "_".join(inside.parts) if nested else path.stem
            if name in found:
                raise VHeatIRError(
                    f"{str(folder)!r} contains two images called {name!r}: remove one of them"
                )
            found[name] = path
    return found


def _has_images(folder: Path) -> bool:
    return folder.is_dir() and any(map(is_image_name, folder.rglob("*")))
