"""The study of networks: its blocks, option files, widths and report."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from studies.networks import report, widths
from studies.networks.nafnet import NAFBlock, NAFUNet
from vheatir.archs import ARCHS, VHeatIRUNet, build_network
from vheatir.errors import VHeatIRError
from vheatir.train import main as train
from vheatir.training.options import load_options
from vheatir.weights import load_weights

needs_basicsr = pytest.mark.skipif(
    importlib.util.find_spec("basicsr") is None, reason="basicsr is not installed"
)
# widths.py sets the number of threads to one
pytestmark = pytest.mark.usefixtures("restored_threads")
GRAY = {"in_chans": 1, "out_chans": 1, "level_scale": 255.0}


def test_a_block_is_that_of_the_paper() -> None:
    torch.manual_seed(0)
    block = NAFBlock(4).double()
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    assert torch.equal(block(x), x)  # beta and gamma begin at zero
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    w = {name: value.detach().numpy() for name, value in block.named_parameters()}

    def normalise(z: np.ndarray, name: str) -> np.ndarray:
        mean, variance = z.mean(1, keepdims=True), z.var(1, keepdims=True)
        scale = w[f"{name}.weight"][:, None, None]
        return (z - mean) / np.sqrt(variance + 1e-5) * scale + w[f"{name}.bias"][:, None, None]

    def pointwise(z: np.ndarray, name: str) -> np.ndarray:
        mixed = np.einsum("oc,bchw->bohw", w[f"{name}.weight"][:, :, 0, 0], z)
        return mixed + w[f"{name}.bias"][:, None, None]

    def depthwise(z: np.ndarray) -> np.ndarray:
        padded = np.pad(z, ((0, 0), (0, 0), (1, 1), (1, 1)))
        kernels, out = w["depthwise.weight"][:, 0], np.zeros_like(z)
        for row in range(3):
            for column in range(3):
                part = padded[:, :, row : row + z.shape[2], column : column + z.shape[3]]
                out += kernels[:, row, column, None, None] * part
        return out + w["depthwise.bias"][:, None, None]

    def gate(z: np.ndarray) -> np.ndarray:
        return z[:, : z.shape[1] // 2] * z[:, z.shape[1] // 2 :]

    y = x.numpy()
    z = gate(depthwise(pointwise(normalise(y, "norm1"), "widen")))
    z = z * pointwise(z.mean((2, 3), keepdims=True), "attention")
    y = y + w["beta"] * pointwise(z, "mix")
    y = y + w["gamma"] * pointwise(gate(pointwise(normalise(y, "norm2"), "hidden")), "out")
    np.testing.assert_allclose(block(x).detach().numpy(), y, rtol=1e-9)


def test_the_u_with_its_blocks_takes_any_size() -> None:
    config = {"type": "NAFUNet", "channels": [8, 8, 8], **GRAY}
    network = build_network(config)
    assert sum(isinstance(part, NAFBlock) for part in network.modules()) == 10
    x = torch.rand(1, 1, 19, 26)
    assert torch.equal(network(x, 25.0), x)  # starts as the identity, as all networks do


def test_the_option_files_differ_in_the_network_alone() -> None:
    assert widths.FILES.keys() == report.LABELS.keys()
    files = {name: load_options(path) for name, path in widths.FILES.items()}
    present = files[report.PRESENT].dump()
    for name, options in files.items():
        assert options.name == name
        assert f"-opt studies/networks/{name}.yml" in widths.FILES[name].read_text()
        dumped = options.dump()
        changed = {key for key in dumped if dumped[key] != present[key]}
        assert changed <= {"name", "imports", "network_g"}
        network = build_network(options.network_g.config())
        x = torch.rand(1, 1, 16, 24)
        assert network(x, 15.0).shape == x.shape
    size = VHeatIRUNet.SIZES["small"]
    config = files[report.PRESENT].network_g.config()
    assert {key: config[key] for key in size} == size
    assert files["study_heat"].network_g.kwargs["mixers"] == ["conv", "hco", "hco"]
    assert len(files["study_scales"].network_g.kwargs["channels"]) == 4


@needs_basicsr
def test_a_plugin_trains_and_its_weights_load(tmp_path: Path) -> None:
    force = [
        "train:total_iter=2", "train:stages=null", "datasets:train:gt_size=16",
        "datasets:train:batch_size_per_gpu=1", "datasets:train:dataroot_gt=bundled",
        "datasets:train:exclude=[]", "datasets:val=null", "device=cpu",
        "network_g:channels=[8, 8, 8]", f"path:experiments_root={tmp_path}",
    ]  # fmt: skip
    file = widths.FILES["study_nafnet"]
    assert train(["-opt", str(file), "--force_yml", *force]) == 0
    weights = tmp_path / "study_nafnet" / "models" / "study_nafnet.safetensors"
    assert type(load_weights(weights).network).__name__ == NAFUNet.__name__
    assert load_weights(weights).info["training"]["pixels"] == 2 * 16 * 16
    assert "NAFUNet" in ARCHS


def test_the_largest_width_of_equal_time_is_taken() -> None:
    assert widths.equal_width({40: 0.5, 48: 0.9, 56: 1.2, 64: 1.04, 72: 1.3}) == 64
    assert widths.equal_width({40: 1.5, 48: 1.9}) == 40


def test_widths_are_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--side", "16", "--rounds", "1", "--widths", "8", "16"]
    assert widths.main([*arguments, "--out", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "widths.json").read_text())["networks"]
    assert rows.keys() == widths.FILES.keys()
    assert rows["study_present"]["channels"] == [64, 64, 64]
    for row in rows.values():
        assert row["seconds"] > 0 and row["ratio"] > 0 and row["macs"] > 0
    assert set(rows["study_nafnet"]["channels"]) <= {8, 16}
    assert "study_scales" in capsys.readouterr().out


def history(folder: Path, name: str, psnr: float, iterations: int = 20) -> None:
    scores: list[list[Any]] = [
        [at, 1.0, {f"validation {s}": {"psnr": psnr + at / 100 - s / 10} for s in (15, 50)}]
        for at in range(10, iterations + 1, 10)
    ]
    work = [[at, 360.0 * at, 10**8 * at] for at, _, _ in scores]
    file = folder / name / "results" / "history.json"
    file.parent.mkdir(parents=True)
    file.write_text(json.dumps({"losses": [], "scores": scores, "work": work}))


def test_the_report_takes_what_is_there_and_decides(tmp_path: Path) -> None:
    with pytest.raises(VHeatIRError, match="no run of the study"):
        report.read_runs(tmp_path)
    history(tmp_path, "study_present", 33.0)
    history(tmp_path, "study_heat", 33.05)
    history(tmp_path, "study_nafnet", 32.9)
    arguments = ["--runs", str(tmp_path), "--out", str(tmp_path / "out")]
    assert report.main(arguments) == 0
    text = (tmp_path / "out" / "table.md").read_text()
    assert "| present U `small` | 20 | 2.00 | 2.00 | 31.700 | 28.200 | 29.950 |  |" in text
    assert "| heat at two scales | 20 | 2.00 | 2.00 | 31.750 | 28.250 | 30.000 | +0.050 |" in text
    assert "Undecided: four scales not trained yet." in text
    assert (tmp_path / "out" / "curves.png").stat().st_size > 1000

    history(tmp_path, "study_scales", 33.2, iterations=10)
    assert "different lengths" in report.markdown(report.read_runs(tmp_path))
    (tmp_path / "study_scales").rename(tmp_path / "before")
    history(tmp_path, "study_scales", 33.2)
    runs = report.read_runs(tmp_path)
    assert report.decision(runs) == (
        "The best, four scales, is 0.200 dB ahead and replaces the present network."
    )
    runs["study_scales"][-1]["psnr"] = 0.0
    assert "0.050 dB ahead and (less than 0.1 dB) does not replace" in report.decision(runs)
    runs["study_heat"][-1]["psnr"] = 0.0
    assert report.decision(runs) == "The present network is the best."


def test_processor_hours_may_be_measured_here(tmp_path: Path) -> None:
    measured = report.seconds_per_gigapixel(1, "float32", side=16, batch=1)
    assert measured.keys() == report.LABELS.keys() and min(measured.values()) > 0
    history(tmp_path, "study_present", 33.0)  # 1 and 2 gigapixels
    (points,) = report.read_runs(tmp_path, {"study_present": 7200.0}).values()
    assert [point["hours"] for point in points] == [2.0, 4.0]
