from __future__ import annotations

import io
import json
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from downloads import Lock, download, extract, file_hash
from vheatir.errors import VHeatIRError

CONTENT = bytes(range(256)) * 2000


class Server(ThreadingHTTPServer):
    """Serves ``files``; ``cuts`` are the numbers of bytes after which connections break."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {"/file.bin": CONTENT}
        self.version: str | None = '"one"'
        self.ranges = True
        self.cuts: list[int] = []
        self.errors: list[int] = []
        self.requests: list[str | None] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server, asked = self.server, self.headers.get("Range")
        server.requests.append(asked)
        if server.errors:
            return self.send_error(server.errors.pop(0))
        if self.path not in server.files:
            return self.send_error(404)
        body, start = server.files[self.path], 0
        if asked and server.ranges and self.headers.get("If-Range") == server.version:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(body):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        else:
            self.send_response(200)
        if server.version:
            self.send_header("ETag", server.version)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        end = start + server.cuts.pop(0) if server.cuts else len(body)
        self.wfile.write(body[start:end])
        return None

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def test_a_file_arrives_whole(server: Server, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    target = tmp_path / "deep" / "file.bin"
    download(f"{server.url}/file.bin", target, lambda *step: seen.append(step))
    assert target.read_bytes() == CONTENT
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [path.name for path in target.parent.iterdir()] == ["file.bin"]


@pytest.mark.reliability
def test_broken_connections_are_taken_up_where_they_broke(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000, 70_000, 5]
    download(f"{server.url}/file.bin", tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-", "bytes=71000-", "bytes=71005-"]


@pytest.mark.reliability
def test_a_later_run_goes_on_where_the_first_stopped(server: Server, tmp_path: Path) -> None:
    server.cuts = [1000]
    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/file.bin", tmp_path / "f", interrupt, pause=0)
    assert not (tmp_path / "f").exists()
    download(f"{server.url}/file.bin", tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT
    assert server.requests == [None, "bytes=1000-"]


def interrupt(done: int, total: int | None) -> None:
    raise KeyboardInterrupt


@pytest.mark.reliability
@pytest.mark.parametrize("change", ["new version", "no ranges", "no version"])
def test_what_cannot_be_resumed_starts_afresh(server: Server, tmp_path: Path, change: str) -> None:
    if change == "no version":
        server.version = None
    server.cuts = [1000]
    with pytest.raises(KeyboardInterrupt):
        download(f"{server.url}/file.bin", tmp_path / "f", interrupt, pause=0)
    if change == "new version":
        server.version, server.files["/file.bin"] = '"two"', CONTENT[::-1]
    server.ranges = change != "no ranges"
    download(f"{server.url}/file.bin", tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == server.files["/file.bin"]


@pytest.mark.reliability
def test_a_part_that_is_too_long_is_thrown_away(server: Server, tmp_path: Path) -> None:
    url = f"{server.url}/file.bin"
    (tmp_path / "f.part").write_bytes(CONTENT + b"more")
    (tmp_path / "f.part.json").write_text(json.dumps({"url": url, "version": '"one"'}))
    download(url, tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_the_part_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    note = {"url": "http://127.0.0.1/other", "version": '"one"'}
    (tmp_path / "f.part").write_bytes(b"other")
    (tmp_path / "f.part.json").write_text(json.dumps(note))
    download(f"{server.url}/file.bin", tmp_path / "f", pause=0)
    assert (tmp_path / "f").read_bytes() == CONTENT


def test_temporary_errors_are_retried_a_few_times(server: Server, tmp_path: Path) -> None:
    server.errors = [503, 429]
    download(f"{server.url}/file.bin", tmp_path / "f", pause=0)
    server.errors = [503] * 9
    with pytest.raises(VHeatIRError, match="503"):
        download(f"{server.url}/file.bin", tmp_path / "g", pause=0)
    assert len(server.errors) == 4


def test_a_missing_file_is_reported_at_once(server: Server, tmp_path: Path) -> None:
    with pytest.raises(VHeatIRError, match="404.*--source"):
        download(f"{server.url}/nothing", tmp_path / "f")
    assert len(server.requests) == 1


def test_only_web_addresses_are_fetched(tmp_path: Path) -> None:
    with pytest.raises(VHeatIRError, match="http"):
        download((tmp_path / "x").as_uri(), tmp_path / "f")


def test_the_first_hash_is_enforced_from_then_on(tmp_path: Path) -> None:
    lock, file = Lock(tmp_path / "lock.json"), tmp_path / "file"
    file.write_bytes(b"first")
    lock.record("http://a/b", lock.enforce("http://a/b", file, None), 5)
    recorded = json.loads((tmp_path / "lock.json").read_text())
    assert recorded == {"http://a/b": {"sha256": file_hash(file), "bytes": 5}}
    lock.enforce("http://a/b", file, None)
    file.write_bytes(b"other")
    with pytest.raises(VHeatIRError, match="refused"):
        lock.enforce("http://a/b", file, None)
    assert not file.exists()


def test_a_known_hash_needs_no_lock(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    with pytest.raises(VHeatIRError, match="catalogue"):
        Lock(tmp_path / "lock.json").enforce("http://a/b", file, "0" * 64)
    assert not file.exists()


def test_a_damaged_lock_is_not_taken_for_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "lock.json").write_text("{")
    (tmp_path / "file").write_bytes(b"x")
    lock = Lock(tmp_path / "lock.json")
    with pytest.raises(VHeatIRError, match="damaged"):
        lock.enforce("http://a/b", tmp_path / "file", None)
    lock.path.write_text("{}")  # the last entry was deleted, to accept a change
    assert lock.enforce("http://a/b", tmp_path / "file", None) == file_hash(tmp_path / "file")


def make_archive(path: Path, members: dict[str, bytes]) -> Path:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as bundle:
            for name, content in members.items():
                bundle.writestr(name, content)
    else:
        with tarfile.open(path, "w:gz" if path.suffix == ".tgz" else "w") as tar:
            for name, content in members.items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return path


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tgz"])
def test_wanted_members_come_out_flat(tmp_path: Path, kind: str) -> None:
    members = {"top/a/1.png": b"one", "top/b/2.png": b"two", "top/read.me": b"no"}
    archive = make_archive(tmp_path / f"x{kind}", members)
    extract(archive, tmp_path / "out", lambda name: name.endswith(".png"))
    out = {path.name: path.read_bytes() for path in (tmp_path / "out").rglob("*")}
    assert out == {"1.png": b"one", "2.png": b"two"}


@pytest.mark.reliability
@pytest.mark.parametrize("kind", [".zip", ".tar", ".tgz"])
@pytest.mark.parametrize("name", ["../evil.png", "a/../../evil.png", "/tmp/evil.png", "C:/e.png"])
def test_paths_outside_are_refused(tmp_path: Path, kind: str, name: str) -> None:
    archive = make_archive(tmp_path / f"x{kind}", {name: b"evil"})
    with pytest.raises(VHeatIRError, match="outside"):
        extract(archive, tmp_path / "out" / "deep", lambda name: True)
    assert not [path for path in tmp_path.rglob("*.png")]


@pytest.mark.reliability
def test_links_in_an_archive_are_left_in_it(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as tar:
        link = tarfile.TarInfo("dir/1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    extract(tmp_path / "x.tar", tmp_path / "out", lambda name: True)
    assert not list((tmp_path / "out").iterdir())


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    archive = make_archive(tmp_path / "x.tar", {"a/1.png": b"1", "b/1.png": b"2"})
    with pytest.raises(VHeatIRError, match="two files called '1.png'"):
        extract(archive, tmp_path / "out", lambda name: True)


@pytest.mark.reliability
@pytest.mark.parametrize("kind", [".zip", ".tar", ".tgz"])
def test_damaged_archives_give_one_line(tmp_path: Path, kind: str) -> None:
    archive = make_archive(tmp_path / f"x{kind}", {"1.png": bytes(range(256)) * 400})
    archive.write_bytes(archive.read_bytes()[: archive.stat().st_size // 2])
    with pytest.raises(VHeatIRError, match="damaged") as caught:
        extract(archive, tmp_path / "out", lambda name: True)
    assert "\n" not in str(caught.value)


def test_rar_without_a_program_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "x.rar").write_bytes(b"Rar!\x1a\x07\x00")
    with pytest.raises(VHeatIRError, match="bsdtar.*--source"):
        extract(tmp_path / "x.rar", tmp_path / "out", lambda name: True)
