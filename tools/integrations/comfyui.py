"""Run the node pack of ``integrations/comfyui`` in a real ComfyUI, without a window, on the CPU.

``python tools/integrations/comfyui.py COMFYUI PYTHON [--screenshot FILE]``, with COMFYUI a checkout
of github.com/Comfy-Org/ComfyUI and PYTHON the interpreter of an environment with its requirements.
It installs vheatir there by ``pip install --no-deps`` (and removes it at the end), compares ``pip
freeze`` before and after, starts ComfyUI on a temporary base folder with the node pack, sends
workflows over its HTTP API, and prints a Markdown table: for each workflow, the largest difference
between the image that ComfyUI saved and that of ``vheatir.Restorer``, computed in this process from
the same floats and saved in the same way (8 bits, cut off, not rounded). ``--screenshot`` also
opens the example workflow in Chromium, runs it and takes a screenshot; it needs ``playwright`` and
``chromium``.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
import io
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vheatir import Restorer
from vheatir.bundled import heldout_photographs
from vheatir.cli import run_entry_point
from vheatir.degradations import CameraNoise, add_camera_noise, jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.export import export_model
from vheatir.metrics import to_uint8
from vheatir.zoo import list_models

PACK = ROOT / "integrations" / "comfyui"
ALLOWED = 1  # levels of 255
_SECONDS = 300
_CROP = (slice(40, 296), slice(60, 380))
_OWN_FILE = "mine.safetensors"
_CHECKPOINT = "photo.pth"
# Nothing on the page but the graph: no offer of templates, small map or frame rate.
_SETTINGS = {
    "Comfy.TutorialCompleted": True,
    "Comfy.Minimap.Visible": False,
    "Comfy.Graph.CanvasInfo": False,
}

Pixels = NDArray[np.uint8]
Graph = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A workflow, with the images it must save.

    Attributes:
        name: what it shows.
        graph: the workflow in the form of ComfyUI's API.
        expected: computes the images, each (H, W) or (H, W, 3).
    """

    name: str
    graph: Graph
    expected: Callable[[], list[Pixels]]


class Server:
    """A running ComfyUI.

    Args:
        port: its port on this machine.
    """

    def __init__(self, port: int) -> None:
        self.address = f"http://127.0.0.1:{port}"

    def request(self, path: str, body: object = None) -> bytes:
        """Send a GET, or a POST with a JSON body; return the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.address + path, data, headers)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            raise VHeatIRError(f"{path}: {error.read().decode(errors='replace')}") from None

    def queue(self, graph: Graph) -> str:
        """Queue a workflow; return its id."""
        return str(json.loads(self.request("/prompt", {"prompt": graph}))["prompt_id"])

    def wait(self, prompt: str) -> dict[str, Any]:
        """Wait for the end of a workflow; return its entry in ComfyUI's history."""
        for _ in range(10 * _SECONDS):
            history = json.loads(self.request(f"/history/{prompt}"))
            if prompt in history:
                return dict(history[prompt])
            time.sleep(0.1)
        raise VHeatIRError(f"a workflow did not end in {_SECONDS} s")

    def images(self, entry: dict[str, Any]) -> list[Pixels]:
        """Return the saved images of a workflow."""
        files = [each for out in entry["outputs"].values() for each in out.get("images", [])]
        data = (self.request(f"/view?{urllib.parse.urlencode(each)}") for each in files)
        return [np.asarray(Image.open(io.BytesIO(each)).convert("RGB")) for each in data]


@contextmanager
def running(comfyui: Path, python: Path, base: Path) -> Iterator[Server]:
    """Run ComfyUI on a base folder; its output goes to ``base/log.txt``."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)]
    command += ["--disable-api-nodes", "--database-url", "sqlite:///:memory:"]
    command += ["--base-directory", str(base)]
    log = base / "log.txt"
    with log.open("w") as stream:
        process = subprocess.Popen(
            command, cwd=comfyui, env=environment(), stdout=stream, stderr=stream
        )
        try:
            server = Server(port)
            for _ in range(_SECONDS):
                if process.poll() is not None:
                    raise VHeatIRError(f"ComfyUI ended at its start:\n{log.read_text()}")
                try:
                    server.request("/system_stats")
                    break
                except OSError:
                    time.sleep(1)
            yield server
        finally:
            process.terminate()
            process.wait()


def main() -> int:
    """Run the command line; return the exit status: 1 if a workflow failed or an image differs."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("comfyui", type=Path, metavar="COMFYUI")
    parser.add_argument("python", type=Path, metavar="PYTHON")
    parser.add_argument("--screenshot", type=Path, metavar="FILE", help="screenshot of the graph")
    arguments = parser.parse_args()
    return run_entry_point(
        lambda: _run(
            arguments.comfyui.absolute(), arguments.python.absolute(), arguments.screenshot
        ),
        "vheatir may be left in the environment",
    )


def _run(comfyui: Path, python: Path, screenshot: Path | None) -> int:
    if not (comfyui / "main.py").is_file():
        raise VHeatIRError(f"{comfyui} is not a checkout of ComfyUI: no main.py")
    if not python.is_file():
        raise VHeatIRError(f"{python} is not a Python interpreter")
    pip(python, "uninstall", "-y", "vheatir")
    before = pip(python, "freeze")
    try:
        pip(python, "install", "--no-deps", "--no-cache-dir", str(ROOT))
        after = pip(python, "freeze")
        changed = [f"-{line}" for line in before if line not in after]
        changed += [f"+{line.split(' @ ')[0]}" for line in after if line not in before]
        with tempfile.TemporaryDirectory() as folder:
            base = Path(folder)
            prepare(base)
            with running(comfyui, python, base) as server:
                failed = check(server, changed)
                if screenshot is not None:
                    take_screenshot(server, screenshot)
    finally:
        pip(python, "uninstall", "-y", "vheatir")
    return 1 if failed else 0


def pip(python: Path, *arguments: str) -> list[str]:
    """Run pip in an environment; return the lines of its output."""
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    if done.returncode:
        raise VHeatIRError(f"pip {arguments[0]} failed: {(done.stderr.splitlines() or ['?'])[-1]}")
    return done.stdout.splitlines()


def environment() -> dict[str, str]:
    """Return the variables of this process, without those that make Python find this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def prepare(base: Path) -> None:
    """Fill the base folder of ComfyUI: the node pack, models, images and settings of the page."""
    for name in ("models/upscale_models", "custom_nodes", "input", "output", "temp"):
        (base / name).mkdir(parents=True)
    user = base / "user" / "default"
    user.mkdir(parents=True)
    (user / "comfy.settings.json").write_text(json.dumps(_SETTINGS))
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACK, base / "custom_nodes" / "vheatir", ignore=ignored)
    models = base / "models" / "upscale_models"
    released = {model.name: model.path for model in list_models()}
    shutil.copy(released["denoise_color_small"], models / _OWN_FILE)
    export_model("photo_small_clean", models / _CHECKPOINT)
    export_model("jpeg_color_small", models / "jpeg.pth")
    for name, pixels in test_images().items():
        Image.fromarray(np.ascontiguousarray(pixels)).save(base / "input" / f"{name}.png")


def test_images() -> dict[str, Pixels]:
    """Return bundled photographs with every kind of damage, and a mask; all 320 x 256."""
    clean = np.ascontiguousarray(heldout_photographs()["coffee"][_CROP])
    rng = np.random.default_rng(0)
    scaled = clean.astype(np.float32) / np.float32(255)
    white = to_uint8(scaled + rng.normal(0, 25 / 255, clean.shape).astype(np.float32))
    camera = add_camera_noise(scaled, CameraNoise.draw(rng, luma_std=6.0), rng)
    drawing = np.full(clean.shape, 255, np.uint8)
    drawing[60:200:20, 40:280] = (30, 60, 160)
    ramp = np.interp(np.arange(clean.shape[1]), (80, 240), (0, 255)).round().astype(np.uint8)
    return {
        "white_noise": white,
        "gray_noise": np.repeat(white[..., :1], 3, axis=2),
        "camera_noise": jpeg_compress(to_uint8(camera), 90),
        "jpeg": jpeg_compress(clean, 10),
        "drawing": drawing,
        "mask": np.broadcast_to(ramp[None, :, None], clean.shape),
        "large": np.tile(white, (5, 5, 1)),
    }


def load_images(*names: str) -> tuple[Graph, list[Any]]:
    """Return the nodes that load one image, or a batch of two, and the link to it."""
    graph: Graph = {
        f"load{index}": {"class_type": "LoadImage", "inputs": {"image": f"{name}.png"}}
        for index, name in enumerate(names)
    }
    if len(names) == 1:
        return graph, ["load0", 0]
    inputs = {"image1": ["load0", 0], "image2": ["load1", 0]}
    graph["batch"] = {"class_type": "ImageBatch", "inputs": inputs}
    return graph, ["batch", 0]


def restore_graph(*names: str, mask: str | None = None, **settings: Any) -> Graph:
    """Return the pack's workflow with these images, a mask and inputs of *Restore (vHeatIR)*."""
    graph, link = load_images(*names)
    example: Graph = json.loads((PACK / "workflow_api.json").read_text())
    (restore,) = (key for key, node in example.items() if node["class_type"] == "VHeatIRRestore")
    example[restore]["inputs"].update(image=link, **settings)
    if mask is not None:
        about = {"image": f"{mask}.png", "channel": "red"}
        graph["mask"] = {"class_type": "LoadImageMask", "inputs": about}
        example[restore]["inputs"]["mask"] = ["mask", 0]
    unused = [key for key, node in example.items() if node["class_type"] == "LoadImage"]
    return {**graph, **{key: node for key, node in example.items() if key not in unused}}


def upscale_graph(name: str, model: str) -> Graph:
    """Return a workflow with ComfyUI's own nodes for image-to-image networks."""
    graph, link = load_images(name)
    graph["model"] = {"class_type": "UpscaleModelLoader", "inputs": {"model_name": model}}
    inputs = {"upscale_model": ["model", 0], "image": link}
    graph["upscale"] = {"class_type": "ImageUpscaleWithModel", "inputs": inputs}
    inputs = {"images": ["upscale", 0], "filename_prefix": "upscaled"}
    return {**graph, "save": {"class_type": "SaveImage", "inputs": inputs}}


def cases() -> Iterator[Case]:
    """Yield the workflows."""
    images = test_images()

    def restored(name: str, model: str = "auto", level: Any = None, **options: Any) -> Pixels:
        return save(Restorer(model, "cpu").restore(floats(images[name]), level, **options))

    for name in ("white_noise", "gray_noise", "camera_noise", "jpeg", "drawing"):
        yield Case(f"automatic, {name}", restore_graph(name), lambda n=name: [restored(n)])
    name, model = "white_noise", "denoise_color_small"
    manual = {"level": "manual", "manual_level": 15.0}
    yield Case(
        "model and level", restore_graph(name, model=model, **manual),
        lambda: [restored(name, model, 15)],
    )  # fmt: skip
    damage = {"denoise_gray": "gray_noise", "denoise_color": "white_noise", "photo": "camera_noise"}
    for each in list_models():
        shown = damage.get(each.task, "jpeg")
        yield Case(
            f"model {each.name}, {shown}", restore_graph(shown, model=each.name),
            lambda n=shown, m=each.name: [restored(n, m)],
        )  # fmt: skip
    yield Case(
        "weight file in models/upscale_models", restore_graph(name, model=_OWN_FILE, **manual),
        lambda: [restored(name, model, 15)],
    )  # fmt: skip
    for strength in (0, 60, 130):
        yield Case(
            f"strength {strength}", restore_graph("camera_noise", strength=float(strength)),
            lambda s=strength: [restored("camera_noise", strength=s)],
        )  # fmt: skip
    for tile in ("128", "whole image"):
        side = None if tile == "whole image" else int(tile)
        yield Case(
            f"tile {tile}", restore_graph(name, tile=tile),
            lambda t=side: [restored(name, tile=t)],
        )  # fmt: skip
    pair = ("jpeg", "white_noise")
    yield Case(
        "batch of 2, automatic", restore_graph(*pair), lambda: [restored(each) for each in pair]
    )

    def masked(name: str) -> Pixels:
        before = floats(images[name])
        after = Restorer("auto", "cpu").restore(before)
        return save(before + (after - before) * floats(images["mask"]))

    yield Case("mask", restore_graph(name, mask="mask"), lambda: [masked(name)])
    yield Case(
        "mask, batch of 2", restore_graph(*pair, mask="mask"), lambda: [masked(n) for n in pair]
    )
    # ComfyUI passes images of up to 512 x 512 in one tile; spandrel's level is 15.
    for file, model, level in (
        (_CHECKPOINT, "photo_small_clean", None),
        ("jpeg.pth", "jpeg_color_small", None),
        (_OWN_FILE, "denoise_color_small", 15),
    ):
        yield Case(
            f"Load Upscale Model, {file} ({model})", upscale_graph("camera_noise", file),
            lambda m=model, n=level: [restored("camera_noise", m, n, tile=None)],
        )  # fmt: skip


def floats(pixels: Pixels) -> NDArray[np.float32]:
    """Return an image as ComfyUI loads it."""
    return pixels.astype(np.float32) / np.float32(255)


def save(image: NDArray[np.float32]) -> Pixels:
    """Return an image as ComfyUI saves it."""
    return (image * np.float32(255)).clip(0, 255).astype(np.uint8)


def check(server: Server, changed: list[str]) -> bool:
    """Run all workflows and print the table; return whether anything failed."""
    write = sys.stdout.write
    about = json.loads(server.request("/system_stats"))["system"]
    write(
        f"ComfyUI {about['comfyui_version']}, Python {about['python_version'].split()[0]}, "
        f"PyTorch {about['pytorch_version']}\n"
        f"pip freeze, before against after: {' '.join(changed) or 'equal'}\n\n"
        "| workflow | report of the node | largest difference, levels of 255 |\n|---|---|---|\n"
    )
    failed = changed != ["+vheatir"]
    for case in cases():
        entry = server.wait(server.queue(case.graph))
        found = server.images(entry)
        texts = [out["text"][0] for out in entry["outputs"].values() if "text" in out]
        report = " ".join(texts) or "-"
        report = re.sub(r", \d+\.\d s", "", report).replace("\n", "; ")
        result = _compare(found, case.expected()) if found else _error(entry)
        failed |= not result.isdecimal() or int(result) > ALLOWED
        write(f"| {case.name} | {report} | {result} |\n")
        sys.stdout.flush()
    for name, graph in refused():
        message = _error(server.wait(server.queue(graph)))
        failed |= "VHeatIRError" not in message or "\n" in message
        write(f"| {name} | {message} | - |\n")
    for tile in ("128", "whole image"):
        message = cancel(server, tile)
        failed |= not message.startswith("interrupted in VHeatIRRestore")
        write(f"| cancelled, tile {tile} | {message} | - |\n")
    return failed


def refused() -> Iterator[tuple[str, Graph]]:
    """Yield workflows with a mistake, which end with one clear line."""
    yield "automatic with a level", restore_graph("jpeg", level="manual")
    settings = {"model": "denoise_color_small", "level": "manual", "manual_level": 90.0}
    yield "level out of range", restore_graph("white_noise", **settings)
    yield "gray model, colour image", restore_graph("white_noise", model="denoise_gray_small")


def cancel(server: Server, tile: str) -> str:
    """Interrupt a long workflow, and run a short one after it; return what happened."""
    graph = restore_graph("large", model="denoise_color_medium", level="manual", tile=tile)
    prompt = server.queue(graph)
    while not json.loads(server.request("/queue"))["queue_running"]:
        time.sleep(0.1)
    time.sleep(3)
    began = time.perf_counter()
    server.request("/interrupt", {})
    entry = server.wait(prompt)
    seconds = time.perf_counter() - began
    again = server.wait(server.queue(restore_graph("jpeg", strength=90.0, tile=tile)))
    if again["status"]["status_str"] != "success":
        return f"the next workflow failed: {_error(again)}"
    messages = dict(entry["status"]["messages"])
    if "execution_interrupted" not in messages:
        return f"not interrupted: {sorted(messages)}"
    node = messages["execution_interrupted"]["node_type"]
    return f"interrupted in {node}, {seconds:.1f} s after the request"


def _compare(found: list[Pixels], expected: list[Pixels]) -> str:
    """Return the largest difference, or how the images differ in number or size."""
    shapes = [each.shape for each in found], [each.shape for each in expected]
    if shapes[0] != shapes[1]:
        return f"{shapes[0]} instead of {shapes[1]}"
    pairs = zip(found, expected, strict=True)
    return str(max(int(np.abs(a.astype(int) - b.astype(int)).max()) for a, b in pairs))


def _error(entry: dict[str, Any]) -> str:
    """Return the error of a workflow."""
    about = dict(entry["status"]["messages"]).get("execution_error")
    if about is None:
        return f"no error: {entry['status']['status_str']}"
    return f"{about['exception_type'].split('.')[-1]}: {about['exception_message'].strip()}"


def take_screenshot(server: Server, file: Path) -> None:
    """Open the example workflow in Chromium, run it, and take a screenshot of the graph."""
    from playwright.sync_api import sync_playwright

    workflow = json.loads((PACK / "example_workflows" / "restore.json").read_text())
    for node in workflow["nodes"]:
        if node["type"] == "LoadImage":
            node["widgets_values"][0] = "camera_noise.png"
    before = set(json.loads(server.request("/history")))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1280, "height": 560})
        page.goto(server.address)
        page.wait_for_function("window.app?.graph && window.app.extensionManager")
        page.wait_for_timeout(3000)
        page.evaluate("workflow => window.app.loadGraphData(workflow)", workflow)
        page.wait_for_timeout(1000)
        page.evaluate("() => window.app.queuePrompt(0, 1)")
        while not (after := set(json.loads(server.request("/history"))) - before):
            page.wait_for_timeout(500)
        page.wait_for_timeout(3000)  # for the saved image
        page.screenshot(path=file)
        browser.close()
    entry = server.wait(after.pop())
    if entry["status"]["status_str"] != "success":
        raise VHeatIRError(f"the example workflow failed: {_error(entry)}")


if __name__ == "__main__":
    sys.exit(main())
