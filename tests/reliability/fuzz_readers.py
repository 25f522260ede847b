"""Fuzz the readers of images and weight files: ``python tests/reliability/fuzz_readers.py``.

Hypothesis mutates the good and bad files of the corpus. A finding is any outcome other than a
result or a one-line VHeatIRError; hypothesis shrinks it, and this script saves it in ``findings/``
for regression tests. A crash of the interpreter leaves the file as ``.running``.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import hashlib
import importlib.util
import itertools
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as with_seed
from hypothesis import strategies as st

from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.image_io import decode_image
from vheatir.inference.files import encode_photograph, read_photograph
from vheatir.weights import load_weights, read_info, read_state_dict, save_weights

HERE = Path(__file__).resolve().parent
FINDINGS = HERE / "findings"
MAX_PIXELS = 1_000_000
SLOW = 2.0  # CPU seconds
LARGE = 300  # megabytes
LEAST = 50  # files, however slow the machine is


def read_as_image(data: bytes) -> None:
    """Read an image with both readers, and encode the result."""
    with contextlib.suppress(VHeatIRError):
        decode_image(data, "file", MAX_PIXELS)
    photo = read_photograph(data, "file", MAX_PIXELS)
    fmt = {"JPEG": "jpg", "WEBP": "webp", "TIFF": "tiff"}.get(photo.format, "png")
    encode_photograph(photo.pixels, fmt, photo.metadata)


def read_as_weights(data: bytes) -> None:
    """Read a weight file with every reader."""
    with tempfile.TemporaryDirectory() as folder:
        for suffix in (".safetensors", ".pth"):
            path = Path(folder) / f"file{suffix}"
            path.write_bytes(data)
            for read in (load_weights, read_info, read_state_dict):
                with contextlib.suppress(VHeatIRError):
                    read(path)


READERS: dict[str, Callable[[bytes], None]] = {"image": read_as_image, "weights": read_as_weights}


def try_reader(kind: str, data: bytes) -> str | None:
    """Read a file; return what went wrong, or None if it was read or properly rejected."""
    began, before = time.process_time(), _memory_mb()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about odd metadata; not a failure
            READERS[kind](data)
    except VHeatIRError as error:
        if "\n" in str(error) or len(str(error)) > 1000:
            return f"no clear line: {str(error)[:200]!r}"
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    seconds, grown = time.process_time() - began, _memory_mb() - before
    if grown > LARGE:
        return f"memory: {grown:.0f} MB more"
    return f"time: {seconds:.0f} seconds" if seconds > SLOW else None


def _memory_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seeds(kind: str) -> list[bytes]:
    """Return the files to mutate."""
    if kind == "image":
        spec = importlib.util.spec_from_file_location("reliability_corpus", HERE / "corpus.py")
        assert spec is not None and spec.loader is not None
        corpus = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = corpus
        spec.loader.exec_module(corpus)
        return [bad.data for bad in corpus.make() if len(bad.data) < 20_000]
    import torch

    with tempfile.TemporaryDirectory() as folder:
        network = build_network({"type": "VHeatIR", "embed_dim": 4, "depths": [1], "fve_size": 2})
        path = save_weights(
            Path(folder) / "a.safetensors", network, {"task": "denoise_color", "level": 15}
        )
        torch.save({"params": network.state_dict()}, Path(folder) / "b.pth")
        torch.save(
            network.state_dict(), Path(folder) / "c.pth", _use_new_zipfile_serialization=False
        )
        return [path.read_bytes(), *((Path(folder) / f"{n}.pth").read_bytes() for n in "bc")]


def changed(files: list[bytes]) -> st.SearchStrategy[bytes]:
    """Return a strategy of files with a few bytes overwritten, inserted, deleted or joined."""
    piece = st.one_of(
        st.binary(min_size=1, max_size=8),
        st.sampled_from(
            [b"\xff\xff\xff\xff", bytes(4), b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\xff"]
        ),
    )
    # most reader bugs are in headers: half of the changes go there
    place = st.one_of(st.integers(0, 200), st.integers(0, 20_000))
    kinds = st.sampled_from(["over", "insert", "delete", "cut", "splice"])
    change = st.tuples(kinds, place, piece, st.sampled_from(files))

    def apply(start: bytes, changes: list[Any]) -> bytes:
        data = start
        for how, at, new, other in changes:
            at %= len(data) + 1
            if how == "over":
                data = data[:at] + new + data[at + len(new) :]
            elif how == "insert":
                data = data[:at] + new + data[at:]
            elif how == "delete":
                data = data[:at] + data[at + len(new) :]
            elif how == "cut":
                data = data[:at]
            else:
                data = data[:at] + other[at:]
        return data

    return st.builds(apply, st.sampled_from(files), st.lists(change, min_size=1, max_size=4))


def fuzz(kind: str, seconds: float, first_seed: int = 0) -> tuple[int, dict[str, bytes]]:
    """Read mutated files until the time is up.

    Args:
        kind: ``"image"`` or ``"weights"``.
        seconds: time limit.
        first_seed: first random seed of the mutations.

    Returns:
        Number of files read, and findings: what went wrong, with the smallest such file.
    """
    files, end, tried = seeds(kind), time.monotonic() + seconds, 0
    findings: dict[str, bytes] = {}
    for seed in itertools.count(first_seed):
        known = {wrong.split(":")[0] for wrong in findings}
        number, found = _round(kind, files, seed, end, known)
        tried += number
        findings |= found
        if time.monotonic() > end:
            return tried, findings
    raise AssertionError


def _round(
    kind: str, files: list[bytes], seed: int, end: float, known: set[str]
) -> tuple[int, dict[str, bytes]]:
    """Read up to 500 files, or until the first finding of an unknown kind."""
    tried = 0
    smallest: list[tuple[str, bytes]] = []
    running = Path(tempfile.gettempdir()) / f"fuzz-{os.getpid()}.running"

    @with_seed(seed)
    @settings(
        max_examples=500, database=None, deadline=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink], print_blob=False,
    )  # fmt: skip
    @given(changed(files))
    def read(data: bytes) -> None:
        nonlocal tried
        if tried >= LEAST and time.monotonic() > end:
            return
        tried += 1
        running.write_bytes(data)
        wrong = try_reader(kind, data)
        if wrong is not None and wrong.split(":")[0] not in known:
            smallest.append((wrong, data))
            raise AssertionError(wrong)

    try:
        read()
    except BaseException as error:
        if not smallest or isinstance(error, KeyboardInterrupt):
            raise
    running.unlink(missing_ok=True)
    return tried, dict(smallest[-1:])


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    faulthandler.enable()
    for kind, share in (("image", 0.7), ("weights", 0.3)):
        tried, findings = fuzz(kind, 60 * share * arguments.minutes, arguments.seed)
        print(f"{kind}: {tried} files, {len(findings)} findings", flush=True)  # noqa: T201
        for wrong, data in findings.items():
            path = FINDINGS / f"{kind}-{hashlib.sha256(data).hexdigest()[:12]}.bin"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            print(f"  {path.name}: {wrong}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
