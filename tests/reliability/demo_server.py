"""A demo server process, and its clients."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest

from vheatir.image_io import decode_image, encode_image

# Tests that import this are skipped without them.
httpx = pytest.importorskip("httpx", reason="the demo needs gradio: pip install 'vheatir[app]'")
pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

LINUX_ONLY = pytest.mark.skipif(sys.platform != "linux", reason="looks the server up in /proc")
PATIENCE = 500.0


class Server:
    """A demo server in its own process, with its memory and files."""

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
        """Return the files in its cache and in its temporary folder."""
        return [p for root in (self.cache, self.scratch) for p in root.rglob("*") if p.is_file()]

    def upload(self, client: Any, name: str, data: bytes) -> Any:
        return client.post("/gradio_api/upload", files={"files": (name, data)})

    def restore(self, client: Any, data: list[Any]) -> tuple[str, Any]:
        """Request a restoration; return ("complete" | "error" | "wait" | "refused", answer)."""
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


def as_file(path: str) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def client_of(server: Server) -> Any:
    # no proxy from the environment, and no idle connections, which the server may close
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


def sample_image(number: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(number)
    return rng.integers(0, 256, (32 + number % 9, 40 + number % 7, 3)).astype(np.uint8)


def result_of(client: Any, answer: Any) -> np.ndarray[Any, Any]:
    url = urlsplit(answer[2]["url"])
    return decode_image(client.get(url.path).content)


def good_request(
    server: Server, number: int, label: str
) -> tuple[np.ndarray[Any, Any], float, int]:
    """Return the image, the seconds from upload to result, and the number of waits."""
    rng, waits, began = random.Random(number), 0, time.perf_counter()
    with client_of(server) as client:
        while True:
            sent = server.upload(client, f"p{number}.png", encode_image(sample_image(number)))
            (path,) = sent.json()
            level = 5 * (number % 10) + 5
            event, answer = server.restore(
                client, [as_file(path), label, False, level, False, 100, 100]
            )
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
            event, _ = server.restore(client, [as_file(path), label, False, 25, False, 100, 100])
            if event != "wait":
                return event
            time.sleep(0.5)
    return "wait"
