"""Where clean images come from: folders, LMDB files, scikit-image's photographs."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vheatir.degradations import to_color_mode
from vheatir.errors import VHeatIRError
from vheatir.image_io import decode_image, list_images, read_image
from vheatir.tasks import ColorMode

#: Root that stands for the photographs which scikit-image ships.
BUNDLED = "bundled"


class ImageSource:
    """The clean images of one or several roots, in a fixed order.

    Args:
        roots: folders, LMDB files (as BasicSR writes them, with ``meta_info.txt``) or
            ``"bundled"``.
        color: colour convention the images are converted to.
        cache: decode every image once and keep it in memory.
        keep: None for all images, ``("every", n)`` for every n-th of each root only, ``("but", n)``
            for all the others: a validation split without a list of files.
        limit: use the first ``limit`` images only.
        heldout: of the bundled photographs, use those held out for testing.

    Raises:
        VHeatIRError: a root is missing or empty.
    """

    def __init__(
        self,
        roots: Sequence[str | os.PathLike[str]],
        color: ColorMode,
        *,
        cache: bool = False,
        keep: tuple[str, int] | None = None,
        limit: int | None = None,
        heldout: bool = False,
    ) -> None:
        self.color = color
        self._bundled: dict[str, NDArray[np.uint8]] = {}
        self._lmdb: dict[str, object] = {}
        names: list[str] = []
        kind, every = keep or ("all", 1)
        for root in roots:
            for number, name in enumerate(self._names(root, heldout), start=1):
                if kind == "all" or (number % every == 0) == (kind == "every"):
                    names.append(name)
        self.names = names[:limit]
        if not self.names:
            raise VHeatIRError(f"no image is left of {[str(root) for root in roots]}: raise the limit")
        self._cache: list[NDArray[np.uint8]] | None = None
        if cache:
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                self._cache = list(pool.map(self._load, self.names))

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """Return image ``index``: (H, W) or (H, W, 3), uint8."""
        return self._cache[index] if self._cache is not None else self._load(self.names[index])

    def first(self) -> ImageSource:
        """Return a view of the first image alone."""
        view = copy.copy(self)
        view.names = self.names[:1]
        return view

    def _names(self, root: str | os.PathLike[str], heldout: bool) -> list[str]:
        if str(root) == BUNDLED:
            from vheatir.bundled import heldout_photographs, training_photographs

            photographs = heldout_photographs() if heldout else training_photographs()
            self._bundled.update(photographs)
            return list(photographs)
        if str(root).endswith(".lmdb"):
            meta = Path(root) / "meta_info.txt"
            if not meta.is_file():
                raise VHeatIRError(
                    f"{str(root)!r} is no LMDB that BasicSR wrote: meta_info.txt is missing in it"
                )
            keys = [line.split(".")[0] for line in meta.read_text().splitlines() if line.strip()]
            return [f"{root}::{key}" for key in keys]
        return [str(path) for path in list_images(root)]

    def _load(self, name: str) -> NDArray[np.uint8]:
        if name in self._bundled:
            image: NDArray[np.generic] = self._bundled[name]
        elif "::" in name:
            image = decode_image(self._lmdb_value(*name.split("::", 1)), name)
        else:
            image = read_image(name)
        return to_color_mode(image, self.color)

    def _lmdb_value(self, root: str, key: str) -> bytes:
        from basicsr.utils import FileClient

        # One client a process: an LMDB environment must not cross a fork.
        slot = f"{os.getpid()}:{root}"
        if slot not in self._lmdb:
            self._lmdb[slot] = FileClient("lmdb", db_paths=[root], client_keys=["gt"])
        return self._lmdb[slot].get(key, "gt")  # type: ignore[attr-defined]
