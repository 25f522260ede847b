"""Sources of clean images: folders, LMDB files, photographs bundled with scikit-image."""

from __future__ import annotations

import copy
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vheatir.colors import to_color_mode
from vheatir.data.names import NameList
from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath, decode_image, list_images, read_image
from vheatir.tasks import ColorMode

#: Root name of the photographs bundled with scikit-image.
BUNDLED = "bundled"

# A line of BasicSR's meta_info.txt: "folder/name.png (height,width,channels) compression".
_LMDB_LINE = re.compile(r"(.+)\.\w+ \((\d+),(\d+),\d+\) \d+")


class ImageSource:
    """The clean images of one or several roots, in a fixed order.

    Args:
        roots: folders, LMDB files (as BasicSR writes them, with ``meta_info.txt``) or
            ``"bundled"``.
        color: colour mode to which the images are converted.
        cache: decode every image once and keep it in memory.
        exclude_every: skip every n-th image of each root (None: none).
        holdout_every: use only every n-th image of each root: those that ``exclude_every`` with the
            same number skips, a validation split without a list of files.
        include: use only the images in this list; see :class:`NameList`.
        exclude: skip the images in this list.
        limit: use only the first ``limit`` images.
        heldout: use the held-out test set of the bundled photographs instead of the training set.

    Raises:
        VHeatIRError: a root or a list is missing or empty, or no image is left.
    """

    def __init__(
        self,
        roots: Sequence[StrPath],
        color: ColorMode,
        *,
        cache: bool = False,
        exclude_every: int | None = None,
        holdout_every: int | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        limit: int | None = None,
        heldout: bool = False,
    ) -> None:
        self.color = color
        self._bundled: dict[str, NDArray[np.uint8]] = {}
        self._lmdb_sizes: dict[str, tuple[int, int]] = {}
        names: list[str] = []
        found = 0
        included, excluded = NameList(include), NameList(exclude)
        for root in roots:
            for number, name in enumerate(self._names(root, heldout), start=1):
                found += 1
                if exclude_every and number % exclude_every == 0:
                    continue
                if holdout_every and number % holdout_every != 0:
                    continue
                if name not in excluded and (not include or name in included):
                    names.append(name)
        self.names = names[:limit]
        if not self.names:
            used = [
                f"holdout_every {holdout_every}" if holdout_every else "",
                f"exclude_every {exclude_every}" if exclude_every else "",
                "include" if include else "",
                "exclude" if exclude else "",
            ]
            raise VHeatIRError(
                f"no image is left: {', '.join(str(root) for root in roots)} has {found} "
                f"image(s), of which {' and '.join(filter(None, used))} selects none; change or "
                "omit it (holdout_every: n selects every n-th image of a folder)"
            )
        self._cache = self._decode_all() if cache else None

    def chosen(self, names: Sequence[str], cache: bool) -> ImageSource:
        """Return the source of some of the images, in the order of ``names``.

        Args:
            names: a selection of :attr:`names`.
            cache: see above.
        """
        other = copy.copy(self)
        other.names = list(names)
        other._cache = other._decode_all() if cache else None
        return other

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return image ``index``: (H, W) or (H, W, 3), uint8."""
        return self._cache[index] if self._cache is not None else self._load(self.names[index])

    def size(self, index: int) -> tuple[int, int]:
        """Return the height and width of image ``index``, from the file header if possible.

        Raises:
            VHeatIRError: the file is not an image.
        """
        from PIL import Image

        name = self.names[index]
        if self._cache is None and name in self._lmdb_sizes:
            return self._lmdb_sizes[name]
        if self._cache is None and name not in self._bundled:
            # A damaged header can raise anything; decoding then says what is wrong.
            with suppress(Exception), Image.open(name) as image:
                return image.height, image.width
        height, width = self[index].shape[:2]
        return height, width

    def _decode_all(self) -> list[NDArray[np.uint8]]:
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(self._load, self.names))

    def _names(self, root: StrPath, heldout: bool) -> list[str]:
        if str(root) == BUNDLED:
            from vheatir.bundled import heldout_photographs, training_photographs

            photographs = heldout_photographs() if heldout else training_photographs()
            self._bundled.update(photographs)
            return list(photographs)
        if str(root).endswith(".lmdb"):
            return self._lmdb_names(Path(root))
        return [str(path) for path in list_images(root)]

    def _lmdb_names(self, root: Path) -> list[str]:
        try:
            lines = (root / "meta_info.txt").read_text(encoding="utf-8").splitlines()
        except OSError:
            if not root.is_dir():
                raise VHeatIRError(
                    f"LMDB folder {str(root)!r} does not exist: give an existing one, or a folder "
                    "of images (with io_backend: {type: disk})"
                ) from None
            raise VHeatIRError(
                f"{str(root)!r} is not an LMDB written by BasicSR: its meta_info.txt is missing"
            ) from None
        names = []
        for line in filter(str.strip, lines):
            match = _LMDB_LINE.fullmatch(line.strip())
            if match is None:
                raise VHeatIRError(
                    f"{root / 'meta_info.txt'}: {line!r} should read 'name.png (height,width,"
                    "channels) compression', as written by BasicSR"
                )
            name = f"{root}::{match[1]}"
            self._lmdb_sizes[name] = int(match[2]), int(match[3])
            names.append(name)
        if not names:
            raise VHeatIRError(f"{str(root)!r} contains no image: its meta_info.txt is empty")
        return names

    def _load(self, name: str) -> NDArray[np.uint8]:
        if name in self._bundled:
            image: NDArray[np.generic] = self._bundled[name]
        elif name in self._lmdb_sizes:
            image = decode_image(_read_lmdb(*name.split("::", 1)), name)
        else:
            image = read_image(name)
        return to_color_mode(image, self.color)


# The open LMDB environments of this process: LMDB allows a file to be opened only once in it.
_environments: dict[str, Any] = {}
_environments_lock = threading.Lock()


def _read_lmdb(root: str, key: str) -> bytes:
    import lmdb

    with _environments_lock:
        if root not in _environments:
            try:
                _environments[root] = lmdb.open(root, readonly=True, lock=False, readahead=False)
            except lmdb.Error as error:
                raise VHeatIRError(f"{root} cannot be opened: {error}") from None
        with _environments[root].begin() as transaction:
            value = transaction.get(key.encode())
    if value is None:
        raise VHeatIRError(f"{root} has no image {key!r}, which its meta_info.txt lists")
    return bytes(value)


def _close_lmdb() -> None:
    with _environments_lock:
        for environment in _environments.values():
            environment.close()
        _environments.clear()


if hasattr(os, "register_at_fork"):
    # They must not be used across a fork: all are closed before it and reopened on demand.
    os.register_at_fork(before=_close_lmdb)
