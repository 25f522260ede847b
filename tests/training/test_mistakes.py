"""User errors give one line before training starts; the script runs from any folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import helpers
from vheatir.image_io import write_image

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)

ROOT = Path(__file__).resolve().parents[2]


def error(tiny: Any, capfd: pytest.CaptureFixture[str], *force: str) -> str:
    capfd.readouterr()
    assert tiny.run(*force) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert not (tiny.folder / "runs").exists()
    return lines[0]


@pytest.mark.parametrize(
    ("force", "message"),
    [
        (["datasets:train:dataroot_gt=nowhere"], "does not exist"),
        (["datasets:train:dataroot_gt={folder}/empty"], "contains no images"),
        (["datasets:val:dataroot_gt=nowhere"], "does not exist"),
        (["datasets:train:gt_size=46"], "a.png is 55x45 pixels, smaller than the crop of 46"),
        (["datasets:train:gt_size=46", "datasets:train:cache=false"], "smaller than the crop"),
        (
            ["train:stages=[{{until: 0.5, gt_size: 99, batch_size: 1}}]"],
            "smaller than the crop of 99",
        ),
        (
            ["datasets:train:exclude_every=20", "datasets:val:holdout_every=20"],
            "holdout_every 20 selects none",
        ),
        (
            [
                "datasets:train:limit=1",
                "datasets:train:exclude_every=9",
                "datasets:val:holdout_every=9",
            ],
            "5 image(s)",
        ),
        (["datasets:train:io_backend:type=lmdb"], "does not end in .lmdb"),
        (["datasets:train:dataroot_gt={folder}/no.lmdb"], "meta_info.txt is missing"),
        (["path:pretrain_network_g={folder}/gray.pth"], ": [8, 4, 3, 3] in the file, [8,"),
        (["path:pretrain_network_g={folder}/nan.pth"], "infinite or NaN"),
        (["path:pretrain_network_g={folder}/other.pth", "path:strict_load_g=false"], "no weight"),
        (["path:pretrain_network_g=none.safetensors"], "does not exist"),
        (["path:resume_state=none.state"], "does not exist"),
        (["network_g:in_chans=1"], "have 3 channel(s)"),
        (["network_g:type=[VHeatIR]"], "network_g:type"),
        (["task=jpeg_color", "level=12.5"], "a JPEG quality is a whole number"),
        (["task=jpeg_color", "level=10", "datasets:val:level=[12.5]"], "is a whole number"),
        (["datasets:val:dataroot_gt={folder}/small"], "SSIM"),
        (["datasets:train:exclude_every=2"], "val:holdout_every to 2"),
        (["datasets:val:holdout_every=2"], "set train:exclude_every and val:holdout_every to 2"),
        (
            ["datasets:val_2={{dataroot_gt: {folder}/clean, name: val}}"],
            "two validation sets have the same name",
        ),
        (["device=mps"], "is not available here"),
        (["logger:wandb={{project: p}}"], "use_tb_logger=true"),
        (["train:compile=fast"], "reduce-overhead"),
    ],
)
def test_one_line_before_training(
    tiny: Any, capfd: pytest.CaptureFixture[str], force: list[str], message: str
) -> None:
    from vheatir.archs import build_network

    if "device=mps" in force and torch.backends.mps.is_available():
        pytest.skip("this machine has MPS")
    (tiny.folder / "empty").mkdir()
    (tiny.folder / "no.lmdb").mkdir()
    write_image(tiny.folder / "small" / "a.png", np.zeros((9, 40, 3), np.uint8))
    config = {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "downscale": 2}
    gray = build_network({**config, "in_chans": 1, "out_chans": 1}).state_dict()
    torch.save({"params": gray}, tiny.folder / "gray.pth")
    like = build_network({**config, "level_scale": 255.0}).state_dict()
    wrong = {name: torch.full_like(value, torch.nan) for name, value in like.items()}
    torch.save({"params": wrong}, tiny.folder / "nan.pth")
    torch.save({"params": {"elsewhere": torch.zeros(2)}}, tiny.folder / "other.pth")
    if "resume_state" in force[0]:
        # detected after the folders are created
        assert tiny.run(force[0]) == 2
        assert message in capfd.readouterr().err
        return
    line = error(tiny, capfd, *(part.format(folder=tiny.folder) for part in force))
    assert message in line, line


def test_a_missing_wandb_is_reported(tiny: Any, capfd: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    force = ("logger:use_tb_logger=true", "logger:wandb={project: p}")
    assert "pip install wandb" in error(tiny, capfd, *force)


def test_jpeg_on_the_device_falls_back_to_the_loader_with_a_message(
    tiny: Any, log_lines: list[str]
) -> None:
    force = ("task=jpeg_color", "level=40", "datasets:val=null", "train:data_on_device=true")
    assert tiny.run(*force, "train:total_iter=2") == 0
    assert any("data_on_device is for noise" in line for line in log_lines)


def test_insufficient_memory_is_one_line(
    tiny: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vheatir.training.model import RestorationModel

    def allocate(*_: object, **__: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(RestorationModel, "accumulate_gradients", allocate)
    assert tiny.run() == 2
    said = capfd.readouterr().err
    assert "not enough memory after iteration 0: lower datasets:train:batch_size_per_gpu" in said
    assert "Traceback" not in said and said.count("error: ") == 1


def test_a_loss_that_is_not_finite_stops_the_run(tiny: Any, capfd: Any) -> None:
    force = ("train:optim_g:lr=1e30", "train:grad_clip=null", "train:total_iter=30",
             "train:warmup_iter=0", "datasets:val=null")  # fmt: skip
    assert tiny.run(*force, "logger:print_freq=10", "logger:save_checkpoint_freq=100") == 2
    message = capfd.readouterr().err
    assert "error: the loss is" in message and "lower train:optim_g:lr" in message
    iteration = int(message.split("at iteration ")[1].split(":")[0])
    assert 1 < iteration < 10  # the iteration itself, not that of the progress line
    # and nothing non-finite is saved, even if the loss is not checked
    shutil.rmtree(tiny.folder / "runs")
    assert tiny.run(*force, "logger:print_freq=100", "logger:save_checkpoint_freq=1") == 2
    for path in (tiny.experiment() / "training_states").glob("*.state"):
        weights = tiny.state(int(path.stem))["model"]["network"]
        assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("copy", [False, True], ids=["checkout", "mere copy"])
def test_script_runs_from_another_folder(tiny: Any, copy: bool) -> None:
    script = ROOT / "vheatir" / "train.py"
    if copy:
        for name in ("vheatir", "options", "pyproject.toml"):
            ignore = shutil.ignore_patterns("__pycache__", "*.safetensors")
            source, target = ROOT / name, tiny.folder / "copy" / name
            (shutil.copytree(source, target, ignore=ignore) if source.is_dir()
             else shutil.copy(source, target))  # fmt: skip
        script = tiny.folder / "copy" / "vheatir" / "train.py"
        for shadow in ("vheatir/json.py", "vheatir/rich.py", "datasets/x.py"):
            (tiny.folder / "copy" / shadow).parent.mkdir(exist_ok=True)
            (tiny.folder / "copy" / shadow).write_text("raise RuntimeError('shadowed')")
    arguments = ["-opt", "tiny.yml", "--force_yml", "datasets:val=null",
                 "path:experiments_root=relative", "train:total_iter=2",
                 "datasets:train:num_worker_per_gpu=1"]  # fmt: skip
    if not copy:
        arguments[4] = f"path:experiments_root={tiny.folder / 'relative'}"
    environment = {k: v for k, v in helpers.ENVIRONMENT.items() if k != "PYTHONPATH"}
    result = subprocess.run(
        [sys.executable, str(script), *arguments], cwd=tiny.folder, env=environment,
        capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    # a relative folder is in the project, whatever the working directory
    home = tiny.folder / "copy" / "relative" if copy else tiny.folder / "relative"
    assert (home / "tiny" / "models" / "tiny.safetensors").is_file()


def test_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vheatir._paths import checkout_root
    from vheatir.training.paths import resolve_output, resolve_path

    monkeypatch.chdir(tmp_path)
    root = checkout_root()
    if root is None:
        pytest.skip("an installed package has no repository")
    assert resolve_path("options/quickstart.yml") == root / "options" / "quickstart.yml"
    assert resolve_path("mine") == tmp_path / "mine"
    assert resolve_output("runs") == root / "runs"
    assert resolve_output("/elsewhere") == Path(os.path.abspath("/elsewhere"))


def test_damaged_image_is_named(tiny: Any, capfd: pytest.CaptureFixture[str]) -> None:
    (tiny.folder / "clean" / "x.png").write_bytes(b"no image")
    for workers in (0, 1):
        said = error(tiny, capfd, f"datasets:train:num_worker_per_gpu={workers}")
        assert "x.png' cannot be read as an image" in said
        assert "Traceback" not in said and said.count("error: ") == 1
    (tiny.folder / "clean" / "x.png").rename(tiny.folder / "clean" / "x.ppm")
    (tiny.folder / "clean" / "x.ppm").write_bytes(b"P6\n")
    said = error(tiny, capfd, "datasets:train:cache=false")
    assert "x.ppm' cannot be read as an image" in said and "Traceback" not in said
    (tiny.folder / "clean" / "x.ppm").unlink()
    write_image(tiny.folder / "clean" / "x.png", np.zeros((45, 55), np.uint8))
    assert tiny.run("train:total_iter=1") == 0  # a gray image among colour images
