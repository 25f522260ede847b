"""Models and baselines as methods of a benchmark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from vheatir.archs import build_network
from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import benchmark_noise
from vheatir.errors import VHeatIRError
from vheatir.evaluation.methods import (
    bm3d_method,
    model_method,
    network_restorer,
    nlm_method,
    tell_apart,
)
from vheatir.metrics import psnr, to_uint8
from vheatir.tasks import get_task
from vheatir.weights import load_weights, save_weights


def save_tiny(path: Path, task: str, level, **info) -> Path:
    """Save a small network with random weights that visibly changes its input."""
    channels = get_task(task).channels
    torch.manual_seed(0)
    network = build_network({
        "type": "VHeatIR", "in_chans": channels, "out_chans": channels, "embed_dim": 8,
        "depths": [1], "level_scale": 255.0 if isinstance(level, list) else None,
    })  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return save_weights(path, network, {"task": task, "level": level, **info})


@pytest.mark.parametrize(("task", "level"), [("denoise_color", 15), ("denoise_gray", [0, 55])])
def test_model_method_runs_its_network(tmp_path: Path, task: str, level) -> None:
    model = load_weights(save_tiny(tmp_path / "a.safetensors", task, level, name="tiny"))
    method = model_method(model)
    assert (method.name, method.task) == ("tiny", task)
    assert method.params == sum(p.numel() for p in model.network.parameters())
    assert method.covers(15) and not method.covers(60)
    assert method.covers(25) == isinstance(level, list)
    shape = (21, 34, 3)[: 3 if task == "denoise_color" else 2]
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    x = torch.from_numpy(np.atleast_3d(image).transpose(2, 0, 1).copy())[None]
    with torch.no_grad():
        y = model.network(x, 15.0 if isinstance(level, list) else None)
    expected = y[0].numpy().transpose(1, 2, 0).reshape(shape)
    np.testing.assert_allclose(method.restore(image, 15), expected, atol=1e-6)
    assert np.abs(expected - image).max() > 1e-3

    ensemble = model_method(model, self_ensemble=True)
    assert ensemble.name == "tiny, self-ensemble"
    turned = ensemble.restore(np.rot90(image), 15)
    np.testing.assert_allclose(turned, np.rot90(ensemble.restore(image, 15)), atol=1e-5)


@pytest.mark.parametrize(
    ("info", "message"),
    [
        ({"level": 15}, "which task"),
        ({"task": "denoise_gray"}, "which level"),
        ({"task": "denoise_grey", "level": 15}, "did you mean 'denoise_gray'"),
        ({"task": "denoise_color", "level": 15}, "1 channels"),
    ],
)
def test_files_that_do_not_fit_are_refused(tmp_path: Path, info, message: str) -> None:
    path = tmp_path / "x.safetensors"
    network = build_network(
        {"type": "VHeatIR", "in_chans": 1, "out_chans": 1, "embed_dim": 8, "depths": [1]}
    )
    save_weights(path, network, info)
    with pytest.raises(VHeatIRError, match=message):
        model_method(load_weights(path))


def test_tiles_smaller_than_the_usual_overlap() -> None:
    shape = {"channels": [8], "depths": [1], "mixers": ["conv"]}
    network = build_network({"type": "VHeatIRUNet", **shape}).eval()
    image = np.zeros((24, 40, 3), np.float32)
    assert network_restorer(network, 16)(image, None).shape == image.shape


def test_models_of_one_name_are_told_apart(tmp_path: Path) -> None:
    paths = [save_tiny(tmp_path / f"{c}.safetensors", "denoise_gray", 15, name="n") for c in "ab"]
    methods = tell_apart([(model_method(load_weights(path)), path) for path in paths])
    assert [method.name for method in methods] == [f"n ({path})" for path in paths]
    assert [m.name for m in tell_apart([(methods[0], "x")])] == [methods[0].name]


def test_a_model_without_a_level(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = build_network({
        "type": "VHeatIRUNet", "channels": [8, 8], "depths": [1, 1],
        "mixers": ["conv", "hco_spread"],
    })  # fmt: skip
    info = {"task": "photo", "level": None, "name": "x"}
    model = load_weights(save_weights(tmp_path / "x.safetensors", network, info))
    method = model_method(model)
    assert (method.name, method.task, method.level_range) == ("x", "photo", None)
    assert method.covers(None) and not method.covers(15)
    image = np.random.default_rng(0).random((20, 22, 3), dtype=np.float32)
    with torch.no_grad():
        y = model.network(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0]
    np.testing.assert_allclose(method.restore(image, None), y.numpy().transpose(1, 2, 0), atol=1e-6)
    with_level = model_method(
        load_weights(save_tiny(tmp_path / "y.safetensors", "denoise_color", 15))
    )
    assert not with_level.covers(None)


@pytest.mark.parametrize("task", ["denoise_gray", "denoise_color"])
def test_bm3d_removes_noise(task: str) -> None:
    pytest.importorskip("bm3d")
    color = get_task(task).color
    clean = to_color_mode(heldout_photographs()["chelsea"][100:164, 100:164], color)
    noisy = benchmark_noise(clean.astype(np.float32) / 255, 25)
    method = bm3d_method(get_task(task))
    restored = method.restore(noisy, 25)
    assert restored.shape == noisy.shape and restored.dtype == np.float32
    assert psnr(to_uint8(restored), clean) > psnr(to_uint8(noisy), clean) + 6
    np.testing.assert_array_equal(method.restore(noisy, 0), noisy)


def test_bm3d_is_for_noise_only() -> None:
    with pytest.raises(VHeatIRError, match="not JPEG"):
        bm3d_method(get_task("jpeg_gray"))
    with pytest.raises(VHeatIRError, match="needs a sigma"):
        bm3d_method(get_task("photo"))


def test_non_local_means_needs_no_level_for_photographs() -> None:
    method = nlm_method(get_task("photo"))
    assert method.covers(None)
    clean = heldout_photographs()["chelsea"][100:164, 100:164]
    noisy = benchmark_noise(clean.astype(np.float32) / 255, 15)
    restored = method.restore(noisy, None)
    assert psnr(to_uint8(restored), clean) > psnr(to_uint8(noisy), clean) + 2
