"""Train for an iteration with each option file, on a tiny crop."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest

from vheatir.tasks import get_task
from vheatir.train import main
from vheatir.training.options import load_options
from vheatir.weights import load_weights

# find_spec instead of import: BasicSR imports only after vheatir has patched it
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("basicsr") is None, reason="training needs basicsr"
)

OPTIONS = Path(__file__).resolve().parents[2] / "options"
EARLIER_NAMES = ("_fast", "_light", "_base")  # tests/test_renamed.py
EVERY_FILE = sorted(
    path
    for path in (*OPTIONS.glob("*.yml"), *(OPTIONS / "all_levels").glob("*.yml"))
    if not path.stem.endswith(EARLIER_NAMES)
)
SMALL = [
    "train:total_iter=1",
    "train:stages=null",
    "datasets:train:gt_size=16",
    "datasets:train:batch_size_per_gpu=1",
    "datasets:train:num_worker_per_gpu=0",
    # no data sets (bundled photographs instead, below), and no weights of other runs
    "datasets:train:exclude=[]",
    "datasets:val=null",
    "path:pretrain_network_g=null",
    "logger:use_tb_logger=false",
    "device=cpu",
]


@pytest.mark.parametrize("path", EVERY_FILE, ids=lambda path: path.stem)
def test_an_iteration(path: Path, tmp_path: Path) -> None:
    force = [*SMALL, f"path:experiments_root={tmp_path}"]
    options = load_options(path)
    # Nothing below depends on the width: files at full width would take gigabytes.
    network = options.network_g.kwargs
    narrow = (
        "embed_dim=8" if "embed_dim" in network else f"channels={[8] * len(network['channels'])}"
    )
    force.append(f"network_g:{narrow}")
    for key in options.datasets.train_sets:  # rendered graphics: not in a clone either
        force.append(f"datasets:{key}:dataroot_gt=bundled")
    assert main(["-opt", str(path), "--force_yml", *force]) == 0

    model = load_weights(tmp_path / options.name / "models" / f"{options.name}.safetensors")
    assert type(model.network).__name__ == options.network_g.type
    assert model.network.in_chans == get_task(options.task).channels
    assert model.info["task"] == options.task
    assert model.info["training"]["iterations"] == 1
    shutil.rmtree(tmp_path / options.name)  # hundreds of megabytes
