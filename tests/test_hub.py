"""Models as folders of the Hugging Face Hub: offline, and from a Hub of the test's own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import safetensors.torch
import torch

import vheatir
from vheatir import zoo
from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.hub import from_pretrained, save_pretrained
from vheatir.hub_card import hub_card
from vheatir.inference import Restorer
from vheatir.weights import LoadedModel, load_weights, read_info, save_weights

ROOT = Path(__file__).resolve().parents[1]
INFO = {"task": "denoise_color", "level": [0, 55], "name": "tiny", "training": {"score": 30.5}}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def tiny(path: Path, **info: object) -> LoadedModel:
    torch.manual_seed(0)
    config = {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "level_scale": 255.0}
    network = build_network(config)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    save_weights(path, network, {**INFO, **info}, dtype=torch.float16)
    return load_weights(path)


@pytest.fixture
def model(tmp_path: Path) -> LoadedModel:
    return tiny(tmp_path / "tiny.safetensors")


@pytest.fixture
def folder(model: LoadedModel, tmp_path: Path) -> Path:
    return save_pretrained(model, tmp_path / "saved")


# --- folders -------------------------------------------------------------------------------------


def test_a_folder_holds_the_model(model: LoadedModel, folder: Path) -> None:
    assert sorted(path.name for path in folder.iterdir()) == [
        "README.md", "config.json", "model.safetensors",
    ]  # fmt: skip
    data = (folder / "model.safetensors").read_bytes()
    config = json.loads((folder / "config.json").read_text())
    assert data == model.path.read_bytes()
    assert config["sha256"] == hashlib.sha256(data).hexdigest()
    assert config["info"] == INFO and config["network"]["embed_dim"] == 8
    loaded = from_pretrained(folder)
    assert loaded.info == INFO and loaded.name == "tiny" and loaded.sha256 == config["sha256"]
    x = torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        torch.testing.assert_close(loaded.network(x, 25), model.network(x, 25))
    assert Restorer(loaded, "cpu").level_range == (0, 55)
    for name in (folder, str(folder)):
        assert Restorer(name, "cpu").model.sha256 == config["sha256"]


@pytest.mark.parametrize("name", ["photo_small_clean", "denoise_gray_small"])
def test_a_released_model_stays_the_released_one(name: str, tmp_path: Path) -> None:
    model = vheatir.load_model(name)
    loaded = from_pretrained(save_pretrained(model, tmp_path / name))
    entry = next(each for each in zoo.list_models() if each.name == name)
    assert loaded.sha256 == entry.sha256
    assert entry.sha256 in (tmp_path / name / "README.md").read_text()
    assert (tmp_path / name / "NOTICE").exists() == entry.commercial_use
    with pytest.raises(VHeatIRError, match="licence of .* is known"):
        save_pretrained(model, tmp_path / "other", licence="MIT")
    assert not (tmp_path / "other").exists()


def test_changed_weights_are_saved_as_they_are(model: LoadedModel, tmp_path: Path) -> None:
    with torch.no_grad():
        model.network.conv_last.bias += 0.25
    loaded = from_pretrained(save_pretrained(model, tmp_path / "saved"))
    assert loaded.sha256 != model.sha256
    assert torch.equal(loaded.network.conv_last.bias, model.network.conv_last.bias)


def test_saving_again_replaces_the_files(folder: Path, tmp_path: Path) -> None:
    other = tiny(tmp_path / "other.safetensors", name="other")
    assert from_pretrained(save_pretrained(other, folder)).name == "other"


def test_a_checkpoint_of_basicsr_becomes_a_folder(tmp_path: Path) -> None:
    network = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [1]})
    torch.save({"params_ema": network.state_dict()}, tmp_path / "net_g_5.pth")
    folder = save_pretrained(load_weights(tmp_path / "net_g_5.pth"), tmp_path / "saved")
    assert from_pretrained(folder).name == "net_g_5"


def test_values_that_are_not_numbers_are_kept(tmp_path: Path) -> None:
    model = tiny(tmp_path / "tiny.safetensors", training={"psnr": float("nan")})
    assert from_pretrained(save_pretrained(model, tmp_path / "saved")).name == "tiny"


# --- what is refused -----------------------------------------------------------------------------


def refusal(name: object, **options: object) -> str:
    with pytest.raises(VHeatIRError) as caught:
        from_pretrained(name, **options)  # type: ignore[arg-type]
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_damaged_weights(folder: Path) -> None:
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    assert "is damaged or not the file" in refusal(folder)


def test_the_weights_of_another_model(folder: Path, tmp_path: Path) -> None:
    shutil.copy(tiny(tmp_path / "other.safetensors", level=15).path, folder / "model.safetensors")
    assert "SHA-256" in refusal(folder)


def test_a_config_that_describes_another_model(folder: Path) -> None:
    file = folder / "config.json"
    config = json.loads(file.read_text())
    config["info"]["level"] = [0, 75]
    file.write_text(json.dumps(config))
    assert "describes another model" in refusal(folder)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", "{}", '{"sha256": 1, "network": {}}', "[" * 100_000, "\xff"]
)
def test_a_damaged_config(folder: Path, text: str) -> None:
    (folder / "config.json").write_text(text, encoding="latin-1")
    assert "config.json is damaged or not of vHeatIR" in refusal(folder)


def test_a_config_of_a_later_format(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 2}))
    assert "has format 2, not 1: upgrade" in refusal(folder)


def test_missing_files(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "model.safetensors cannot be opened: No such file" in refusal(folder)
    (folder / "config.json").unlink()
    assert "config.json does not exist: give a folder written by" in refusal(folder)


def test_a_foreign_network_is_not_imported(folder: Path) -> None:
    tensors = {"weight": torch.zeros(2)}
    header = {"format": 1, "network": {"type": "os.system"}, "info": {}}
    data = safetensors.torch.save(tensors, {"vheatir": json.dumps(header)})
    (folder / "model.safetensors").write_bytes(data)
    config = {**header, "sha256": hashlib.sha256(data).hexdigest()}
    (folder / "config.json").write_text(json.dumps(config))
    assert "give --import MODULE" in refusal(folder)


def test_a_pickle_is_not_unpickled(folder: Path) -> None:
    import pickle

    data = pickle.dumps(print)
    (folder / "model.safetensors").write_bytes(data)
    config = json.loads((folder / "config.json").read_text())
    config["sha256"] = hashlib.sha256(data).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))
    assert "not a safetensors file" in refusal(folder)


@pytest.mark.parametrize("name", ["no_folder", "a/b/c", "hf://org", "/nowhere/at/all", "org/na me"])
def test_neither_a_folder_nor_a_name(name: str) -> None:
    assert "is neither a folder nor a name on the Hugging Face Hub" in refusal(name)


def test_a_folder_has_no_revision(folder: Path) -> None:
    assert "has no revision" in refusal(folder, revision="main")


def test_a_folder_that_cannot_be_written(model: LoadedModel) -> None:
    with pytest.raises(VHeatIRError, match="cannot be written: .*choose another folder"):
        save_pretrained(model, model.path / "below a file")


def test_without_huggingface_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = refusal("org/name")
    assert "'huggingface_hub', which is not installed: pip install 'vheatir[hub]'" in message


# --- the Hub and its cache -----------------------------------------------------------------------


class Hub(BaseHTTPRequestHandler):
    """The two requests of huggingface_hub for a file: its headers, and its contents."""

    folder: Path
    requests: list[str]

    def do_HEAD(self) -> None:
        self.answer(with_body=False)

    def do_GET(self) -> None:
        self.answer(with_body=True)

    def answer(self, with_body: bool) -> None:
        self.requests.append(f"{self.command} {self.path}")
        owner, _, _, revision, name = self.path.strip("/").split("/", 4)
        if owner != "org":
            self.refuse("RepoNotFound")
        elif revision not in ("main", COMMIT):
            self.refuse("RevisionNotFound")
        elif not (self.folder / name).is_file():
            self.refuse("EntryNotFound")
        else:
            data = (self.folder / name).read_bytes()
            self.send_response(200)
            self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if with_body:
                self.wfile.write(data)

    def refuse(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub(folder: Path) -> Iterator[ThreadingHTTPServer]:
    pytest.importorskip("huggingface_hub", reason="needs pip install 'vheatir[hub]'")
    handler = type("OwnHub", (Hub,), {"folder": folder, "requests": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


LOAD = """
import sys
from vheatir.errors import VHeatIRError
from vheatir.inference import Restorer
for name in sys.argv[1:]:
    try:
        restorer = Restorer(name, "cpu")
        print(restorer.name, restorer.model.path)
    except VHeatIRError as error:
        print("error:", error)
"""


def environment(home: Path, **variables: str) -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGG"))}
    kept = {key: value for key, value in kept.items() if not key.lower().endswith("_proxy")}
    return {**kept, "PYTHONPATH": str(ROOT), "HF_HOME": str(home), "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1", **variables}  # fmt: skip


def load(names: list[str], environment: dict[str, str]) -> list[str]:
    result = subprocess.run(
        [sys.executable, "-c", LOAD, *names], env=environment, cwd=environment["HF_HOME"],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()


def test_the_hub_and_then_its_cache_offline(
    hub: ThreadingHTTPServer, folder: Path, tmp_path: Path
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    online = environment(home, HF_ENDPOINT=f"http://127.0.0.1:{hub.server_port}")
    fetched, revision, *refused = load(
        ["hf://org/tiny", f"hf://org/tiny@{COMMIT}", "hf://nobody/tiny", "hf://org/tiny@v9"], online
    )
    # the cache has the layout of huggingface_hub, which wrote it
    snapshot = home / "hub" / "models--org--tiny" / "snapshots" / COMMIT
    assert fetched == revision == f"tiny {snapshot / 'model.safetensors'}"
    assert sorted(path.name for path in snapshot.iterdir()) == ["config.json", "model.safetensors"]
    gets = [line for line in hub.RequestHandlerClass.requests if line.startswith("GET")]
    assert gets == [
        "GET /org/tiny/resolve/main/config.json",
        f"GET /org/tiny/resolve/{COMMIT}/model.safetensors",
    ]
    assert "there is no such repository, or it is private" in refused[0]
    assert "there is no such revision" in refused[1]

    shutil.rmtree(folder)
    offline = environment(home, HF_HUB_OFFLINE="1")
    found, missing = load(["hf://org/tiny", "hf://org/other"], offline)
    assert found == fetched
    assert missing == (
        "error: config.json of org/other is not in the cache of the Hugging Face Hub, which is "
        "offline or cannot be reached: connect and try again, or give a folder"
    )


def test_the_command_line_offline(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("huggingface_hub", reason="needs pip install 'vheatir[hub]'")
    import numpy as np

    from vheatir.image_io import read_image, write_image

    # the layout that the test above lets huggingface_hub write
    repository = tmp_path / "home" / "hub" / "models--org--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    shutil.copytree(folder, repository / "snapshots" / COMMIT)
    image = np.random.default_rng(0).integers(256, size=(24, 20, 3), dtype=np.uint8)
    write_image(tmp_path / "noisy.png", image)
    result = subprocess.run(
        [sys.executable, "-m", "vheatir.cli", "restore", str(tmp_path / "noisy.png"), "-o",
         str(tmp_path / "out.png"), "--model", "hf://org/tiny", "--level", "25"],
        env=environment(tmp_path / "home", HF_HUB_OFFLINE="1"), capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert read_image(tmp_path / "out.png").shape == image.shape


# --- cards ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [entry.name for entry in zoo.list_models()])
def test_the_hub_reads_the_card_of_a_released_model(name: str) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs pip install 'vheatir[hub]'")
    entry = next(each for each in zoo.list_models() if each.name == name)
    model = LoadedModel(torch.nn.Identity(), read_info(entry.path), entry.path, entry.sha256)
    card = hub.ModelCard(hub_card(model, {}, entry.sha256, entry))
    data = card.data
    facts = data.to_dict()
    assert (facts["library_name"], facts["pipeline_tag"]) == ("vheatir", "image-to-image")
    assert "image-restoration" in data.tags and data.datasets is None
    if entry.commercial_use:
        assert data.license == "apache-2.0" and data.license_name is None
    else:
        assert data.license == "other" and data.license_name
        assert f"- licence: {entry.licence}" in card.text
    assert entry.sha256 in card.text and "](.." not in card.text
    # every measured value, from the table of the card
    rows = [line.strip("| ").split(" | ") for line in entry.card.read_text().splitlines()
            if line.startswith("| ") and "PSNR" not in line]  # fmt: skip
    expected = [(row[0], kind, float(value)) for row in rows
                for kind, value in (("psnr", row[-2]), ("ssim", row[-1]))]  # fmt: skip
    found = [(r.dataset_name, r.metric_type, r.metric_value) for r in data.eval_results]
    assert data.model_name == name and found == expected and found
    levels = [r.dataset_args for r in data.eval_results if r.metric_type == "psnr"]
    names = {"denoise": "sigma", "jpeg": "quality"}
    level_name = names.get(entry.task.split("_")[0])
    assert levels == [{level_name: int(row[1])} if level_name else None for row in rows]


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        (None, (None, None)),
        ("MIT", ("mit", None)),
        ("ask-the-authors", ("other", "ask-the-authors")),
    ],
)
def test_the_card_of_a_model_of_your_own(
    model: LoadedModel, tmp_path: Path, licence: str | None, expected: tuple[str | None, str | None]
) -> None:
    hub = pytest.importorskip("huggingface_hub", reason="needs pip install 'vheatir[hub]'")
    folder = save_pretrained(model, tmp_path / "saved", licence=licence)
    card = hub.ModelCard.load(folder / "README.md")
    assert (card.data.license, card.data.license_name) == expected
    assert card.data.eval_results is None
    assert "# tiny" in card.text and "Colour denoising, sigma 0 to 55" in card.text
