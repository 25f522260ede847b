"""Pairs of degraded and clean images, as BasicSR's ``PairedImageDataset`` at scale 1."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from vheatir.data.names import read_lines
from vheatir.data.sources import BUNDLED, ImageSource
from vheatir.errors import VHeatIRError
from vheatir.image_io import StrPath
from vheatir.tasks import ColorMode


class PairSource:
    """The pairs of one or several pairs of roots, in a fixed order.

    Images belong together if their paths below the two roots are equal up to the suffix of the
    file, or to ``template``; in LMDB files, if their keys are equal.

    Args:
        clean_roots: folders or LMDB files of clean images, as in :class:`ImageSource`.
        degraded_roots: those of the degraded ones, in the same order.
        color: colour mode to which the images are converted.
        template: name of the degraded image without suffix; ``{}`` is that of the clean one.
            Ignored for LMDB files, as in BasicSR.
        listed: BasicSR's ``meta_info_file``: a line for each pair, which starts with the file name
            of the clean image below its root. Ignored for LMDB files, as in BasicSR.
        cache: decode every image once and keep it in memory.
        limit: use only the first ``limit`` pairs.
        include: as in :class:`ImageSource`, for the clean images; so are the next three.
        exclude: files to skip.
        exclude_every: skip every n-th image.
        holdout_every: use only every n-th image.

    Raises:
        VHeatIRError: a root or the list is missing or empty, the names do not match, or no pair is
            left.
    """

    def __init__(
        self,
        clean_roots: Sequence[StrPath],
        degraded_roots: Sequence[StrPath],
        color: ColorMode,
        *,
        template: str = "{}",
        listed: StrPath | None = None,
        cache: bool = False,
        limit: int | None = None,
        include: Sequence[str] = (),
        exclude: Sequence[str] = (),
        exclude_every: int | None = None,
        holdout_every: int | None = None,
    ) -> None:
        # A clean root may be given several times, with several degraded versions.
        partners: dict[str, list[str]] = {}
        for clean_root, degraded_root in zip(clean_roots, degraded_roots, strict=True):
            for name, other in _match(clean_root, degraded_root, template, listed).items():
                partners.setdefault(name, []).append(other)
        clean = ImageSource(
            clean_roots, color, include=include, exclude=exclude,
            exclude_every=exclude_every, holdout_every=holdout_every,
        )  # fmt: skip
        left = {name: iter(others) for name, others in partners.items()}
        pairs = [(name, next(left[name])) for name in clean.names if name in left][:limit]
        if not pairs:
            count = sum(map(len, partners.values()))
            raise VHeatIRError(
                f"no pair is left of {count} in {', '.join(map(str, clean_roots))}: change or omit "
                "include, exclude, exclude_every and holdout_every"
            )
        self.clean = clean.chosen([name for name, _ in pairs], cache)
        degraded = ImageSource(degraded_roots, color)
        self.degraded = degraded.chosen([other for _, other in pairs], cache)

    @property
    def names(self) -> list[str]:
        """Names of the clean images."""
        return self.clean.names

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.clean)

    def __getitem__(self, index: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Return the degraded and the clean image of a pair: (H, W) or (H, W, 3), uint8.

        Raises:
            VHeatIRError: they differ in size.
        """
        degraded, clean = self.degraded[index], self.clean[index]
        self._check(index, degraded.shape[:2], clean.shape[:2])
        return degraded, clean

    def size(self, index: int) -> tuple[int, int]:
        """Return the height and width of a pair, from the file headers if possible.

        Raises:
            VHeatIRError: the two differ in size, or a file is not an image.
        """
        size = self.clean.size(index)
        self._check(index, self.degraded.size(index), size)
        return size

    def _check(self, index: int, degraded: tuple[int, ...], clean: tuple[int, ...]) -> None:
        if degraded != clean:
            sizes = [f"{width}x{height}" for height, width in (degraded, clean)]
            raise VHeatIRError(
                f"{self.degraded.names[index]} is {sizes[0]} pixels, but {self.names[index]} is "
                f"{sizes[1]}: the images of a pair must have the same size"
            )


def _match(
    clean_root: StrPath, degraded_root: StrPath, template: str, listed: StrPath | None
) -> dict[str, str]:
    """Return the name of the degraded image of each clean one.

    Raises:
        VHeatIRError: one of them is missing, or two images have the same name.
    """
    for root in (clean_root, degraded_root):
        if str(root) == BUNDLED:
            raise VHeatIRError(
                f"{BUNDLED!r} has no pairs: give folders or LMDB files for dataroot_gt and "
                "dataroot_lq"
            )
    is_lmdb = [str(root).endswith(".lmdb") for root in (clean_root, degraded_root)]
    clean, degraded = _by_key(clean_root), _by_key(degraded_root)
    template = "{}" if any(is_lmdb) else template
    wanted = list(clean)
    if listed is not None and not any(is_lmdb):
        # each line starts with a name
        names = [line.split()[0] for line in read_lines(Path(listed), "meta_info_file")]
        wanted = list(dict.fromkeys(_without_suffix(PurePath(name)) for name in names))
        _refuse_missing(wanted, clean, clean_root, f"which {listed} lists", "another list")
    expected = {key: _fill(template, key) for key in wanted}
    named = f" with filename_tmpl {template!r}" if template != "{}" else ""
    counterparts = f"which {clean_root} needs{named}"
    _refuse_missing(expected.values(), degraded, degraded_root, counterparts, "a filename_tmpl")
    if listed is None:
        needed = set(expected.values())
        extra = [key for key in degraded if key not in needed]
        if extra:
            raise VHeatIRError(
                f"{len(extra)} image(s) of {degraded_root} have no clean image in {clean_root}, "
                f"the first is {extra[0]!r}: give each pair one name, or list the pairs in a "
                "meta_info_file"
            )
    return {clean[key]: degraded[other] for key, other in expected.items()}


def _refuse_missing(
    wanted: Iterable[str], there: dict[str, str], root: StrPath, reason: str, remedy: str
) -> None:
    missing = [key for key in wanted if key not in there]
    if missing:
        raise VHeatIRError(
            f"{len(missing)} image(s) are missing in {root}, {reason}: the first is "
            f"{missing[0]!r}; give each pair one name, or {remedy}"
        )


def _by_key(root: StrPath) -> dict[str, str]:
    """Return the names of a root's images by path below the root, or LMDB key, without suffix."""
    found: dict[str, str] = {}
    for name in ImageSource([root], "rgb").names:
        if str(root).endswith(".lmdb"):
            inside = name.partition("::")[2]
        else:
            inside = _without_suffix(PurePath(name).relative_to(root))
        if inside in found:
            raise VHeatIRError(f"{root} contains two images called {inside!r}: remove one of them")
        found[inside] = name
    return found


def _without_suffix(path: PurePath) -> str:
    return path.with_suffix("").as_posix()


def _fill(template: str, key: str) -> str:
    folder, slash, stem = key.rpartition("/")
    return f"{folder}{slash}{template.format(stem)}"
