"""Training on pairs of images: exact resume, mixtures, mistakes, what the weights are good for."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from tests.training import helpers
from vheatir.errors import VHeatIRError
from vheatir.image_io import read_image, write_image

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)

# the tests need two workers, even on one core
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


@pytest.fixture
def pairs(tiny: Any) -> Any:
    """The tiny experiment, with pairs for training and validation and no task."""
    rng = np.random.default_rng(1)
    for path in sorted((tiny.folder / "clean").iterdir()):
        clean = read_image(path)
        noisy = clean.astype(int) + rng.integers(-30, 31, size=clean.shape)
        write_image(tiny.folder / "noisy" / path.name, noisy.clip(0, 255).astype(np.uint8))
    options = yaml.safe_load(tiny.file.read_text())
    del options["task"], options["level"], options["datasets"]["val"]["level"]
    for data in options["datasets"].values():
        data["type"] = "PairedImageDataset"
        data["dataroot_lq"] = str(tiny.folder / "noisy")
    tiny.file.write_text(yaml.safe_dump(options))
    return tiny


def mix(pairs: Any, weight: float = 2) -> tuple[str, ...]:
    """Overrides that add damage made from clean images."""
    large = np.random.default_rng(2).integers(256, size=(13, 14, 3)).astype(np.uint8)
    write_image(pairs.folder / "large" / "x.png", large.repeat(5, 0).repeat(5, 1))
    made = f"{{dataroot_gt: {pairs.folder}/large, weight: {weight}}}"
    return ("task=photo", f"datasets:train_2={made}", "datasets:train:gt_size=16")


def resumes_exactly(pairs: Any, *force: str) -> None:
    assert pairs.run(*force, root="straight") == 0
    assert pairs.run(*force) == 0
    for number in (4, 6):
        (pairs.experiment() / "training_states" / f"{number}.state").unlink()
    assert pairs.run(*force, "logger:save_checkpoint_freq=100", resume=True) == 0
    one, two = pairs.state(6, "straight"), pairs.state(6)
    assert helpers.difference(one["model"], two["model"]) is None
    assert helpers.difference(one["losses"], two["losses"], "/losses") is None
    assert one["samples_seen"] == two["samples_seen"]


def test_mixed_sets_resume_exactly(pairs: Any) -> None:
    resumes_exactly(pairs, *mix(pairs), "datasets:train:num_worker_per_gpu=2")


def test_stages_of_pairs_resume_exactly(pairs: Any) -> None:
    stages = "[{until: 0.4, gt_size: 16, batch_size: 4}, {until: 0.7, gt_size: 24, batch_size: 2}]"
    resumes_exactly(pairs, f"train:stages={stages}")


def test_gray_pairs(pairs: Any) -> None:
    from vheatir import Restorer

    assert pairs.run("network_g:in_chans=1") == 0
    restorer = Restorer(pairs.experiment() / "models" / "tiny.safetensors", "cpu")
    gray = np.zeros((20, 24), np.uint8)
    assert restorer.restore(gray).shape == gray.shape


def test_luma_pairs_leave_the_chroma_alone(pairs: Any) -> None:
    from vheatir import Restorer

    color = ("datasets:train:color=y", "datasets:val:color=y")
    assert pairs.run(*color) == 0
    restorer = Restorer(pairs.experiment() / "models" / "tiny.safetensors", "cpu")
    image = read_image(pairs.folder / "noisy" / "a.png")
    change = restorer.restore(image).astype(int) - image
    inside = (image > 20).all(axis=2) & (image < 235).all(axis=2)
    assert np.ptp(change[inside], axis=1).max() <= 1  # R, G and B change alike


def test_lmdb_pairs_train_like_the_folders(pairs: Any, capsys: Any) -> None:
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    force = []
    for kind, folder in (("gt", "clean"), ("lq", "noisy")):
        names = [f"{name}.png" for name in "abcde"]
        root = pairs.folder / f"{kind}.lmdb"
        source = str(pairs.folder / folder)
        make_lmdb_from_imgs(source, str(root), names, list("abcde"), map_size=2**24)
        force += [f"datasets:{key}:dataroot_{kind}={root}" for key in ("train", "val")]
    force += [f"datasets:{key}:io_backend:type=lmdb" for key in ("train", "val")]
    assert pairs.run(root="folders") == 0
    assert pairs.run(*force) == 0
    assert helpers.difference(pairs.state(6, "folders")["model"], pairs.state(6)["model"]) is None


def test_validation_measures_the_pairs(pairs: Any) -> None:
    from vheatir.metrics import psnr

    assert pairs.run("train:total_iter=2") == 0
    ((_, _, scores),) = pairs.state(2)["scores"]
    noisy, clean = (read_image(pairs.folder / kind / "a.png") for kind in ("noisy", "clean"))
    assert scores["val"]["input_psnr"] == pytest.approx(psnr(noisy, clean))


def test_named_metrics_are_those_of_the_output(pairs: Any) -> None:
    """Rounded as BasicSR does by default; NAFNet's use_image=false takes the output as it is."""
    from vheatir.training.options import load_options
    from vheatir.training.sections import MetricOptions
    from vheatir.training.validation import Validator, measure_named

    metrics = "{mine: {type: calculate_psnr, crop_border: 3, test_y_channel: true}}"
    measured = {}
    for use_image in ("true", "false"):
        force = [f"val:metrics={metrics}", f"val:use_image={use_image}"]
        validator = Validator(load_options(pairs.file, force))
        torch.manual_seed(0)
        from vheatir.archs import build_network

        network = build_network({**validator.options.network_g.config()}).eval()
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.02 * torch.randn_like(parameter))
        ((test_set, _),) = validator.sets
        (image,) = validator.images(network, test_set, None)
        measured[use_image] = validator.run(network)["val"]
        metric = MetricOptions(type="calculate_psnr", crop_border=3, test_y_channel=True)
        output = image.output if use_image == "true" else image.unrounded * 255
        assert measured[use_image]["mine"] == measure_named(metric, output, image.clean)
        before = measure_named(metric, image.degraded, image.clean)
        assert measured[use_image]["input_psnr"] == before
    assert measured["true"]["mine"] != measured["false"]["mine"]
    assert measured["true"]["mine"] == pytest.approx(measured["false"]["mine"], abs=0.5)


@pytest.mark.parametrize(
    ("better", "expected"), [("higher", "(best 30.0000 at 4)"), ("lower", "(best 20.0000 at 2)")]
)
def test_the_best_score_is_in_the_log(pairs: Any, better: str, expected: str) -> None:
    from vheatir.training.options import load_options
    from vheatir.training.validation import Validator

    metrics = f"{{m: {{type: calculate_psnr, better: {better}}}}}"
    validator = Validator(load_options(pairs.file, [f"val:metrics={metrics}"]))
    history = [[at, 0.0, {"val": {"m": m}}] for at, m in ((2, 20.0), (4, 30.0), (6, 25.0))]
    assert f"({validator.best(history)['val']['m']})" == expected
    assert Validator(load_options(pairs.file)).best(history) == {}


def test_device_crops_of_pairs_fall_back_to_the_loader_with_a_message(
    pairs: Any, log_lines: list[str]
) -> None:
    assert pairs.run("train:data_on_device=true", "train:total_iter=2") == 0
    assert any("data_on_device is for noise only" in line for line in log_lines)


@pytest.mark.parametrize(
    ("force", "message"),
    [
        ("datasets:train:dataroot_lq=nowhere", "does not exist"),
        ("datasets:train:filename_tmpl='{}x'", "5 image(s) are missing"),
        ("datasets:train:gt_size=46", "smaller than the crop of 46"),
        ("datasets:train:meta_info_file=none.txt", "cannot be read"),
        ("datasets:train:dataroot_lq={folder}/small", "must have the same size"),
        ("datasets:val:dataroot_lq={folder}/small", "must have the same size"),
        ("datasets:val:dataroot_lq={folder}/fewer", "1 image(s) are missing"),
    ],
)
def test_one_line_before_training(pairs: Any, capfd: Any, force: str, message: str) -> None:
    for name in "abcde":
        image = read_image(pairs.folder / "noisy" / f"{name}.png")
        write_image(pairs.folder / "small" / f"{name}.png", image[1:])
        if name != "c":
            write_image(pairs.folder / "fewer" / f"{name}.png", image)
    assert pairs.run(force.replace("{folder}", str(pairs.folder))) == 2
    (line,) = [x for x in capfd.readouterr().err.splitlines() if x.startswith("error: ")]
    assert message in line
    assert not (pairs.folder / "runs").exists()


def test_older_states_resume_without_warnings_about_new_options(pairs: Any) -> None:
    assert pairs.run("train:total_iter=2") == 0
    path = pairs.experiment() / "training_states" / "2.state"
    state = torch.load(path, weights_only=False)
    for name in ("weight", "color", "phase", "pin_memory"):
        del state["options"]["datasets"]["train"][name]
    del state["options"]["val"]["use_image"], state["options"]["print_network"]
    torch.save(state, path)
    assert pairs.run("train:total_iter=4", resume=True) == 0
    text = next(pairs.experiment().glob("*.log")).read_text()
    assert text.count(" changed: ") == 1 and "train:total_iter changed" in text


def test_weights_are_tested_on_the_pairs_and_restore_photographs(
    pairs: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vheatir import Restorer
    from vheatir.cli import main as command
    from vheatir.test import measure, parse_arguments
    from vheatir.weights import read_info

    assert pairs.run("train:total_iter=2") == 0
    weights = pairs.experiment() / "models" / "tiny.safetensors"
    info = read_info(weights)
    assert (info["task"], info["level"], info["color"]) == (None, None, "rgb")
    out = ["--out", str(pairs.folder / "out"), "--device", "cpu"]
    force = ["--force_yml", f"path:experiments_root={pairs.folder}/runs"]
    records = measure(parse_arguments(["-opt", str(pairs.file), *out, *force]))
    assert [(r.dataset, r.method, r.images) for r in records] == [
        ("val", "degraded", 1),
        ("val", "tiny", 1),
    ]
    data = ["--data", str(pairs.folder), "--limit", "2"]
    assert [
        r.images for r in measure(parse_arguments(["--weights", str(weights), *data, *out]))
    ] == ([2, 2])
    source, target = pairs.folder / "noisy" / "a.png", pairs.folder / "restored.png"
    assert command(["restore", str(source), "-o", str(target), "--model", str(weights)]) == 0
    assert read_image(target).shape == read_image(source).shape
    with pytest.raises(VHeatIRError, match="model trained on pairs takes no level"):
        Restorer(weights, "cpu").restore(read_image(source), 20)


@pytest.mark.parametrize("mode", ["gray", "y"])
def test_a_foreign_network_of_one_channel_restores(pairs: Any, mode: str) -> None:
    from vheatir import Restorer

    network = {
        "type": "SwinIR", "img_size": 32, "in_chans": 1, "upscale": 1, "upsampler": "",
        "window_size": 8, "embed_dim": 8, "depths": [2], "num_heads": [2], "mlp_ratio": 2,
    }  # fmt: skip
    options = yaml.safe_load(pairs.file.read_text()) | {"network_g": network}
    for data in options["datasets"].values():
        data.update({"color": "y"} if mode == "y" else {})
    pairs.file.write_text(yaml.safe_dump(options))
    assert pairs.run("train:total_iter=1", "datasets:val=null") == 0
    restorer = Restorer(pairs.experiment() / "models" / "tiny.safetensors", "cpu")
    noisy = read_image(pairs.folder / "noisy" / "a.png")
    restored = restorer.restore(noisy[..., 1])
    assert restored.shape == noisy.shape[:2] and restored.dtype == np.uint8
    if mode == "gray":
        with pytest.raises(VHeatIRError, match="'tiny' restores gray images, but the image is in"):
            restorer.restore(noisy)
        return
    # the luma changes, the differences of the channels stay
    x = torch.from_numpy(noisy / 255)
    luma = (x @ torch.tensor([65.481, 128.553, 24.966], dtype=x.dtype) + 16) / 255
    with torch.no_grad():
        padded = torch.nn.functional.pad(luma[None, None].float(), (0, 1, 0, 3), mode="reflect")
        y = restorer.network(padded)[0, 0, :45, :55]
    expected = (x + ((y - luma) * 255 / 219)[..., None]).clamp(0, 1) * 255
    assert np.abs(restorer.restore(noisy) - expected.numpy()).max() < 0.51


def test_a_test_without_pairs_says_what_to_give(pairs: Any, tmp_path: Path) -> None:
    from vheatir.test import measure, parse_arguments

    assert pairs.run("train:total_iter=2") == 0
    weights = str(pairs.experiment() / "models" / "tiny.safetensors")
    out = ["--out", str(pairs.folder / "out"), "--device", "cpu"]
    for data in ([], ["--data", str(pairs.folder / "clean")]):
        with pytest.raises(VHeatIRError, match="is tested on pairs: give --data FOLDER"):
            measure(parse_arguments(["--weights", weights, *data, *out]))
