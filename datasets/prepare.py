#!/usr/bin/env python3
"""Download or link the data sets, and verify every image with a known hash.

    python datasets/prepare.py                       # list the data sets
    python datasets/prepare.py test                  # download the four test sets
    python datasets/prepare.py photo                 # download the pairs of real photographs
    python datasets/prepare.py Set12 --source ~/old  # link it from a local folder
    python datasets/prepare.py test --check          # verify existing files

See datasets/README.md for sources, licences and the meaning of the hashes.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    TimeRemainingColumn,
)
from rich.table import Table

if __name__ == "__main__":
    # Import the package of this checkout, whether or not one is installed.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from downloads import Lock, Report, download, extract, is_rar
from vheatir.cli import run_entry_point
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.image_io import (
    encode_image,
    is_image_name,
    list_images,
    read_image,
    write_bytes_atomically,
)

HERE = Path(__file__).resolve().parent
LOCK_NAME = "prepare.lock.json"
STAGING_NAME = ".downloads"


@dataclass(frozen=True)
class DataSet:
    """One entry of catalogue.json.

    Attributes:
        name: name of the set and of its folder below the root.
        role: ``"test"``, ``"photo"`` (testing on pairs of real photographs) or ``"train"``.
        images: number of image files; a pair counts as two.
        size: description of the download size.
        source: description of the origin.
        licence: licence terms, as far as they are stated.
        url: URL of an archive, or URL pattern of the images with ``{file}``, ``{stem}`` or
            ``{source}``.
        members: pattern of the files in the archive, or in a source folder, that belong to the
            set.
        exclude: names (without suffix) to leave out.
        files: per image ``"pixels"``, the SHA-256 of its pixels (:func:`pixel_hash`), ``"sha256"``
            of the file at the source, and ``"source"``, its name there if it differs. Without a
            known pixel hash, the hash of the file is recorded at the first download.
        protocol: description of the evaluation protocol, for sets without a common one.
    """

    name: str
    role: str
    images: int
    size: str
    source: str
    licence: str
    url: str
    members: str = "*"
    exclude: tuple[str, ...] = ()
    files: dict[str, dict[str, str]] = field(default_factory=dict)
    protocol: str = ""

    @property
    def pixels_are_known(self) -> bool:
        """Whether the pixel hashes of all images are known."""
        return bool(self.files) and all("pixels" in known for known in self.files.values())

    def url_of(self, name: str) -> str:
        """Return the URL of the image called ``name``."""
        source = self.files[name].get("source", name)
        return self.url.format(file=name, stem=Path(name).stem, source=source)

    def belongs(self, path: str) -> bool:
        """Whether a member of the archive, or a path in a source folder, belongs to the set."""
        place = PurePosixPath(path)
        return (
            fnmatch.fnmatch(path, self.members)
            and is_image_name(place)
            and place.stem not in self.exclude
        )


def load_catalogue(path: Path = HERE / "catalogue.json") -> dict[str, DataSet]:
    """Read the catalogue; see :class:`DataSet`."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    return {
        name: DataSet(name, **{**entry, "exclude": tuple(entry.get("exclude", ()))})
        for name, entry in entries.items()
    }


def pixel_hash(image: NDArray[np.generic]) -> str:
    """Return the SHA-256 of an image's pixels, independent of the file format.

    Three equal channels are reduced to gray and opaque alpha is dropped, so that all lossless
    copies of an image have the same hash.
    """
    image = _canonical(image)
    height, width, *channels = image.shape
    header = f"{image.dtype.name} {height} {width} {channels[0] if channels else 1}\n"
    return hashlib.sha256(header.encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def _canonical(image: NDArray[np.generic]) -> NDArray[np.generic]:
    integer = np.asarray(image)
    if integer.ndim == 3 and integer.shape[2] == 4:
        opaque = np.iinfo(integer.dtype).max
        if not bool((integer[:, :, 3] == opaque).all()):
            return integer
        integer = integer[:, :, :3]
    if integer.ndim == 3 and bool((integer == integer[:, :, :1]).all()):
        integer = integer[:, :, 0]
    return integer


# -- the sets -------------------------------------------------------------------------------------


def fetch(
    data: DataSet, root: Path, keep_archives: bool = False, report: Report | None = None
) -> str:
    """Download one set into ``root``; valid existing images are kept.

    Args:
        data: the set.
        root: parent of the set's folder.
        keep_archives: do not delete downloaded archives.
        report: called with progress: done and total.

    Returns:
        A message for the user.

    Raises:
        VHeatIRError: see :func:`download`, :class:`Lock` and :func:`extract`; or the download
            does not match the set.
    """
    lock, staging = Lock(root / LOCK_NAME), root / STAGING_NAME / data.name
    if data.files:
        missing = _missing(data, root)
        for number, name in enumerate(missing, start=1):
            url, known = data.url_of(name), data.files[name]
            raw = staging / url.rsplit("/", 1)[1]
            download(url, raw)
            sha256, size = lock.enforce(url, raw, known.get("sha256")), raw.stat().st_size
            actual = pixel_hash(read_image(raw))
            if known.get("pixels", actual) != actual:
                raw.unlink()
                raise VHeatIRError(f"{url} was refused: its pixels are not those of {name}")
            _install(raw, root / data.name / name, copy=True)
            lock.record(url, sha256, size)
            raw.unlink()
            if report:
                report(number, len(missing))
        _remove_if_empty(staging)
        return f"{len(missing)} of {data.images} images downloaded"
    target = root / data.name
    if target.is_dir() and _count(target) == data.images:
        return f"all {data.images} images are there already"
    if target.exists():
        raise VHeatIRError(
            f"{str(target)!r} contains {_count(target)} images instead of {data.images}: "
            "move it away, then run the same command again"
        )
    archive = staging / data.url.rsplit("/", 1)[1]
    if not archive.exists():
        download(data.url, archive, report)
    sha256, size = lock.enforce(data.url, archive, None), archive.stat().st_size
    unpacked = staging / "unpacked"
    shutil.rmtree(unpacked, ignore_errors=True)
    try:
        extract(archive, unpacked, data.belongs)
        if (count := _count(unpacked)) != data.images:
            raise VHeatIRError(
                f"{archive.name} contains {count} images of {data.name} instead of {data.images}: "
                "download it again, or find out why the source has changed"
            )
        os.replace(unpacked, target)
    except VHeatIRError:
        if not is_rar(archive):  # RAR: the extraction program may be missing or at fault
            archive.unlink()
        raise
    finally:
        shutil.rmtree(unpacked, ignore_errors=True)
        shutil.rmtree(unpacked.with_name("unpacked.all"), ignore_errors=True)
    lock.record(data.url, sha256, size)
    if not keep_archives:
        archive.unlink()
    _remove_if_empty(staging)
    return f"{data.images} images downloaded"


def take(data: DataSet, root: Path, source: Path, copy: bool = False) -> str:
    """Link one set from a local folder, converting files where needed.

    Images of the test sets are matched by their pixels, anywhere below ``source`` and under any
    name, or by name if no pixel hashes are known. Files other than PNG are converted.

    Args:
        data: the set.
        root: parent of the set's folder.
        source: a folder with the images; a subfolder named after the set is preferred.
        copy: copy files instead of linking them.

    Returns:
        A message for the user.

    Raises:
        VHeatIRError: images are missing, or ``source`` is the target folder.
    """
    named = [p for p in _subfolders(source) if p.name.lower() == data.name.lower()]
    source = named[0] if named else source
    target = root / data.name
    if target.exists() and source.resolve() == target.resolve():
        raise VHeatIRError(f"--source {str(source)!r} is the target folder: give another one")
    candidates = list_images(source)
    if not data.files:
        chosen = [
            path
            for path in candidates
            if path.stem not in data.exclude and "val" not in path.relative_to(source).parts
        ]
        # A copy of the complete source may contain more than the set.
        top = source.resolve().name
        places = {path: f"{top}/{path.relative_to(source).as_posix()}" for path in chosen}
        chosen = [path for path in chosen if data.belongs(places[path])] or chosen
        if not chosen:
            raise VHeatIRError(f"{str(source)!r} contains no images of {data.name}")
        for path in chosen:
            _install(path, target / path.relative_to(source), copy)
        note = "" if len(chosen) == data.images else f" (the set has {data.images})"
        return f"{len(chosen)} images taken from {source}{note}"
    known = data.pixels_are_known
    keys = {
        name: facts["pixels"] if known else Path(facts.get("source", name)).name
        for name, facts in data.files.items()
    }
    wanted = {keys[name]: name for name in _missing(data, root)}
    taken = 0
    for path in candidates:
        try:
            key = pixel_hash(read_image(path)) if known and wanted else path.name
        except VHeatIRError:  # not an image: the folder may contain anything
            continue
        name = wanted.pop(key, None)
        if name is not None:
            _install(path, target / name, copy)
            taken += 1
    if wanted:
        by = "pixels" if known else "name"
        raise VHeatIRError(
            f"{len(wanted)} of {data.images} images of {data.name} are not in {str(source)!r} "
            f"(matched by {by}): {', '.join(sorted(wanted.values()))}"
        )
    return f"{taken} of {data.images} images taken from {source}"


def check(data: DataSet, root: Path) -> str:
    """Verify one set by its known hashes, or by the number of images if none are known.

    Returns:
        A message for the user.

    Raises:
        VHeatIRError: the set is incomplete or differs.
    """
    wrong = _missing(data, root) if data.files else []
    count = _count(root / data.name)
    if wrong or (not data.files and count != data.images):
        detail = f"missing or wrong: {', '.join(wrong)}" if wrong else f"{count} images found"
        raise VHeatIRError(f"{data.name} is not complete in {str(root)!r}: {detail}")
    return f"{data.images} images {'verified' if data.pixels_are_known else 'present'}"


def _missing(data: DataSet, root: Path) -> list[str]:
    """Return the images that are missing or whose pixels differ from the known hash."""

    def is_valid(name: str) -> bool:
        try:
            actual = pixel_hash(read_image(root / data.name / name))
        except VHeatIRError:
            return False
        return data.files[name].get("pixels", actual) == actual

    return [name for name in data.files if not is_valid(name)]


def _install(source: Path, target: Path, copy: bool) -> None:
    """Create ``target``: a link or copy if the formats agree, else a converted file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.suffix.lower() != target.suffix.lower():
        write_bytes_atomically(target, encode_image(_canonical(read_image(source)), target.suffix))
        return
    if not copy:
        link = target.with_name(f".{target.name}.link")
        link.unlink(missing_ok=True)
        try:
            link.symlink_to(source.resolve())
            os.replace(link, target)
            return
        except OSError:  # symlinks unavailable, as on Windows without the privilege
            link.unlink(missing_ok=True)
    write_bytes_atomically(target, source.read_bytes())


def _subfolders(source: Path) -> Iterator[Path]:
    if not source.is_dir():
        raise VHeatIRError(f"--source {str(source)!r} does not exist: give a folder of images")
    yield from (path for path in sorted(source.iterdir()) if path.is_dir())


def _count(folder: Path) -> int:
    return sum(is_image_name(path) for path in folder.rglob("*"))


def _remove_if_empty(staging: Path) -> None:
    for folder in (staging, staging.parent):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


# -- command line ---------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None, catalogue: dict[str, DataSet] | None = None) -> int:
    """Run the script; return the exit status."""
    catalogue = load_catalogue() if catalogue is None else catalogue
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "names", nargs="*", help="data sets, or a group: 'test', 'photo' or 'train'"
    )
    parser.add_argument("--root", type=Path, default=HERE, help="parent folder of the data sets")
    parser.add_argument("--source", type=Path, help="use the images of this local folder")
    parser.add_argument("--copy", action="store_true", help="with --source: copy, do not link")
    parser.add_argument("--check", action="store_true", help="only verify existing files")
    parser.add_argument("--keep-archives", action="store_true", help="keep downloaded archives")
    options = parser.parse_args(argv)
    return run_entry_point(
        lambda: _prepare(options, catalogue), "run the same command again to continue"
    )


def _prepare(options: argparse.Namespace, catalogue: dict[str, DataSet]) -> int:
    console = Console(soft_wrap=True, highlight=False)
    if not options.names:
        console.print(_overview(catalogue))
    for data in _select(options.names, catalogue):
        if options.check:
            done = check(data, options.root)
        elif options.source:
            done = take(data, options.root, options.source.expanduser(), options.copy)
        else:
            done = _fetch_with_bar(data, options, console)
        console.print(f"{data.name}: {done}", markup=False)
    return 0


def _select(names: Sequence[str], catalogue: dict[str, DataSet]) -> list[DataSet]:
    chosen: dict[str, DataSet] = {}
    for name in names:
        group = {key: data for key, data in catalogue.items() if name in (key, data.role)}
        if not group:
            raise unknown_name("data set", name, [*catalogue, "test", "photo", "train"])
        chosen |= group
    return list(chosen.values())


def _fetch_with_bar(data: DataSet, options: argparse.Namespace, console: Console) -> str:
    amount = MofNCompleteColumn() if data.files else DownloadColumn()
    columns = ("{task.description}", BarColumn(), amount, TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task(data.name, total=None)
        return fetch(
            data,
            options.root,
            options.keep_archives,
            lambda done, total: progress.update(bar, completed=done, total=total),
        )


def _overview(catalogue: dict[str, DataSet]) -> Table:
    table = Table("name", "use", "images", "download")
    table.add_column("source", overflow="fold")
    table.add_column("licence", overflow="fold")
    for data in catalogue.values():
        source = f"{data.source}; {data.protocol}" if data.protocol else data.source
        table.add_row(data.name, data.role, str(data.images), data.size, source, data.licence)
    return table


if __name__ == "__main__":
    sys.exit(main())
