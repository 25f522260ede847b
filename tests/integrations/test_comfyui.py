"""The node pack for ComfyUI, as far as it needs no ComfyUI: batches, masks, progress, reports."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from integrations.comfyui.restoration import restore_batch
from vheatir import Restorer
from vheatir.bundled import heldout_photographs
from vheatir.errors import VHeatIRError

PACK = Path(__file__).resolve().parents[2] / "integrations" / "comfyui"
MODEL = "denoise_color_small"


def photographs(*sigmas: float) -> Tensor:
    """Return (B, 32, 40, 3) with noise."""
    clean = heldout_photographs()["chelsea"][100:132, 100:140].astype(np.float32) / 255
    rng = np.random.default_rng(0)
    noisy = [clean + rng.normal(0, sigma / 255, clean.shape) for sigma in sigmas]
    return torch.from_numpy(np.stack(noisy).clip(0, 1).astype(np.float32))


@pytest.fixture(scope="module")
def restorer() -> Restorer:
    return Restorer(MODEL, "cpu")


def test_each_image_of_a_batch_is_restored_on_its_own(restorer: Restorer) -> None:
    images = photographs(10, 40)
    before = images.clone()
    restored, report = restore_batch(restorer, images, strength=70, tile=24)
    for image, result in zip(images, restored, strict=True):
        expected = restorer.restore(image.numpy(), strength=70, tile=24)
        assert np.array_equal(result.numpy(), expected)
    assert torch.equal(images, before)
    first, second = report.splitlines()
    assert first.startswith("1: sigma ") and second.startswith("2: sigma ")
    assert f"(estimated) -> {MODEL}, tile 24, strength 70 %" in first


def test_a_level_is_that_of_every_image(restorer: Restorer) -> None:
    images = photographs(10, 40)
    restored, report = restore_batch(restorer, images, level=20)
    for image, result in zip(images, restored, strict=True):
        assert np.array_equal(result.numpy(), restorer.restore(image.numpy(), 20))
    assert report.count(f"sigma 20.0 (given) -> {MODEL}") == 2


def test_automatic_chooses_for_each_image() -> None:
    auto = Restorer("auto", "cpu")
    drawing = torch.ones(128, 128, 3)
    drawing[20:100:20, 10:100] = 0
    noise = np.random.default_rng(0).normal(0.5, 30 / 255, (128, 128, 3))
    images = torch.stack([drawing, torch.from_numpy(noise.clip(0, 1)).float()])
    restored, report = restore_batch(auto, images)
    assert torch.equal(restored[0], drawing)
    assert np.array_equal(restored[1].numpy(), auto.restore(images[1].numpy()))
    first, second = report.splitlines()
    assert first == "1: found no damage: flat areas without noise: left unchanged"
    assert second.startswith("2: found white noise of sigma ")
    assert "-> denoise_color_medium, " in second
    with pytest.raises(VHeatIRError, match="takes no level: choose a model, or set the level"):
        restore_batch(auto, images, level=20)


def test_a_mask_blends(restorer: Restorer) -> None:
    images = photographs(20, 20)
    whole, _ = restore_batch(restorer, images)
    mask = torch.zeros(2, 32, 40)
    mask[0, :, 10:20], mask[0, :, 20:] = 0.25, 1
    mask[1, :8] = 1
    restored, _ = restore_batch(restorer, images, mask=mask)
    assert torch.equal(restored[0, :, :10], images[0, :, :10])
    between = 0.75 * images[0, :, 10:20] + 0.25 * whole[0, :, 10:20]
    assert torch.allclose(restored[0, :, 10:20], between, atol=1e-6)
    assert torch.equal(restored[0, :, 20:], whole[0, :, 20:])
    assert torch.equal(restored[1, :8], whole[1, :8])
    assert torch.equal(restored[1, 8:], images[1, 8:])


def test_one_mask_of_another_size_is_for_all_images(restorer: Restorer) -> None:
    images = photographs(20, 20)
    whole, _ = restore_batch(restorer, images)
    restored, _ = restore_batch(restorer, images, mask=torch.tensor([[0.0] * 5 + [1.0] * 5]))
    assert torch.equal(restored[:, :, :16], images[:, :, :16])
    assert torch.equal(restored[:, :, 24:], whole[:, :, 24:])
    unchanged, _ = restore_batch(restorer, images, mask=torch.zeros(64, 64))
    assert torch.equal(unchanged, images)


def test_alpha_is_kept(restorer: Restorer) -> None:
    images = torch.cat([photographs(20), torch.rand(1, 32, 40, 1)], dim=-1)
    restored, _ = restore_batch(restorer, images)
    assert torch.equal(restored[..., 3], images[..., 3])
    assert np.array_equal(
        restored[0, ..., :3].numpy(), restorer.restore(images[0, ..., :3].numpy())
    )


def test_progress_rises_and_can_cancel(restorer: Restorer) -> None:
    images = photographs(20, 20)
    seen = []
    restore_batch(restorer, images, tile=24, progress=lambda *step: seen.append(step))
    shares = [done / total for done, total in seen]
    assert shares == sorted(shares) and shares[0] == 0 and shares[-1] == 1

    def cancel(done: int, total: int) -> None:
        if done / total >= 0.5:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        restore_batch(restorer, images, tile=24, progress=cancel)


def test_both_forms_of_the_workflow_agree() -> None:
    api = json.loads((PACK / "workflow_api.json").read_text())
    graph = json.loads((PACK / "example_workflows" / "restore.json").read_text())
    assert {str(each["id"]): each["type"] for each in graph["nodes"]} == {
        key: each["class_type"] for key, each in api.items()
    }
    (node,) = (each for each in graph["nodes"] if each["type"] == "VHeatIRRestore")
    widgets = [each["name"] for each in node["inputs"] if "widget" in each]
    inputs = api[str(node["id"])]["inputs"]
    assert dict(zip(widgets, node["widgets_values"], strict=True)) == {
        key: value for key, value in inputs.items() if not isinstance(value, list)
    }
