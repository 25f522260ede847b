"""The training comparison with SwinIR: equal shapes, and a tiny complete run, twice."""

from __future__ import annotations

import importlib.util
import json
import sys
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


def test_a_comparison_is_made_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(against_swinir, "CROP", 32)
    rng = np.random.default_rng(0)
    for index in range(20):  # the twentieth is for validation
        image = rng.integers(0, 256, (40, 40, 3), np.uint8)
        write_image(tmp_path / "photographs" / f"{index}.png", image)
    out = tmp_path / "out"
    arguments = [
        "--iterations", "2", "--validations", "2", "--crop", "16", "--batch", "1", "--device",
        "cpu", "--data", str(tmp_path / "photographs"), "--test-set",
        str(tmp_path / "photographs"), "--out", str(out),
    ]  # fmt: skip
    assert against_swinir.main(arguments) == 0
    content = json.loads((out / "against_swinir.json").read_text())
    for method in against_swinir.NAMES:
        points = content["curves"][method]
        assert [point["iteration"] for point in points] == [1, 2]
        assert all(point["validation"] > 5 and point["seconds"] > 0 for point in points)
        assert set(content["crops"]["coffee"]) == {"degraded", *against_swinir.NAMES}
    assert (out / "curves.png").stat().st_size > 1000
    files = {file: file.stat().st_mtime_ns for file in out.rglob("*.safetensors")}
    assert against_swinir.main(arguments) == 0
    assert {file: file.stat().st_mtime_ns for file in files} == files and len(files) >= 2
    assert against_swinir.main([*arguments, "--batch", "2"]) == 2
    assert "trainings with other settings" in capsys.readouterr().err
    assert "SwinIR" in sys.modules["vheatir.archs"].ARCHS
