"""Scripts import the real packages, not the files in vheatir/ that share their names."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from vheatir.archs import build_network
from vheatir.image_io import write_image
from vheatir.weights import save_weights

ROOT = Path(__file__).resolve().parents[1]

# Imported by the scripts in each process; data loader workers are spawned, as on macOS.
SPY = """
import importlib.util
import os
import types
from pathlib import Path

import torch.multiprocessing


def look(where):
    found = {}
    for name in ("basicsr", "spandrel", "test", "zoo", "weights", "archs"):
        spec = importlib.util.find_spec(name)
        found[name] = None if spec is None else spec.origin
    Path(os.environ["REPORTS"], f"{where}_{os.getpid()}").write_text(repr(found))


def init_worker(number):
    look("worker")


look("script")
if os.environ.get("RANK"):
    from vheatir.training import feed

    torch.multiprocessing.set_start_method("spawn", force=True)
    feed.sys = types.SimpleNamespace(platform="darwin")
    feed.init_worker = init_worker
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    if importlib.util.find_spec("basicsr") is None:
        pytest.skip("needs basicsr")
    rng = np.random.default_rng(0)
    for name in "abcd":
        write_image(
            tmp_path / "clean" / f"{name}.png", rng.integers(256, size=(20, 20, 3), dtype=np.uint8)
        )
    (tmp_path / "spy.py").write_text(SPY)
    (tmp_path / "reports").mkdir()
    return tmp_path


def run(folder: Path, *command: object) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(folder),
                    "REPORTS": str(folder / "reports")}  # fmt: skip
    # the working directory is the worst one
    result = subprocess.run(
        [sys.executable, *map(str, command)], cwd=ROOT / "vheatir", env=environment,
        capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr


def check(folder: Path, **expected: int) -> None:
    counts = dict.fromkeys(expected, 0)
    for report in (folder / "reports").iterdir():
        counts[report.name.split("_")[0]] += 1
        found = yaml.safe_load(report.read_text().replace("None", "null"))
        assert "site-packages" in found["basicsr"], report.name
        assert found["test"].endswith(os.path.join("test", "__init__.py"))
        assert str(ROOT) not in found["test"]
        assert str(ROOT) not in str(found["spandrel"])  # None if it is not installed
        assert [found[name] for name in ("zoo", "weights", "archs")] == [None] * 3
    assert counts == expected


def test_torchrun_with_spawned_workers(folder: Path) -> None:
    options = {
        "name": "tiny", "task": "denoise_color", "level": 25, "device": "cpu", "imports": ["spy"],
        "network_g": {"type": "VHeatIR", "embed_dim": 8, "depths": [1]},
        "datasets": {"train": {
            "dataroot_gt": str(folder / "clean"), "gt_size": 16, "batch_size_per_gpu": 1,
            "num_worker_per_gpu": 1,
        }},
        "path": {"experiments_root": str(folder / "runs")},
        "train": {"total_iter": 2}, "logger": {"use_tb_logger": False},
    }  # fmt: skip
    (folder / "tiny.yml").write_text(yaml.safe_dump(options))
    run(folder, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
        ROOT / "vheatir" / "train.py", "-opt", folder / "tiny.yml",
        "--launcher", "pytorch")  # fmt: skip
    check(folder, script=4, worker=2)  # the workers import spy too


@pytest.fixture
def weights(folder: Path) -> Path:
    torch.manual_seed(0)
    network = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [1]})
    info = {"task": "denoise_color", "level": 25, "name": "tiny"}
    return save_weights(folder / "tiny.safetensors", network, info)


def test_the_test_script(folder: Path, weights: Path) -> None:
    run(folder, "test.py", "--weights", weights, "--data", folder / "clean", "--limit", "1",
        "--out", folder / "results", "--import", "spy", "--device", "cpu")  # fmt: skip
    check(folder, script=1)


def test_the_restore_script(folder: Path, weights: Path) -> None:
    run(folder, "restore.py", folder / "clean", "-o", folder / "restored", "--model", weights,
        "--import", "spy", "--device", "cpu")  # fmt: skip
    check(folder, script=1)
    assert len(list((folder / "restored").iterdir())) == 4
