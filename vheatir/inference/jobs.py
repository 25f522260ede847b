"""Plan restoration jobs from command line arguments, and run them."""

from __future__ import annotations

import glob
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vheatir.colors import to_8_bits
from vheatir.errors import UnsupportedImageError, VHeatIRError
from vheatir.hardware import is_out_of_memory
from vheatir.image_io import (
    HEIF_SUFFIXES,
    IMAGE_SUFFIXES,
    StrPath,
    is_image_name,
    list_images,
    read_file,
    write_bytes_atomically,
)
from vheatir.inference.estimate import color_channels
from vheatir.inference.files import (
    FORMAT_OF_SUFFIX,
    MAX_PIXELS,
    Metadata,
    Photograph,
    default_format,
    default_suffix,
    encode_photograph,
    read_photograph,
    read_photograph_file,
)
from vheatir.inference.raw import RAW_SUFFIXES
from vheatir.inference.restorer import AutoRestorer, Restorer, describe_restoration
from vheatir.inference.strength import parse_strength
from vheatir.inference.tiled import Progress

STREAM = "-"
# Raw files are reported as skipped; files with other unknown suffixes are ignored.
_EXTRA_SUFFIXES = HEIF_SUFFIXES | RAW_SUFFIXES
_SUFFIXES = IMAGE_SUFFIXES | _EXTRA_SUFFIXES
_MAX_COMPARE_SIDE = 2048
_GAP = 8

Report = Callable[["Job", int, int], None]


@dataclass(frozen=True)
class Job:
    """One image to restore.

    Attributes:
        source: input file; None for the standard input.
        target: output file; None for the standard output.
        compare: file for the before/after image, or None.
        label: name in messages; the path of the source by default.
        format: format for the standard output; None for that of the source.
    """

    source: Path | None
    target: Path | None
    compare: Path | None = None
    label: str | None = None
    format: str | None = None

    @property
    def name(self) -> str:
        """Name of the source for messages, with unprintable characters replaced."""
        name = self.label or ("standard input" if self.source is None else str(self.source))
        return _printable(name)

    @property
    def outputs(self) -> list[Path]:
        """Its output files."""
        return [path for path in (self.target, self.compare) if path is not None]

    def absolute(self) -> Job:
        """Return the job with absolute paths, for a process in another folder."""
        source, target, compare = (
            path and path.absolute() for path in (self.source, self.target, self.compare)
        )
        return Job(source, target, compare, self.name, self.format)


def plan(
    inputs: Sequence[str], out: str, fmt: str | None = None, compare: bool = False
) -> list[Job]:
    """Find the input images and assign an output file to each.

    A single folder is mirrored in ``out``, several folders each under its own name; a pattern keeps
    the folders from its first wildcard on. ``out`` is a file if it ends in an image suffix and
    there is one image, else a folder.

    Args:
        inputs: files, folders, patterns, or ``"-"`` for the standard input.
        out: file, folder, or ``"-"`` for the standard output.
        fmt: format of the output files, such as ``"png"``; None for that of
            :func:`~vheatir.inference.files.default_suffix` of each source.
        compare: also plan before/after images, ``NAME.compare.png`` beside each target.

    Raises:
        VHeatIRError: an input does not exist, two images have the same target, the output format
            is not supported, or a standard stream is closed.
    """
    if STREAM in inputs and sys.stdin is None:
        raise VHeatIRError("the standard input is closed: give a file or folder")
    if out == STREAM and sys.stdout is None:
        raise VHeatIRError("the standard output is closed: give a file or folder to -o")
    alone = len(inputs) == 1
    # A file may be given twice, by its path and by a pattern.
    found = list(dict.fromkeys(f for given in inputs for f in _expand(given, Path(out), alone)))
    one_file = alone and (inputs[0] == STREAM or Path(inputs[0]).is_file())
    target_is_file = (
        _is_image_suffix(Path(out).suffix.lower(), also_unsupported=one_file)
        and not Path(out).is_dir()
        and not out.endswith(("/", os.sep))
    )
    if (out == STREAM or target_is_file) and len(found) != 1:
        where = "the standard output" if out == STREAM else repr(out)
        raise VHeatIRError(f"{len(found)} images cannot be written to {where}: give a folder to -o")
    if out == STREAM:
        if compare:
            raise VHeatIRError(
                "--compare cannot be used with the standard output: give a file or folder to -o"
            )
        return [Job(found[0][0], None, format=fmt)]
    if target_is_file:
        suffix = Path(out).suffix
        if suffix.lower() not in FORMAT_OF_SUFFIX:
            raise VHeatIRError(f"cannot write {suffix}: use {', '.join(sorted(FORMAT_OF_SUFFIX))}")
        if fmt not in (None, FORMAT_OF_SUFFIX[suffix.lower()]):
            raise VHeatIRError(f"-o {out} and --format {fmt} contradict each other: omit --format")
    elif Path(out).is_file():
        raise VHeatIRError(f"-o {out} is a file: give a folder, or a file with an image suffix")
    jobs: list[Job] = []
    taken: dict[Path, str] = {}
    for source, relative in found:
        if target_is_file:
            target = Path(out)
        elif relative.suffix.lower() in RAW_SUFFIXES:
            # Never written: must not collide with a JPEG or PNG of the same name beside it.
            target = Path(out) / f"{relative}.png"
        else:
            suffix = f".{fmt}" if fmt else default_suffix(source or relative)
            target = Path(out) / relative.with_suffix(suffix)
        beside = target.with_name(f"{target.stem}.compare.png") if compare else None
        job = Job(source, target, beside)
        for path in job.outputs:
            # macOS ignores case as Windows does, but its paths are compared with it.
            key = Path(str(path).casefold()) if sys.platform == "darwin" else path
            if taken.setdefault(key, job.name) != job.name:
                raise VHeatIRError(
                    f"{taken[key]} and {job.name} would both be written to {path}: "
                    "restore them into different folders"
                )
        jobs.append(job)
    return jobs


def _is_image_suffix(suffix: str, also_unsupported: bool) -> bool:
    """Whether a suffix is that of an image; of any that Pillow knows, if also unsupported ones."""
    return suffix in _SUFFIXES or (also_unsupported and suffix in Image.registered_extensions())


def _expand(given: str, out: Path, alone: bool) -> list[tuple[Path | None, Path]]:
    """Return (source, path below the output folder) for one input."""
    if given == STREAM:
        return [(None, Path("stdin.png"))]
    path = Path(given)
    if path.is_dir():
        below = Path() if alone else Path(path.resolve().name)
        images = _without_results(list_images(path, _EXTRA_SUFFIXES), path, out)
        return [(each, below / each.relative_to(path)) for each in images]
    if path.exists():
        return [(path, Path(path.name))]
    if glob.has_magic(given):
        root = Path(*itertools.takewhile(lambda part: not glob.has_magic(part), path.parts))
        matches = sorted(Path(match) for match in glob.glob(given, recursive=True))
        files = [p for p in matches if p.is_file() and is_image_name(p, _EXTRA_SUFFIXES)]
        if files := _without_results(files, root, out):
            return [(each, each.relative_to(root)) for each in files]
        raise VHeatIRError(f"{given!r} matches no image: check the pattern")
    raise VHeatIRError(f"{given!r} does not exist: give a file, a folder, a pattern or -")


def _printable(name: StrPath) -> str:
    """Replace the characters of a file name that a terminal may interpret."""
    return "".join(c if c.isprintable() else "?" for c in os.fspath(name))


def _without_results(images: list[Path], root: Path, out: Path) -> list[Path]:
    """Leave out earlier results, where the output folder is inside the input folder."""
    results = out.resolve()
    if root.resolve() not in results.parents:
        return images
    return [path for path in images if results not in path.resolve().parents]


@dataclass(frozen=True)
class Settings:
    """Restoration settings from the command line.

    Attributes:
        task: ``"denoise"``, ``"jpeg"``, ``"photo"``, or ``"auto"`` to choose for each image.
        level: sigma or JPEG quality; None to estimate it; not used by ``"photo"``.
        strength: strength of luma and chroma in percent, 0 to 150.
        tile: see :meth:`vheatir.Restorer.restore`.
        device: see :class:`vheatir.Restorer`.
        backend: see :class:`vheatir.Restorer`.
        self_ensemble: average over the eight flips and rotations.
        model: name or file of one model for all images; None, or ``"auto"``, which becomes None,
            for the best of each task.
        overwrite: replace existing files.
        max_pixels: reject larger images.
        imports: modules to import, which register the network of ``model``.
    """

    task: Literal["auto", "denoise", "jpeg", "photo"] = "auto"
    level: float | None = None
    strength: tuple[float, float] = (100.0, 100.0)
    tile: Literal["auto"] | int | None = "auto"
    device: str = "auto"
    backend: Literal["torch", "openvino"] = "torch"
    self_ensemble: bool = False
    model: str | None = None
    overwrite: bool = False
    max_pixels: int = MAX_PIXELS
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.model == "auto":
            object.__setattr__(self, "model", None)


@dataclass(frozen=True)
class Outcome:
    """Job result: status and message."""

    job: Job
    state: Literal["restored", "existing", "skipped", "failed"]
    message: str


class Runner:
    """Run jobs; thread-safe. Each model is loaded on first use.

    Args:
        settings: restoration settings.
        load: factory of the restorer for a model name, weights file or task; ``Restorer`` by
            default.

    Raises:
        VHeatIRError: an unavailable device or model, a model of another task, a strength out of
            range, a level for a task that has none, or a module that cannot be imported.
    """

    def __init__(self, settings: Settings, load: Callable[[str], Restorer] | None = None) -> None:
        self.settings = settings
        self._models = AutoRestorer(
            device=settings.device, backend=settings.backend, imports=settings.imports, load=load
        )
        parse_strength(settings.strength)
        self._task: str = settings.task
        if settings.model is not None:
            task = self._models.restorer(settings.model).task
            if task and self._task not in ("auto", task.kind):
                raise VHeatIRError(
                    f"model {settings.model!r} is for {task.title}, but the task is {self._task}: "
                    "omit --task or --model"
                )
            self._task = task.kind if task else "denoise"
        if settings.level is not None and self._task == "auto":
            raise VHeatIRError(
                "a level is a sigma or a JPEG quality: give --task denoise or jpeg with it"
            )
        if settings.level is not None and self._task == "photo":
            raise VHeatIRError(
                "the task photo takes no level, since its models are blind: "
                "omit --level, or give --task denoise or jpeg"
            )

    def run(self, job: Job, progress: Progress | None = None, may_replace: bool = False) -> str:
        """Restore one image.

        Args:
            job: the image.
            progress: called as ``progress(done, total)`` after each tile.
            may_replace: replace existing targets, even if the settings do not allow it.

        Returns:
            A message with the detected degradation and the model used.

        Raises:
            UnsupportedImageError: a raw file, HDR, or HEIF without the package that reads it.
            VHeatIRError: the image cannot be read, restored or written, or its target exists.
            OSError: file system error.
        """
        for path in job.outputs:
            if path.exists() and not (may_replace or self.settings.overwrite):
                raise TargetExistsError(
                    f"{_printable(path)} exists: give --overwrite to replace it"
                )
        data, photo = _read(job, self.settings.max_pixels)
        pixels = photo.pixels
        if job.target is not None:
            fmt = FORMAT_OF_SUFFIX[job.target.suffix.lower()]
        else:
            fmt = job.format or default_format(photo)
        # One pixel shows whether the format takes these channels, before the network runs.
        encode_photograph(pixels[:1, :1], fmt, Metadata())
        # Gray stored as RGB is judged as gray: colour models have never seen noise that is equal in
        # all channels.
        found, restorer, level = self._choose(color_channels(pixels), photo)
        settings = self.settings
        if restorer is None:
            restored, message = pixels, f"found {found}: left unchanged"
        else:
            data = b""  # only needed to copy the file
            result = restorer.restore_detailed(
                pixels,
                level,
                strength=settings.strength,
                tile=settings.tile,
                self_ensemble=settings.self_ensemble,
                progress=progress,
            )
            restored = result.image
            estimated = replace(result, estimated=settings.level is None)
            message = describe_restoration(estimated, restorer, settings.strength, found)
        # An MPO is a JPEG file with further images, as phones write it.
        is_jpeg = photo.format in ("JPEG", "MPO") and fmt == "jpg"
        if restorer is None and photo.upright and is_jpeg:
            encoded = data  # compressed again, it would change
        else:
            encoded = encode_photograph(restored, fmt, photo.metadata)
        if job.target is None:
            sys.stdout.buffer.write(encoded)
            sys.stdout.buffer.flush()
        else:
            write_bytes_atomically(job.target, encoded)
        if job.compare is not None:
            beside = side_by_side(pixels, restored)
            icc = Metadata(icc=photo.metadata.icc)
            write_bytes_atomically(job.compare, encode_photograph(beside, "png", icc))
        if pixels.dtype == np.uint16 and fmt in ("jpg", "webp"):
            message += f"; 16 bits reduced to 8 in {fmt}"
        return message

    def attempt(
        self, job: Job, progress: Progress | None = None, may_replace: bool = False
    ) -> Outcome:
        """Run a job as :meth:`run`; image, file system and memory errors become an outcome."""
        try:
            return Outcome(job, "restored", self.run(job, progress, may_replace))
        except TargetExistsError as error:
            return Outcome(job, "existing", f"skipped: {error}")
        except OSError as error:  # its text may name a temporary file
            return Outcome(job, "failed", f"failed: {error.strerror or error}")
        except VHeatIRError as error:
            reason = str(error).removeprefix(f"{job.name} ")
            if isinstance(error, UnsupportedImageError):
                return Outcome(job, "skipped", f"skipped: {reason}")
            return Outcome(job, "failed", f"failed: {reason}")
        except Exception as error:  # NumPy, PyTorch and OpenCV each raise another type
            if not is_out_of_memory(error):
                raise
            reason = "not enough memory: restore fewer images at a time, or make this one smaller"
            return Outcome(job, "failed", f"failed: {reason}")

    def _choose(
        self, colors: NDArray[Any], photo: Photograph
    ) -> tuple[str, Restorer | None, float | None]:
        """Return detected degradation, model (None to leave the image unchanged) and level."""
        if self._task == "auto":
            choice, restorer, level = self._models.choose(colors, photo.quality, photo.codec)
            return choice.message, restorer, level
        is_jpeg = photo.quality is not None and self._task == "jpeg"
        found = f"JPEG of quality {photo.quality}" if is_jpeg else ""
        color = "gray" if colors.ndim == 2 else "color"
        # The task ``photo`` has one model for both; gray is passed as equal channels.
        name = "photo" if self._task == "photo" else f"{self._task}_{color}"
        return found, self._models.restorer(self.settings.model or name), self.settings.level


def _read(job: Job, max_pixels: int) -> tuple[bytes, Photograph]:
    """Return the contents of the source, and the photograph decoded from them."""
    if job.source is None:
        data = sys.stdin.buffer.read()
    elif job.source.suffix.lower() in RAW_SUFFIXES:
        # Refused by its name, without reading it.
        return b"", read_photograph_file(job.source, max_pixels, job.name)
    else:
        data = read_file(job.source, job.name)
    return data, read_photograph(data, job.name, max_pixels)


class TargetExistsError(VHeatIRError):
    """The output file exists and overwriting is not allowed."""


class JobRecord(Protocol):
    """What :func:`run_local` needs of a :class:`vheatir.inference.manifest.Manifest`."""

    def begin(self, job: Job) -> bool:
        """Record the start of a job; return whether its target may be replaced."""

    def finish(self, outcome: Outcome) -> None:
        """Record the end of a job."""


def run_local(
    runner: Runner,
    jobs: Sequence[Job],
    workers: int = 1,
    manifest: JobRecord | None = None,
    report: Report | None = None,
) -> Iterator[Outcome]:
    """Run jobs in this process, ``workers`` at a time, and yield outcomes as they complete.

    Workers are threads that share the models and, on the CPU, the cores.
    """

    def work(job: Job) -> Outcome:
        each = None if report is None else lambda done, total: report(job, done, total)
        try:
            may_replace = manifest is not None and manifest.begin(job)
            outcome = runner.attempt(job, each, may_replace)
            if manifest is not None:
                manifest.finish(outcome)
        except OSError as error:  # of the manifest: a full disk, for example
            return Outcome(job, "failed", f"failed: {error.strerror or error}")
        return outcome

    if workers == 1:
        yield from map(work, jobs)
        return
    before = torch.get_num_threads()
    # The thread count is a per-thread setting: give each worker its share of the cores.
    share = max(1, before // workers)
    pool = ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(share,))
    waiting: set[Future[Outcome]] = set()
    try:
        for job in jobs:
            waiting.add(pool.submit(work, job))
            # Keep the queue short: there may be millions of jobs.
            if len(waiting) == 2 * workers:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from (future.result() for future in done)
        yield from (future.result() for future in as_completed(waiting))
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def side_by_side(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.uint8]:
    """Join two images side by side, separated by a white line, without alpha.

    Images of more than 2048 pixels along a side are cropped to their centre instead of resized,
    which would hide the difference.
    """
    halves = []
    for pixels in (before, after):
        planes = np.atleast_3d(pixels)
        top, left = (max(side - _MAX_COMPARE_SIDE, 0) // 2 for side in planes.shape[:2])
        part = planes[top : top + _MAX_COMPARE_SIDE, left : left + _MAX_COMPARE_SIDE]
        halves.append(to_8_bits(part[:, :, : 3 if part.shape[2] >= 3 else 1]))
    line = np.full((halves[0].shape[0], _GAP, halves[0].shape[2]), 255, np.uint8)
    joined = np.concatenate([halves[0], line, halves[1]], axis=1)
    return joined if joined.shape[2] == 3 else joined[:, :, 0]
