"""The training comparison with SwinIR: equal shapes, tiny complete runs, an interrupted one."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("basicsr is not installed", allow_module_level=True)

from benchmarks import against_swinir
from benchmarks.swinir import SwinIR
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image
from vheatir.tasks import get_task
from vheatir.train import main as train_main


@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (7, 30), (16, 16)], ids=str)
def test_swinir_takes_any_size(size: tuple[int, int], downscale: int) -> None:
    network = SwinIR(3, embed_dim=8, depths=[1], heads=2, downscale=downscale)
    assert network(torch.rand(1, 3, *size)).shape == (1, 3, *size)
    with pytest.raises(VHeatIRError, match="omit out_chans"):
        SwinIR(3, out_chans=1, embed_dim=8, depths=[1], heads=2)


def test_without_padding_it_is_the_published_network() -> None:
    torch.manual_seed(0)
    network = SwinIR(1, embed_dim=8, depths=[2], heads=2).eval()
    x = torch.rand(2, 1, 24, 16)
    torch.testing.assert_close(network(x), network.body(x))


def test_both_networks_have_the_same_shape() -> None:
    for size in ("base", "light", "mini"):
        both = against_swinir.networks(size, get_task("denoise_color"))
        ours, theirs = both["vheatir"], both["swinir"]
        for key in ("embed_dim", "depths", "mlp_ratio", "in_chans"):
            assert ours[key] == theirs[key]
        assert ours.get("downscale") == theirs.get("downscale")


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    rng = np.random.default_rng(0)
    for index in range(20):  # the twentieth is for validation
        image = rng.integers(0, 256, (40, 40, 3), np.uint8)
        write_image(tmp_path / "photographs" / f"{index}.png", image)
    return [
        "--iterations", "2", "--validations", "2", "--crop", "16", "--batch", "1", "--device",
        "cpu", "--data", str(tmp_path / "photographs"), "--out", str(tmp_path / "out"),
    ]  # fmt: skip


def test_a_comparison_is_made_once(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(against_swinir, "CROP", 32)
    out = tmp_path / "out"
    shutil.copytree(tmp_path / "photographs", tmp_path / "test")
    arguments += ["--test-set", str(tmp_path / "test")]
    assert against_swinir.main(arguments) == 0
    content = json.loads((out / "against_swinir.json").read_text())
    for method in against_swinir.NAMES:
        points = content["curves"][method]
        assert [point["iteration"] for point in points] == [1, 2]
        assert all(point["validation"] > 5 and point["seconds"] > 0 for point in points)
        assert points[1]["processor_seconds"] > points[0]["processor_seconds"] > 0
        assert set(content["crops"]["coffee"]) == {"degraded", *against_swinir.NAMES}
    assert (out / "curves.png").stat().st_size > 1000
    files = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    assert against_swinir.main(arguments) == 0
    assert {file: file.stat().st_mtime_ns for file in files} == files and len(files) >= 2
    assert against_swinir.main([*arguments, "--batch", "2"]) == 2
    assert "trainings with other settings" in capsys.readouterr().err
    assert "SwinIR" in sys.modules["vheatir.archs"].ARCHS


def test_each_network_alone_interrupted_and_reported(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(against_swinir, "CROP", 32)
    out = tmp_path / "out"
    assert against_swinir.main(["vheatir", *arguments]) == 0
    assert against_swinir.main(["report", *arguments]) == 2
    assert "no validation of swinir yet" in capsys.readouterr().err

    root = Path(__file__).resolve().parents[2]
    long = [*arguments, "--iterations", "60", "--validations", "20"]
    script = [sys.executable, str(root / "benchmarks" / "against_swinir.py"), "swinir"]
    process = subprocess.Popen(
        [*script, *long, "--out", str(tmp_path / "long")],
        env={**os.environ, "PYTHONPATH": str(root)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    state = tmp_path / "long" / "runs" / "swinir" / "training_states" / "12.state"
    while not state.is_file() and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 143
    history = state.parents[1] / "results" / "history.json"
    before = json.loads(history.read_text())
    assert 12 <= before["work"][-1][0] < 60

    # unfinished trainings are reported too, here of networks trained for different times
    (tmp_path / "long" / "runs" / "vheatir").symlink_to(out / "runs" / "vheatir")
    assert against_swinir.main(["report", *long, "--out", str(tmp_path / "long")]) == 0
    curve = json.loads((tmp_path / "long" / "against_swinir.json").read_text())["curves"]["swinir"]
    assert [point["processor_seconds"] for point in curve] == [w[1] for w in before["work"]]

    # with the processor time measured now, which is proportional to the iterations
    measured = ["report", *long, "--out", str(tmp_path / "long"), "--measure", "--rounds", "1"]
    assert against_swinir.main(measured) == 0
    curve = json.loads((tmp_path / "long" / "against_swinir.json").read_text())["curves"]["swinir"]
    paces = [point["processor_seconds"] / point["iteration"] for point in curve]
    assert paces == pytest.approx([paces[0]] * len(paces)) and paces[0] > 0

    # resumed, the curve goes on where it was
    more = before["work"][-1][0] + 6
    options = tmp_path / "long" / "options" / "swinir.yml"
    force = ["--force_yml", f"train:total_iter={more}"]
    assert train_main(["-opt", str(options), "--auto_resume", *force]) == 0
    after = json.loads(history.read_text())
    assert after["work"][:-2] == before["work"] and after["work"][-1][0] == more
    seconds = [work[1] for work in after["work"]]
    assert seconds == sorted(seconds)

    del after["work"]  # as an earlier release wrote it
    history.write_text(json.dumps(after))
    assert against_swinir.main(["report", *long, "--out", str(tmp_path / "long")]) == 2
    assert "began with an earlier release" in capsys.readouterr().err


def test_a_comparison_in_words() -> None:
    def curve(*psnrs: float, pace: float) -> list[dict[str, float]]:
        return [
            {"iteration": 10 * i, "seconds": pace * i, "validation": psnr}
            for i, psnr in enumerate(psnrs, 1)
        ]

    found = {"vheatir": curve(30, 32, 33, pace=10), "swinir": curve(29, 31, pace=30)}
    assert against_swinir.comparison(found, "seconds") == [
        "After 20 iterations: vHeatIR 32.00 dB, SwinIR 31.00 dB, difference +1.00 dB.",
        "After 30 seconds: vHeatIR 33.00 dB, SwinIR 29.00 dB, difference +4.00 dB.",
        "vHeatIR reached SwinIR's last 31.00 dB (after 20 iterations and 60 seconds) by the "
        "validation after 20 iterations and 20 seconds.",
    ]
    table = against_swinir.markdown(found, "seconds", ["A line."]).splitlines()
    assert table[4] == "| 30 | 30 | 33.00 |  |  |" and table[-1] == "A line."
