"""BasicSR's own training of our networks: registries, loop, and the weights that it saves."""

from __future__ import annotations

import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from vheatir import Restorer, VHeatIR
from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.image_io import read_image, write_image
from vheatir.restore import main as restore

pytestmark = pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="needs basicsr")

ROOT = Path(__file__).resolve().parents[1]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
NETWORKS: dict[str, dict[str, Any]] = {
    "flat": {"type": "VHeatIR", "embed_dim": 8, "depths": [1, 2], "downscale": 2},
    "size": {"type": "VHeatIR", "size": "mini", "depths": [1]},
    "unet": {"type": "VHeatIRUNet", "channels": [8, 16], "depths": [1, 1],
             "mixers": ["conv", "hco_spread"]},
    "unet_size": {"type": "VHeatIRUNet", "size": "small", "channels": [8] * 3},
}  # fmt: skip


def option_file(folder: Path, name: str, network: dict[str, Any]) -> Path:
    """Write a stock option file of BasicSR for pairs of images in ``folder``."""
    pairs = {
        "type": "PairedImageDataset", "dataroot_gt": str(folder / "gt"),
        "dataroot_lq": str(folder / "lq"), "io_backend": {"type": "disk"},
    }  # fmt: skip
    loader = {
        "gt_size": 16, "use_hflip": True, "use_rot": True, "use_shuffle": True,
        "num_worker_per_gpu": 0, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 1,
    }  # fmt: skip
    options = {
        "name": name, "model_type": "SRModel", "scale": 1, "num_gpu": 0, "manual_seed": 1,
        "datasets": {
            "train": {"name": "pairs", **pairs, **loader},
            "val": {"name": "held_out", **pairs},
        },
        "network_g": network,
        "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
        "train": {
            "ema_decay": 0.5,
            "optim_g": {"type": "Adam", "lr": 2e-3, "weight_decay": 0, "betas": [0.9, 0.99]},
            "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
            "total_iter": 4, "warmup_iter": -1,
            "pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        },
        "val": {
            "val_freq": 4, "save_img": True,
            "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 0,
                                 "test_y_channel": False}},
        },
        "logger": {"print_freq": 2, "save_checkpoint_freq": 4, "use_tb_logger": False,
                   "wandb": {"project": None, "resume_id": None}},
        "dist_params": {"backend": "nccl", "port": 29500},
    }  # fmt: skip
    file = folder / f"{name}.yml"
    file.write_text(yaml.safe_dump(options))
    return file


def write_pairs(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for name in "ab":
        clean = rng.integers(256, size=(5, 6, 3)).astype(np.uint8).repeat(5, 0).repeat(5, 1)
        noisy = np.clip(clean + rng.normal(0, 20, clean.shape), 0, 255).round().astype(np.uint8)
        write_image(folder / "gt" / f"{name}.png", clean)
        write_image(folder / "lq" / f"{name}.png", noisy)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_pairs(tmp_path)
    return tmp_path


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True,
        timeout=300,
    )  # fmt: skip


# A user's own script, like those of HAT and Real-ESRGAN, for several option files.
SCRIPT = """
import sys
import vheatir.basicsr
from basicsr.train import train_pipeline

for name in sys.argv[1:]:
    sys.argv = ["train.py", "-opt", f"{name}.yml"]
    train_pipeline(".")
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which BasicSR has trained each network, and one on degraded crops."""
    folder = tmp_path_factory.mktemp("basicsr")
    write_pairs(folder)
    for name, network in NETWORKS.items():
        option_file(folder, name, network)
    own = {"type": "RestorationDataset", "task": "denoise_color", "dataroot_gt": str(folder / "gt")}
    file = option_file(folder, "degraded", NETWORKS["flat"])
    options = yaml.safe_load(file.read_text())
    options["datasets"] = {
        "train": {"name": "train", **own, "level": [0, 55], "gt_size": 16,
                  "num_worker_per_gpu": 1, "batch_size_per_gpu": 2, "dataset_enlarge_ratio": 4,
                  "prefetch_mode": None},
        "val": {"name": "val", **own, "level": 25},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(options))
    result = run(folder, "-c", SCRIPT, *NETWORKS, "degraded")
    assert result.returncode == 0, result.stderr
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_basicsr_trains_our_networks_and_restore_reads_its_weights(
    name: str, trained: Path, tmp_path: Path
) -> None:
    models = trained / "experiments" / name / "models"
    saved = torch.load(models / "net_g_4.pth", weights_only=True)
    latest = torch.load(models / "net_g_latest.pth", weights_only=True)

    start = build_network(NETWORKS[name]).state_dict()
    assert saved["params"].keys() == saved["params_ema"].keys() == start.keys()
    last = "conv_last.weight"  # starts as zeros
    assert not start[last].any() and saved["params"][last].any()
    assert not torch.equal(saved["params"][last], saved["params_ema"][last])
    assert torch.equal(saved["params_ema"][last], latest["params_ema"][last])

    theirs = read_image(trained / "experiments" / name / "visualization" / "a" / "a_4.png")
    noisy = trained / "lq" / "a.png"
    command = [str(noisy), "-o", str(tmp_path / "out.png"), "--device", "cpu"]
    assert restore([*command, "--model", str(models / "net_g_4.pth")]) == 0
    assert np.array_equal(read_image(tmp_path / "out.png"), theirs)
    restorer = Restorer(models / "net_g_4.pth", "cpu")
    assert np.array_equal(restorer.restore(read_image(noisy)), theirs)
    assert not np.array_equal(read_image(noisy), theirs)
    assert restorer.task is None and restorer.info == {"name": "net_g_4"}


def test_the_degrading_data_set_trains_in_basicsr(trained: Path) -> None:
    experiment = trained / "experiments" / "degraded"
    saved = torch.load(experiment / "models" / "net_g_4.pth", weights_only=True)
    assert saved["params"]["conv_last.weight"].any()
    restored = read_image(experiment / "visualization" / "b" / "b_4.png")
    assert restored.shape == (25, 30, 3)


def test_a_network_with_a_level_is_refused_in_one_line(pairs: Path) -> None:
    option_file(pairs, "level", {**NETWORKS["flat"], "level_scale": 255.0})
    result = run(pairs, "-m", "vheatir.basicsr", "-opt", "level.yml")
    assert result.returncode == 2
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "Traceback" not in result.stderr
    assert "pass no level" in errors[0] and "vheatir/train.py" in errors[0]


@pytest.mark.parametrize("hidden", [{"norm": "post"}, {"img_range": 255.0}])
def test_what_a_weight_file_of_basicsr_cannot_show_is_refused(hidden: dict[str, Any]) -> None:
    importlib.import_module("vheatir.basicsr")
    from basicsr.utils.registry import ARCH_REGISTRY

    build = ARCH_REGISTRY.get("VHeatIR")
    with pytest.raises(VHeatIRError, match=r"do not show .* train with vheatir/train\.py"):
        build(embed_dim=8, depths=[1], **hidden)
    assert type(build(embed_dim=8, depths=[1], norm="pre", img_range=1)) is VHeatIR


FIRST = [
    "import vheatir.basicsr",
    "from vheatir.basicsr_import import import_basicsr; import_basicsr(); import basicsr",
]
# In one process, which forgets both packages in between, as torch and torchvision take seconds.
REGISTER = """
import sys

for first in sys.argv[1:]:
    for name in list(sys.modules):
        if name.partition(".")[0] in ("basicsr", "vheatir"):
            del sys.modules[name]
    sys.modules.pop("torchvision.transforms.functional_tensor", None)
    exec(first)
    import importlib, vheatir.basicsr, basicsr
    importlib.reload(vheatir.basicsr)
    del sys.modules["vheatir.basicsr"]
    import vheatir.basicsr
    from basicsr.utils.registry import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY
    assert "site-packages" in basicsr.__file__, basicsr.__file__
    assert {"VHeatIR", "VHeatIRUNet", "SwinIR"} <= set(ARCH_REGISTRY.keys())
    assert "RestorationDataset" in DATASET_REGISTRY and "RestorationModel" not in MODEL_REGISTRY
    print(first)
"""


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    return run(tmp_path_factory.mktemp("register"), "-c", REGISTER, *FIRST)


@pytest.mark.parametrize("first", FIRST)
def test_registering_is_safe_twice_and_in_any_order(
    first: str, registered: subprocess.CompletedProcess[str]
) -> None:
    assert first in registered.stdout.splitlines(), registered.stderr


def data_set(folder: Path, **changes: Any) -> Any:
    own = importlib.import_module("vheatir.basicsr")
    opt = {"name": "train", "type": "RestorationDataset", "phase": "train", "scale": 1,
           "task": "denoise_color", "level": 25, "dataroot_gt": str(folder / "gt"),
           "gt_size": 16, **changes}  # fmt: skip
    return own.RestorationDataset(opt)


def test_crops_are_drawn_anew_and_whole_images_are_not(pairs: Path) -> None:
    crops = data_set(pairs)
    torch.manual_seed(0)
    first, second = crops[0], crops[0]
    assert first["lq"].shape == first["gt"].shape == (3, 16, 16)
    assert first["lq"].dtype == first["gt"].dtype == torch.float32
    assert not torch.equal(first["lq"], second["lq"])
    torch.manual_seed(0)
    assert torch.equal(crops[0]["lq"], first["lq"])
    assert float((first["lq"] - first["gt"]).std()) == pytest.approx(25 / 255, rel=0.1)

    whole = data_set(pairs, phase="val", task="jpeg_gray", level=20)
    assert len(whole) == 2 and whole[1]["gt_path"] == whole[1]["lq_path"]
    assert whole[0]["gt"].shape == (1, 25, 30)
    assert torch.equal(whole[0]["lq"], whole[0]["lq"])
    assert 0 <= float(whole[0]["gt"].min()) <= float(whole[0]["gt"].max()) <= 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gt_sise": 8}, "unknown option 'gt_sise': did you mean 'gt_size'"),
        ({"task": "denoise"}, "unknown task 'denoise'"),
        ({"level": None}, "level None does not fit task denoise_color: give a number"),
        ({"task": "photo"}, "task photo has no level: leave level out"),
        ({"level": [0, 25, 50]}, "must be one number or a range"),
        ({"level": "25"}, "must be one number or a range"),
        ({"level": [50, 10]}, "level: "),
        ({"level": 300}, "level 300 is out of range"),
        ({"task": "jpeg_color", "level": [0, 95]}, "level 0 is out of range"),
        ({"task": "jpeg_color", "level": 10.5}, "a JPEG quality is a whole number"),
        ({"phase": "val", "level": [0, 55]}, r"level \[0, 55\] does not fit"),
    ],
)
def test_mistakes_in_the_data_set(pairs: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(VHeatIRError, match=message) as caught:
        data_set(pairs, **changes)
    assert "\n" not in str(caught.value)
