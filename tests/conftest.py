"""Every test leaves the process as it found it, so that order does not matter."""

from __future__ import annotations

import gc
import hashlib
import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

from vheatir import zoo
from vheatir.archs import ARCHS, FOREIGN, build_network
from vheatir.weights import save_weights

# Set by libraries on first use.
LIBRARIES = ("TORCHINDUCTOR_", "_TORCH", "TRITON_", "KMP_", "GRADIO_", "MPL")


# Looking for garbage as often as by default takes several percent of the time.
gc.set_threshold(10_000, 20, 20)

# Files that take long, begun first so that no process is left with one at the end. Neighbours share
# a demo server or a process that forks trainings, if they are run by the same process.
LONGEST = (
    "inference/test_auto.py",
    "training/test_every_option_file_trains.py",
    "training/test_reproduces_curves.py",
    "demo/test_page.py",
    "demo/test_tabs.py",
    "reliability/test_processes.py",
    "demo/test_heif_uploads.py",
    "demo/test_main.py",
    "reliability/test_kills.py",
    "reliability/test_exact_resume.py",
    "training/test_mistakes.py",
    "test_shadowing.py",
    "demo/test_panel.py",
    "reliability/test_demo_load.py",
    "training/test_model.py",
    "test_basicsr.py",
    "benchmarks/test_compare.py",
    "training/test_pairs.py",
    "export/test_graph.py",
)


def pytest_configure(config: pytest.Config) -> None:
    """Let pytest-xdist keep the order of files; it would begin with those of most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first."""
    here = Path(__file__).parent
    place = {here / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(LONGEST)))


def process_state() -> dict[str, Any]:
    """Return what changes results or later tests when a test leaves it changed."""
    return {
        "threads of torch": torch.get_num_threads(),
        "threads of OpenCV": cv2.getNumThreads(),
        "default dtype": torch.get_default_dtype(),
        "gradient mode": torch.is_grad_enabled(),
        "float32 matmul precision": torch.get_float32_matmul_precision(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "oneDNN": torch.backends.mkldnn.enabled,
        "cuDNN benchmark": torch.backends.cudnn.benchmark,
        "flush denormals": torch.tensor(1e-40).item() * 1.0 == 0.0,
        "working directory": os.getcwd(),
        **{
            f"${name}": value
            for name, value in os.environ.items()
            if not name.startswith(("PYTEST_CURRENT_TEST", *LIBRARIES))
        },
    }


@pytest.fixture
def restored_threads() -> Iterator[None]:
    """Let a test change the number of threads of torch; restore it afterwards."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


MINI = ("denoise_color_s15_mini", "denoise_gray_s15_mini")


@pytest.fixture
def zoo_with_mini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Add tiny networks of the paper's kind, for one level, to the zoo, at its beginning.

    They take the place of the released ones.

    Returns:
        The folder of this zoo.
    """
    folder = tmp_path / "zoo"
    folder.mkdir()
    others = [entry for entry in zoo.list_models() if not entry.is_flat]
    for entry in others:
        (folder / entry.path.name).symlink_to(entry.path)
    entries = [vars(entry) for entry in others]
    for name in MINI:
        task = name.removesuffix("_s15_mini")
        network = build_network(
            {"type": "VHeatIR", "in_chans": 3 if "color" in task else 1, "embed_dim": 8,
             "depths": [1], "downscale": 2}
        )  # fmt: skip
        info = {"name": name, "task": task, "level": 15.0, "training": {}}
        path = save_weights(folder / f"{name}.safetensors", network, info)
        entry = zoo.ModelEntry(
            name=name, task=task, network="VHeatIR", level=15.0,
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            params=sum(p.numel() for p in network.parameters()),
            commercial_use=True, licence=zoo.CLEAN_LICENCE,
        )  # fmt: skip
        entries.insert(0, vars(entry))
    (folder / "registry.json").write_text(json.dumps(entries), encoding="utf-8")
    monkeypatch.setattr(zoo, "FOLDER", folder)
    monkeypatch.setattr(zoo, "REGISTRY", folder / "registry.json")
    return folder


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Return whether this is ``pytest -m reliability`` rather than the default run."""
    return "reliability" in pytestconfig.option.markexpr.replace("not reliability", "")


@pytest.fixture(autouse=True)
def process_is_left_as_it_was() -> Iterator[None]:
    torch.manual_seed(0)  # the same numbers in whatever order tests run
    log = logging.getLogger("vheatir")  # a training sets it up for the rest of the process
    handlers, level, propagate = log.handlers[:], log.level, log.propagate
    before = process_state()
    yield
    log.handlers[:], log.propagate = handlers, propagate
    log.setLevel(level)
    after = process_state()
    changed = {
        key: (before.get(key), after.get(key))
        for key in before | after
        if before.get(key) != after.get(key)
    }
    assert not changed, f"left behind, before and after: {changed}"


@pytest.fixture
def only_own_networks() -> Iterator[None]:
    """Begin with the package's networks alone; other tests, and option files, add more."""
    known, foreign = dict(ARCHS), set(FOREIGN)
    for name in set(ARCHS) - {"VHeatIR", "VHeatIRUNet"}:
        del ARCHS[name]
    FOREIGN.clear()
    yield
    for registry, content in ((ARCHS, known), (FOREIGN, foreign)):
        registry.clear()
        registry.update(content)
