"""Promise 7: many clients at once, bad files, dropped connections, attacks through the API."""

from __future__ import annotations

import concurrent.futures
import http.server
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

httpx = pytest.importorskip("httpx", reason="the demo needs gradio: pip install 'vheatir[app]'")
pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

from vheatir.demo.folders import ALIAS  # noqa: E402
from vheatir.errors import VHeatIRError  # noqa: E402
from vheatir.image_io import decode_image, encode_image  # noqa: E402
from vheatir.inference import Restorer  # noqa: E402
from vheatir.inference.files import read_photograph  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks the server up in /proc")
PATIENCE = 500.0


class Server:
    """A demo in a process of its own, its memory and its files."""

    def __init__(self, address: str, scratch: Path) -> None:
        self.address = address
        self.port = urlsplit(address).port
        self.scratch = scratch
        wanted = [b"--port", str(self.port).encode()]
        for folder in Path("/proc").iterdir():
            try:
                words = (folder / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(words[i : i + 2] == wanted for i in range(len(words))):
                self.folder = folder
        variables = (self.folder / "environ").read_bytes().split(b"\0")
        prefix = b"GRADIO_TEMP_DIR="
        (self.cache,) = (Path(v[len(prefix) :].decode()) for v in variables if v.startswith(prefix))

    @property
    def memory_mb(self) -> float:
        (line,) = (li for li in (self.folder / "status").read_text().splitlines() if "VmRSS" in li)
        return int(line.split()[1]) / 1024

    def files(self) -> list[Path]:
        """Return the files it has left in its cache and in the folder for temporary ones."""
        return [p for root in (self.cache, self.scratch) for p in root.rglob("*") if p.is_file()]

    def upload(self, client: Any, name: str, data: bytes) -> Any:
        return client.post("/gradio_api/upload", files={"files": (name, data)})

    def restore(self, client: Any, data: list[Any]) -> tuple[str, Any]:
        """Ask for a restoration; returns ("complete" | "error" | "wait" | "refused", answer)."""
        asked = client.post("/gradio_api/call/restore", json={"data": data})
        if asked.status_code == 503:
            return "wait", asked.text
        if asked.status_code != 200:
            return "refused", asked.text
        event, said = "", ""
        address = f"/gradio_api/call/restore/{asked.json()['event_id']}"
        with client.stream("GET", address) as stream:
            for line in stream.iter_lines():
                said += line + "\n"
                if line.startswith("event: "):
                    event = line.removeprefix("event: ")
                elif line.startswith("data: ") and event in ("complete", "error"):
                    return event, json.loads(line.removeprefix("data: "))
        return "error", said


@pytest.fixture
def server(
    serve: Any,
    weights: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: bool,
) -> Server:
    (tmp_path / "scratch").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    flags = ("--weights", weights["all_levels"], "--max-pixels", "100000", "--max-upload-mb", "1",
             "--keep", "60" if full else "15")  # fmt: skip
    return Server(serve(*flags), tmp_path / "scratch")


def as_file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def client_of(server: Server) -> Any:
    # no proxy of the environment between the test and the loopback
    # or a connection kept open that the server closes meanwhile
    limits = httpx.Limits(max_keepalive_connections=0)
    return httpx.Client(base_url=server.address, timeout=PATIENCE, trust_env=False, limits=limits)


def label_of(server: Server) -> str:
    with client_of(server) as client:
        components = client.get("/config").json()["components"]
    return next(
        choice[0]
        for part in components
        for choice in part["props"].get("choices") or []
        if str(choice[0]).startswith("all_levels")
    )


def picture(number: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (32 + number % 9, 40 + number % 7, 3)).astype(np.uint8)


def result_of(client: Any, answer: Any) -> np.ndarray[Any, Any]:
    url = urlsplit(answer[2]["url"])
    return decode_image(client.get(url.path).content)


def good_request(
    server: Server, number: int, label: str
) -> tuple[np.ndarray[Any, Any], float, int]:
    """Return the picture, the seconds from its upload to its result, and how often told to wait."""
    rng, waits, began = random.Random(number), 0, time.perf_counter()
    with client_of(server) as client:
        while True:
            sent = server.upload(client, f"p{number}.png", encode_image(picture(number)))
            (path,) = sent.json()
            level = 5 * (number % 10) + 5
            event, answer = server.restore(client, [as_file(path), label, False, level, False])
            if event != "wait":
                break
            waits += 1
            assert time.perf_counter() - began < PATIENCE
            time.sleep(rng.uniform(0.2, 1.0))
        assert event == "complete", answer
        return result_of(client, answer), time.perf_counter() - began, waits


def bad_request(server: Server, data: bytes, name: str, label: str) -> str:
    with client_of(server) as client:
        for _ in range(500):
            sent = server.upload(client, name, data)
            if sent.status_code != 200:
                return "refused"
            (path,) = sent.json()
            event, _ = server.restore(client, [as_file(path), label, False, 25, False])
            if event != "wait":
                return event
            time.sleep(0.5)
    return "wait"


def dropped_request(server: Server, number: int, label: str) -> None:
    """Hang up in the middle: of an upload, of the headers, or while waiting for the result."""
    if number % 3 == 2:
        with client_of(server) as client:
            (path,) = server.upload(client, "d.png", encode_image(picture(number))).json()
            data = [as_file(path), label, False, 25, False]
            asked = client.post("/gradio_api/call/restore", json={"data": data})
            if asked.status_code == 200:
                event = asked.json()["event_id"]
                with client.stream("GET", f"/gradio_api/call/restore/{event}"):
                    return
        return
    with socket.create_connection(("127.0.0.1", server.port)) as line:
        head = b"POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n"
        if number % 3:
            line.sendall(head[:40])
            return
        line.sendall(head + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
        line.sendall(b'Content-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n')
        line.sendall(os.urandom(40_000))
        time.sleep(0.05)


def test_load(
    server: Server, corpus: Any, weights: dict[str, Path], ledger: Any, full: bool, capsys: Any
) -> None:
    clients, requests = (50, 500) if full else (12, 36)
    bad = [each for each in corpus.make() if len(each.data) < 900_000]
    bad = random.Random(0).sample(bad, 30 if full else 5)
    label = label_of(server)
    restorer = Restorer(weights["all_levels"], "cpu")
    waits, seconds, lost = 0, [], []

    def one(number: int) -> None:
        nonlocal waits
        try:
            if number % 20 in (3, 9, 16):
                each = bad[number // 7 % len(bad)]
                event = bad_request(server, each.data, each.name, label)
                try:
                    read_photograph(each.data, each.name, 100_000)
                    wanted = "complete"
                except VHeatIRError:
                    wanted = "error"
                if event not in (wanted, "refused"):
                    lost.append(f"{each.name}: {event}, not {wanted}")
            elif number % 20 in (5, 11, 18):
                dropped_request(server, number, label)
            else:
                result, took, told = good_request(server, number, label)
                waits += told
                seconds.append(took)
                expected = restorer.restore(picture(number), 5 * (number % 10) + 5)
                if not np.array_equal(result, expected):
                    lost.append(f"request {number} got another picture")
        except Exception as error:
            lost.append(f"request {number}: {type(error).__name__}: {error}")

    # The level that memory returns to: the model loaded, each bad file seen, and as many threads
    # as there will be.
    for each in bad:
        bad_request(server, each.data, each.name, label)
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(2 * clients)))
    before = server.memory_mb
    waits, seconds = 0, []
    began = time.perf_counter()
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        list(pool.map(one, range(1000, 1000 + requests)))
    took = time.perf_counter() - began
    with ledger(7, f"{clients} clients: good, bad and dropped requests") as row:
        row.cases, row.losses = requests, lost
        end = time.monotonic() + 150
        while (left := server.files()) and time.monotonic() < end:
            time.sleep(0.5)
        row.case(not left, f"{len(left)} temporary files are left: {left[:3]}")
        grown = server.memory_mb - before
        row.case(grown < 100, f"memory grew by {grown:.0f} MB")
        seconds.sort()
        row.damage += (
            f"; {len(seconds) / took:.1f} good/s, p50 {statistics.median(seconds):.1f} s, "
            f"p95 {seconds[int(0.95 * len(seconds))]:.1f} s, {waits} told to wait, "
            f"{before:.0f} -> {before + grown:.0f} MB"
        )


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A web server of the inner network, which the demo must never ask."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encode_image(picture(1)))

        do_HEAD = do_GET

        def log_message(self, *_: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as inner:
        threading.Thread(target=inner.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{inner.server_port}", asked
        inner.shutdown()


def test_attacks(
    server: Server, canary: Any, weights: dict[str, Path], ledger: Any, tmp_path: Path
) -> None:
    inner, asked = canary
    secret = "SECRET-" + os.urandom(8).hex()
    (tmp_path / "secret.png").write_text(secret)
    (server.scratch / "other.png").write_text(secret)
    label = label_of(server)
    root = Path(__file__).resolve().parents[2]
    outside = ["/etc/passwd", "/proc/self/environ", str(tmp_path / "secret.png"),
               str(server.scratch / "other.png"), str(weights["all_levels"]),
               str(root / "vheatir" / "train.py"), "../../../../../../etc/passwd",
               str(server.cache / ".." / ".." / "secret.png"), "~/.bashrc", "/etc", "", ".",
               "file:///etc/passwd", "C:\\windows\\win.ini", "\\\\host\\share", "/dev/zero",
               "/etc/passwd\0.png", "a" * 5000]  # fmt: skip
    with client_of(server) as client:

        def safe(text: str) -> bool:
            shown = secret in text or "root:x:0" in text or "def main(" in text
            return not shown and "GRADIO_TEMP_DIR" not in text

        def get(address: str) -> str:
            try:
                return client.get(address).text
            except httpx.TransportError:
                return ""  # it hung up

        def post(address: str, **body: Any) -> tuple[int, str]:
            try:
                with client_of(server) as fresh:
                    reply = fresh.post(address, **body)
                    return reply.status_code, reply.text
            except httpx.TransportError:
                return 499, ""

        with ledger(7, "files of the machine asked for by their path") as row:
            for path in outside:
                quoted = "".join(f"%{byte:02x}" for byte in path.encode())
                for way in ("/gradio_api/file=", "/file=", "/gradio_api/file/", "/static/",
                            "/assets/", "/gradio_api/stream/", "/gradio_api/proxy=", "/gradio_api/"
                            "custom_component/", "/gradio_api/deep_link="):  # fmt: skip
                    for name in (quoted, "%2e%2e/" * 6 + quoted.lstrip("%2f")):
                        row.case(safe(get(way + name)), f"{way}{name[:60]}")
            for address in (f"{inner}/a.png", f"{inner}/proxy"):
                for way in ("/gradio_api/file=", "/gradio_api/proxy=", "/file="):
                    get(way + address)
            row.case(not asked, f"the demo fetched {asked}")

        with ledger(7, "forged file references") as row:
            for path in [*outside, f"{inner}/x.png", inner.replace("http", "HTTP") + "/x.png"]:
                for extra in ({}, {"url": f"{inner}/u.png"}, {"orig_name": "../../x.png"},
                              {"is_stream": True}, {"size": -1, "mime_type": "x"}):  # fmt: skip
                    file = {**as_file(path), **extra}
                    event, answer = server.restore(client, [file, label, False, 25, False])
                    fine = event in ("error", "refused") and safe(json.dumps(answer))
                    row.case(fine, f"{path[:60]} {extra}: {event}")
            for file in (7, "x", [], {}, {"path": 7}, {"path": None}, ["/etc/passwd"], True):
                event, answer = server.restore(client, [file, label, False, 25, False])
                row.case(event in ("error", "refused") and safe(json.dumps(answer)), f"{file}")
            row.case(not asked, f"the demo fetched {asked}")

        with ledger(7, "folders of the machine named in what the demo says") as row:
            (path,) = server.upload(client, "p.png", encode_image(picture(1))).json()
            event, answer = server.restore(client, [as_file(path), label, False, 25, False])
            said = {"upload": path, f"restore, {event}": json.dumps(answer)}
            for address in ("/", "/config", "/gradio_api/info", "/openapi.json",
                            f"/gradio_api/file={server.cache}/none.png"):  # fmt: skip
                said[address] = get(address)
            for way, text in said.items():
                for folder in (server.cache, server.scratch, root, sys.prefix, Path.home()):
                    row.case(str(folder) not in text, f"{way} names {folder}")

        with ledger(7, "uploads too large, or under the names of other files") as row:
            for megabytes in (2, 20):
                try:
                    reply = server.upload(client, "large.png", bytes(megabytes << 20))
                    row.case(reply.status_code == 413, f"{megabytes} MB: {reply.status_code}")
                except httpx.TransportError:
                    row.case(True, "")  # it hung up

            def endless() -> Iterator[bytes]:
                yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
                for _ in range(30):
                    yield bytes(1 << 20)

            try:
                kind = {"Content-Type": "multipart/form-data; boundary=x"}
                status = client.post("/gradio_api/upload", content=endless(), headers=kind)
                row.case(status.status_code in (400, 413), f"endless: {status.status_code}")
            except httpx.TransportError:
                row.case(True, "")  # it hung up
            for name in ("../../../evil.png", "/tmp/evil.png", "..", "a" * 3000 + ".png", "\0.png",
                         "evil.png/../../x", "con", "<script>alert(1)</script>.png"):  # fmt: skip
                reply = server.upload(client, name, b"x")
                if reply.status_code == 200:
                    path = Path(reply.json()[0].replace(ALIAS, str(server.cache))).resolve()
                    inside = server.cache.resolve() in path.parents
                    row.case(inside and path.is_file(), f"{name[:60]}: {path}")
                else:
                    row.case(reply.status_code < 500 or len(name) > 200, f"{name[:60]!r}: {reply}")
            strays = [p for p in (tmp_path, server.scratch, Path("/tmp")) for p in p.glob("evil*")]
            row.case(not strays, f"written outside: {strays}")

        with ledger(7, "absurd parameters") as row:
            (path,) = server.upload(client, "p.png", encode_image(picture(2))).json()
            photo = as_file(path)
            most = 1e308
            absurd = [
                [photo, label, False, level, False]
                for level in (
                    -1,
                    1e9,
                    most,
                    -most,
                    "much",
                    None,
                    [25],
                    {"a": 1},
                    "__import__('os')",
                )
            ]
            absurd += [
                [photo, model, False, 25, False]
                for model in ("../../etc/passwd", "", None, 7, [label], {"a": label}, "x" * 100_000)
            ]
            absurd += [[], [photo], [photo] * 500, [None, label, False, 25, False]]
            for data in absurd:
                event, answer = server.restore(client, data)
                fine = event in ("error", "refused") and safe(json.dumps(answer))
                row.case(fine, f"{str(data)[-80:]}: {event}")
            where = "/gradio_api/call/restore"
            kind = {"Content-Type": "application/json"}
            bodies = [b"", b"[]", b"{", b'{"data": 7}', b"[" * 100_000, b'{"data": [NaN]}',
                      b'{"fn_index": 99999, "data": []}', os.urandom(1000)]  # fmt: skip
            for body in bodies:
                status, text = post(where, content=body, headers=kind)
                fine = status >= 400 or "event_id" in text
                row.case(fine and safe(text), f"{body[:30]!r}: {status}")
            for name in ("none", "__init__", "choose_models", "../restore", "1e9"):
                status, _ = post(f"/gradio_api/call/{name}", json={"data": []})
                row.case(status >= 400, f"call {name}: {status}")
            # What the page itself calls can be called; a demo open to others has no "train" among
            # it: see test_strangers_start_no_training.
            for name in ("show_models", "inspect"):
                _, text = post(f"/gradio_api/call/{name}", json={"data": []})
                row.case(safe(text), f"call {name}: {text}")

        with ledger(7, "and after all of it, a good request") as row:
            result, _, _ = good_request(server, 77, label)
            expected = Restorer(weights["all_levels"], "cpu").restore(picture(77), 5 * 7 + 5)
            row.case(np.array_equal(result, expected), "wrong result")


def test_strangers_start_no_training() -> None:
    code = (
        "from vheatir.demo import Settings\n"
        "from vheatir.demo.page import build_page\n"
        "for host in ('127.0.0.1', '0.0.0.0'):\n"
        "    page = build_page(Settings(host=host, device='cpu'))\n"
        "    print('train' in {call.api_name for call in page.fns.values()})\n"
    )
    root = Path(__file__).resolve().parents[2]
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code], cwd=root, capture_output=True, text=True,
        timeout=120,
    )  # fmt: skip
    assert result.stdout.split() == ["True", "False"], result.stderr
