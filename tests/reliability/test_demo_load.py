"""Promise 7: many clients at once, bad files, dropped connections."""

from __future__ import annotations

import concurrent.futures
import os
import random
import socket
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from tests.reliability import corpus
from tests.reliability.demo_server import (
    LINUX_ONLY,
    Server,
    as_file,
    bad_request,
    client_of,
    good_request,
    label_of,
    sample_image,
)
from vheatir.errors import VHeatIRError
from vheatir.image_io import encode_image
from vheatir.inference import Restorer
from vheatir.inference.files import read_photograph

pytestmark = LINUX_ONLY


def dropped_request(server: Server, number: int, label: str) -> None:
    """Drop the connection during an upload, during the headers or while waiting for the result."""
    if number % 3 == 2:
        with client_of(server) as client:
            (path,) = server.upload(client, "d.png", encode_image(sample_image(number))).json()
            data = [as_file(path), label, False, 25, False, 100, 100]
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
    server: Server, weights: dict[str, Path], ledger: Any, full: bool, capsys: Any
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
                result, took, waited = good_request(server, number, label)
                waits += waited
                seconds.append(took)
                expected = restorer.restore(sample_image(number), 5 * (number % 10) + 5)
                if not np.array_equal(result, expected):
                    lost.append(f"request {number} got a wrong image")
        except Exception as error:
            lost.append(f"request {number}: {type(error).__name__}: {error}")

    # Memory baseline: model loaded, each bad file read, all threads started.
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
        row.case(grown < 75, f"memory grew by {grown:.0f} MB")
        seconds.sort()
        row.damage += (
            f"; {len(seconds) / took:.1f} good/s, p50 {statistics.median(seconds):.1f} s, "
            f"p95 {seconds[int(0.95 * len(seconds))]:.1f} s, {waits} asked to wait, "
            f"{before:.0f} -> {before + grown:.0f} MB"
        )
