"""Files of release 0.1 are still read, and its training goes on where it stopped.

``tests/fixtures/release_0_1`` holds what ``tiny.yml`` wrote there after 4 and 8 iterations, with
two workers and two batches per step.
"""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch

from vheatir.weights import load_weights, read_state_dict

RELEASE = Path(__file__).parent / "fixtures" / "release_0_1"


def test_its_weights_are_read() -> None:
    model = load_weights(RELEASE / "tiny.safetensors")
    assert model.info["name"] == "tiny" and model.info["level"] == [0.0, 55.0]
    assert model.info["training"]["iterations"] == 8
    pickled = read_state_dict(RELEASE / "tiny.pth")  # as BasicSR writes it: params, params_ema
    assert set(pickled) == set(model.network.state_dict())
    for name, tensor in model.network.state_dict().items():
        assert torch.equal(pickled[name], tensor), name


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="training needs basicsr")
def test_its_training_goes_on_from_its_state(tmp_path: Path) -> None:
    from vheatir.train import main

    states = tmp_path / "tiny" / "training_states"
    states.mkdir(parents=True)
    shutil.copy(RELEASE / "4.state", states)
    options = ["-opt", str(RELEASE / "tiny.yml"), "--auto_resume"]
    assert main([*options, "--force_yml", f"path:experiments_root={tmp_path}"]) == 0
    ours = load_weights(tmp_path / "tiny" / "models" / "tiny.safetensors").network.state_dict()
    # Not to the bit: the fixture was written on another machine.
    for name, tensor in load_weights(RELEASE / "tiny.safetensors").network.state_dict().items():
        torch.testing.assert_close(ours[name], tensor, atol=1e-4, rtol=1e-3, msg=name)
