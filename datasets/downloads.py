"""Resumable downloads, hash verification and safe extraction of archives, for data sets."""

from __future__ import annotations

import errno
import hashlib
import http.client
import json
import os
import shutil
import subprocess
import tarfile
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO, Any

from vheatir.errors import VHeatIRError
from vheatir.image_io import write_bytes_atomically

Report = Callable[[int, "int | None"], None]
"""Progress callback: bytes done and bytes in total, None if unknown."""

# HTTP statuses of requests below 500 that succeed later: timeout, too many requests.
_TEMPORARY = (408, 429)
# The disk is at fault, not the archive: no space, quota, or largest file.
_DISK_IS_FULL = {
    getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG") if hasattr(errno, name)
}


def file_hash(path: Path) -> str:
    """Return the SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def download(
    url: str, target: Path, report: Report | None = None, attempts: int = 5, pause: float = 1.0
) -> None:
    """Download ``url`` to ``target``; the next call resumes an interrupted download.

    A partial download is kept next to the target. It is resumed by a range request only if the
    server confirms, by ETag or modification date, that the file has not changed; otherwise the
    download restarts.

    Args:
        url: http or https URL.
        target: path of the complete file.
        report: progress callback.
        attempts: maximum number of consecutive requests without progress.
        pause: seconds before the second attempt; doubled for each further one.

    Raises:
        VHeatIRError: not an http or https URL, the server refuses, or every attempt fails.
    """
    if not url.startswith(("http://", "https://")):
        raise VHeatIRError(f"{url!r} cannot be downloaded: only http and https URLs are supported")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    failures, furthest = 0, _size(part)
    problem: object = ""
    while failures < attempts:
        if failures:
            time.sleep(pause * 2 ** (failures - 1))
        try:
            if _receive(url, part, report):
                os.replace(part, target)
                _metadata_path(part).unlink(missing_ok=True)
                return
            problem = "the connection closed early"
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 416:  # range not satisfiable: the part is not from this file
                part.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in _TEMPORARY:
                raise VHeatIRError(
                    f"{url} cannot be downloaded: {error.code} {error.reason}; get it elsewhere "
                    "and use --source"
                ) from None
            problem = f"{error.code} {error.reason}"
        except (OSError, http.client.HTTPException) as error:
            problem = getattr(error, "reason", None) or error or type(error).__name__
        failures = 0 if _size(part) > furthest else failures + 1
        furthest = max(furthest, _size(part))
    raise VHeatIRError(
        f"{url} cannot be downloaded ({problem}): run the same command again to resume, or get it "
        "elsewhere and use --source"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _receive(url: str, part: Path, report: Report | None) -> bool:
    """Make one request; return whether the file is complete."""
    headers = {"User-Agent": "vheatir-prepare"}
    known = _read_json(_metadata_path(part))
    start = _size(part) if known.get("url") == url and known.get("version") else 0
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": known["version"]}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        resumed = response.status == 206 and (
            response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
        )
        if response.status == 206 and not resumed:
            part.unlink()
            return False
        start = start if resumed else 0
        length = response.headers.get("Content-Length")
        total = start + int(length) if length else None
        tag = response.headers.get("ETag", "")
        version = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")
        _write_json(_metadata_path(part), {"url": url, "version": version})
        with part.open("ab" if resumed else "wb") as file:
            while block := response.read(1 << 16):
                file.write(block)
                if report:
                    report(file.tell(), total)
            return total is None or file.tell() == total


def _metadata_path(part: Path) -> Path:
    """Path of the file that records URL and version of a partial download."""
    return part.with_name(part.name + ".json")


def _read_json(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def _write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True) + "\n"
    write_bytes_atomically(path, text.encode())


class Lock:
    """Lock file: records the SHA-256 of the first download and enforces it for later ones.

    Args:
        path: path of the lock file; delete an entry to accept a changed source.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def enforce(self, url: str, file: Path, known: str | None) -> str:
        """Compare a downloaded file with its known or recorded hash; delete it if it differs.

        Args:
            url: source of the file.
            file: the downloaded file.
            known: expected SHA-256; if None, the recorded one is used, if any.

        Returns:
            SHA-256 of the file.

        Raises:
            VHeatIRError: the hash differs, or the lock file is damaged.
        """
        recorded = self._entries().get(url, {}).get("sha256")
        actual = file_hash(file)
        if (known or recorded or actual) == actual:
            return actual
        file.unlink()
        origin = "the catalogue" if known else f"the first download ({self.path})"
        raise VHeatIRError(
            f"{url} was refused: its SHA-256 is {actual}, that of {origin} {known or recorded}; "
            "download it again, or find out why the source has changed"
        )

    def record(self, url: str, sha256: str, size: int) -> None:
        """Record the hash and size of a verified file, unless its URL is already recorded."""
        entries = self._entries()
        if url not in entries:
            _write_json(self.path, {**entries, url: {"sha256": sha256, "bytes": size}})

    def _entries(self) -> dict[str, Any]:
        if not self.path.exists():
            return {}
        try:
            return dict(json.loads(self.path.read_text(encoding="utf-8")))
        except (ValueError, TypeError):
            raise VHeatIRError(
                f"lock file {str(self.path)!r} is damaged: restore or delete it"
            ) from None


# -- archives -------------------------------------------------------------------------------------


def extract(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    """Extract selected members of an archive into a folder, without their parent folders.

    Args:
        archive: ZIP or tar file, compressed or not; RAR if an external program is installed.
        folder: output folder.
        wanted: predicate on the path of a member: whether to extract it.

    Raises:
        VHeatIRError: the archive is damaged, names a path outside itself, contains two selected
            files of the same name, or is a RAR file without a program to open it.
        OSError: the disk is full.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as bundle:
                for entry in bundle.infolist():
                    if not entry.is_dir() and (path := _checked(entry.filename, archive, wanted)):
                        with bundle.open(entry) as source:
                            _write_member(source, folder / path.name)
        elif tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                for member in tar:
                    # Skip links and devices.
                    if member.isreg() and (path := _checked(member.name, archive, wanted)):
                        content = tar.extractfile(member)
                        if content is not None:
                            _write_member(content, folder / path.name)
        elif is_rar(archive):
            _extract_by_program(archive, folder, wanted)
        else:
            raise VHeatIRError(f"{archive.name} is not an archive, or damaged: download it again")
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        if isinstance(error, OSError) and error.errno in _DISK_IS_FULL:
            raise OSError(error.errno, error.strerror, str(folder)) from error
        raise VHeatIRError(f"{archive.name} is damaged ({error}): download it again") from error


def is_rar(path: Path) -> bool:
    """Whether a file is a RAR archive, which takes an external program to open."""
    with path.open("rb") as file:
        return file.read(4) == b"Rar!"


def _checked(name: str, archive: Path, wanted: Callable[[str], bool]) -> PurePosixPath | None:
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or name[1:2] == ":":
        raise VHeatIRError(f"{archive.name} was refused: it names a path outside itself, {name!r}")
    return path if wanted(str(path)) else None


def _write_member(source: IO[bytes], target: Path) -> None:
    if target.exists():
        raise VHeatIRError(
            f"the archive contains two files called {target.name!r}: one is expected"
        )
    with target.open("wb") as file:
        shutil.copyfileobj(source, file)


def _extract_by_program(archive: Path, folder: Path, wanted: Callable[[str], bool]) -> None:
    unpacked = folder.with_name(folder.name + ".all")
    shutil.rmtree(unpacked, ignore_errors=True)
    unpacked.mkdir()
    source, target = str(archive), str(unpacked)
    for command in (
        ["bsdtar", "-xf", source, "-C", target],
        ["unrar", "x", "-y", "-idq", source, target + os.sep],
        ["unar", "-q", "-o", target, source],
        ["7z", "x", "-y", f"-o{target}", source],
    ):
        if shutil.which(command[0]):
            done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL)
            if done.returncode:
                reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
                raise VHeatIRError(
                    f"{command[0]} cannot open {source} ({reason}): delete it to download it again"
                )
            break
    else:
        raise VHeatIRError(
            f"{archive.name} requires a program that opens RAR files: install bsdtar "
            "(libarchive-tools), unrar, unar or 7z, or unpack it yourself and use --source"
        )
    for path in sorted(unpacked.rglob("*")):
        if path.is_file() and not path.is_symlink():
            if wanted(path.relative_to(unpacked).as_posix()):
                os.replace(path, folder / path.name)
    shutil.rmtree(unpacked)
