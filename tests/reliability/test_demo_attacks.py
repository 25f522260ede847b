"""Promise 7: attacks on the demo through its API."""

from __future__ import annotations

import http.server
import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.reliability.demo_server import (
    LINUX_ONLY,
    Server,
    as_file,
    client_of,
    good_request,
    httpx,
    label_of,
    sample_image,
)
from vheatir.demo.folders import ALIAS
from vheatir.image_io import encode_image
from vheatir.inference import Restorer

pytestmark = LINUX_ONLY


@pytest.fixture
def canary() -> Iterator[tuple[str, list[str]]]:
    """A web server on the internal network, which the demo must never contact."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(encode_image(sample_image(1)))

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
                return ""  # connection closed

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
                    event, answer = server.restore(
                        client, [file, label, False, 25, False, 100, 100]
                    )
                    fine = event in ("error", "refused") and safe(json.dumps(answer))
                    row.case(fine, f"{path[:60]} {extra}: {event}")
            for file in (7, "x", [], {}, {"path": 7}, {"path": None}, ["/etc/passwd"], True):
                event, answer = server.restore(client, [file, label, False, 25, False, 100, 100])
                row.case(event in ("error", "refused") and safe(json.dumps(answer)), f"{file}")
            row.case(not asked, f"the demo fetched {asked}")

        with ledger(7, "folders of the machine named in what the demo says") as row:
            (path,) = server.upload(client, "p.png", encode_image(sample_image(1))).json()
            event, answer = server.restore(
                client, [as_file(path), label, False, 25, False, 100, 100]
            )
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
                    row.case(True, "")  # connection closed

            def endless() -> Iterator[bytes]:
                yield b'--x\r\nContent-Disposition: form-data; name="files"; filename="a"\r\n\r\n'
                for _ in range(30):
                    yield bytes(1 << 20)

            try:
                kind = {"Content-Type": "multipart/form-data; boundary=x"}
                status = client.post("/gradio_api/upload", content=endless(), headers=kind)
                row.case(status.status_code in (400, 413), f"endless: {status.status_code}")
            except httpx.TransportError:
                row.case(True, "")  # connection closed
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
            (path,) = server.upload(client, "p.png", encode_image(sample_image(2))).json()
            photo = as_file(path)
            most = 1e308
            absurd = [
                [photo, label, False, level, False, 100, 100]
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
                [photo, model, False, 25, False, 100, 100]
                for model in ("../../etc/passwd", "", None, 7, [label], {"a": label}, "x" * 100_000)
            ]
            absurd += [
                [photo, label, False, 25, False, *strength]
                for strength in ((-1, 100), (100, 151), (most, 0), ("much", 100), (None, None))
            ]
            absurd += [[], [photo], [photo] * 500, [None, label, False, 25, False, 100, 100]]
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
            # No function trains: strangers must not start hours of work on the host.
            for name in ("none", "__init__", "choose_models", "../restore", "1e9", "train"):
                status, _ = post(f"/gradio_api/call/{name}", json={"data": []})
                row.case(status >= 400, f"call {name}: {status}")
            # The functions of the page can be called.
            for name in ("show_models", "inspect"):
                _, text = post(f"/gradio_api/call/{name}", json={"data": []})
                row.case(safe(text), f"call {name}: {text}")

        with ledger(7, "and after all of it, a good request") as row:
            result, _, _ = good_request(server, 77, label)
            expected = Restorer(weights["all_levels"], "cpu").restore(sample_image(77), 5 * 7 + 5)
            row.case(np.array_equal(result, expected), "wrong result")
