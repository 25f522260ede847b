"""Fixtures: a real demo server in a subprocess, and a headless Chromium."""

from __future__ import annotations

import os
import queue
import re
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vheatir.archs import build_network
from vheatir.weights import save_weights

SLOW = 60_000  # milliseconds; generous, since the machine may be busy
ROOT = Path(__file__).resolve().parents[2]
_CHROMIUM_ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def tiny_weights(
    path: Path, task: str, level: float | list[float], level_scale: float | None
) -> Path:
    """Save a tiny random network that visibly changes an image."""
    torch.manual_seed(0)
    channels = 3 if "color" in task else 1
    net = build_network(
        {
            "type": "VHeatIR",
            "in_chans": channels,
            "embed_dim": 8,
            "depths": [1],
            "downscale": 2,
            "level_scale": level_scale,
        }
    )
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    return save_weights(path, net, {"task": task, "level": level, "name": path.stem})


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep gradio's files apart; servers in subprocesses get folders of their own."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return weight files: colour denoising for all levels and for one, gray JPEG (blind)."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        "all_levels": tiny_weights(
            folder / "all_levels.safetensors", "denoise_color", [0, 55], 255.0
        ),
        "sigma15": tiny_weights(folder / "sigma15.safetensors", "denoise_color", 15, None),
        "jpeg": tiny_weights(folder / "jpeg.safetensors", "jpeg_gray", [5, 95], None),
    }


@pytest.fixture(scope="session")
def photo_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weights of a tiny random model for photographs, which has no level."""
    torch.manual_seed(0)
    shape = {"channels": [8, 8], "depths": [1, 1], "mixers": ["none", "hco_spread"]}
    net = build_network({"type": "VHeatIRUNet", **shape})
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("photo") / "photo_test.safetensors"
    return save_weights(path, net, {"task": "photo", "level": None, "name": path.stem})


@pytest.fixture(scope="session")
def photograph() -> np.ndarray[Any, Any]:
    """Return a real, noisy photograph, 200 x 300 RGB."""
    from skimage import data

    image = data.chelsea()[:200, :300] / 255
    noise = np.random.default_rng(0).normal(0, 20 / 255, image.shape)
    return (np.clip(image + noise, 0, 1) * 255).round().astype(np.uint8)


Serve = Callable[..., str]


@contextmanager
def _servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")
    running: list[subprocess.Popen[str]] = []
    readers: list[threading.Thread] = []

    def start(*flags: str | Path) -> str:
        folder = tmp_path_factory.mktemp("demo")
        environment = {**os.environ, "GRADIO_TEMP_DIR": str(folder / "cache")}
        environment.pop("PYTHONPATH", None)
        port = _free_port()
        process = subprocess.Popen(
            [sys.executable, str(ROOT / "app.py"), *map(str, flags)]
            + ["--no-browser", "--port", str(port), "--device", "cpu"],
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return _wait_for_address(process, readers)

    yield start
    for process, reader in zip(running, readers, strict=True):
        process.terminate()
        status = process.wait(timeout=60)
        reader.join(timeout=60)
        assert process.stdout is not None
        process.stdout.close()
        assert status == 0


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serve]:
    """Return a function that runs ``python app.py FLAGS`` in a subprocess and returns its URL."""
    with _servers(tmp_path_factory) as start:
        yield start


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for_address(process: subprocess.Popen[str], readers: list[threading.Thread]) -> str:
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    readers.append(threading.Thread(target=read, daemon=True))
    readers[-1].start()
    output = ""
    while (line := lines.get(timeout=180)) is not None:
        output += line
        if found := re.search(r"vHeatIR demo: (http://\S+)", line):
            return found[1]
    raise AssertionError(f"the demo ended with status {process.wait()}: {output}")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Return a headless Chromium, or skip where there is none."""
    reason = "no browser to drive the demo with: "
    playwright = pytest.importorskip(
        "playwright.sync_api", reason=reason + "pip install playwright"
    )
    chromium = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
    if chromium is None:
        pytest.skip(reason + "apt install chromium")
    with playwright.sync_playwright() as api:
        instance = api.chromium.launch(executable_path=chromium, args=_CHROMIUM_ARGUMENTS)
        yield instance
        instance.close()


@pytest.fixture(scope="session")
def address(tmp_path_factory: pytest.TempPathFactory, weights: dict[str, Path]) -> Iterator[str]:
    """Return the URL of a demo for all tests that do without flags of their own."""
    with _servers(tmp_path_factory) as start:
        yield start("--weights", *weights.values(), "--max-pixels", "100000")


@pytest.fixture(scope="module")
def only_page(browser: Any, address: str) -> Iterator[Any]:
    """Return the page that all tests of a file load anew: its process has the scripts compiled."""
    context = browser.new_context(accept_downloads=True, reduced_motion="reduce")
    page = context.new_page()
    page.set_default_timeout(SLOW)
    page.shot = lambda name: _save_screenshot(page, name)
    page.foreign = []
    page.on(
        "request",
        lambda r: None if r.url.startswith((address, "data:", "blob:")) else page.foreign.append(r),
    )
    yield page
    context.close()


@pytest.fixture
def page(only_page: Any, address: str) -> Any:
    """Return a page with the demo as a new visitor gets it, in a session of its own."""
    page = only_page
    page.foreign.clear()
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    page.goto(address)
    page.wait_for_selector("#restore:not([disabled])")
    return page


def _save_screenshot(page: Any, name: str) -> None:
    """Save a screenshot if ``VHEATIR_SCREENSHOTS`` names a folder."""
    if folder := os.environ.get("VHEATIR_SCREENSHOTS"):
        page.wait_for_timeout(1000)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
