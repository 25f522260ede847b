"""Promise 6: non-finite losses stop the run or are skipped; bf16 on extreme images."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.training import helpers
from vheatir.metrics import psnr

RUN = ("train:total_iter=12", "datasets:val=null", "logger:print_freq=4",
       "logger:save_checkpoint_freq=3")  # fmt: skip


@pytest.fixture
def poisoned(tiny: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set one pixel of every crop of image c to NaN."""
    from vheatir.data import restoration_dataset as module

    get = module.RestorationDataset.__getitem__

    def poison(self: Any, key: Any) -> Any:
        sample = get(self, key)
        if sample["gt_path"].endswith("c.png"):
            sample["lq"][0, 3, 4] = float("nan")
        return sample

    monkeypatch.setattr(module.RestorationDataset, "__getitem__", poison)
    return tiny


def test_a_loss_that_is_no_number_stops_with_names(
    poisoned: Any, capfd: pytest.CaptureFixture[str], ledger: Any, full: bool
) -> None:
    with ledger(6, "an image with NaN pixels: stops, named") as row:
        for seed in range(6 if full else 2):
            root = f"seed{seed}"
            assert poisoned.run(*RUN, f"manual_seed={seed}", root=root) == 2
            text = capfd.readouterr().err
            (line,) = (li for li in text.splitlines() if li.startswith("error: the loss is nan"))
            row.case("clean/c.png" in line, line)
            iteration = int(re.search(r"at iteration (\d+)", line)[1])
            states = sorted(
                (poisoned.experiment(root) / "training_states").glob("*.state"),
                key=lambda path: int(path.stem),
            )
            last = f"last good state is {states[-1]}" if states else "no state is saved yet"
            row.case(last in line, line)
            row.case(not states or int(states[-1].stem) < iteration, line)
            for path in states:
                weights = poisoned.state(int(path.stem), root)["model"]["network"].values()
                row.case(all(bool(w.isfinite().all()) for w in weights), f"{path} is not finite")


@pytest.mark.parametrize("accumulate", [1, 2])
def test_on_request_such_batches_are_passed_over(
    poisoned: Any, ledger: Any, accumulate: int
) -> None:
    force = (*RUN, "train:skip_nonfinite=true", f"train:accumulate={accumulate}")
    with ledger(6, f"NaN batches skipped and counted, accumulate={accumulate}") as row:
        assert poisoned.run(*force) == 0
        state = poisoned.state(12)
        text = next(poisoned.experiment().glob("*.log")).read_text()
        skips = re.findall(
            r"iteration (\d+): the loss is nan for (.*): skipped, (\d+) so far", text
        )
        row.case(0 < state["skipped"] == len(skips) < 12, f"{state['skipped']} of {skips}")
        row.case(all("c.png" in names for _, names, _ in skips), str(skips))
        row.case(state["iteration"] == 12, "the run is shorter")
        sound = all(bool(w.isfinite().all()) for w in state["model"]["network"].values())
        row.case(sound, "weights are not finite")
        history = json.loads((poisoned.experiment() / "results" / "history.json").read_text())
        row.case(all(np.isfinite(values[2]) for values in history["losses"]), "a loss is none")
        # resuming in the middle gives identical bits
        for number in (9, 12):
            (poisoned.experiment() / "training_states" / f"{number}.state").unlink()
        assert poisoned.run(*force, resume=True) == 0
        row.case(helpers.difference(state, poisoned.state(12)) is None, "resumed, it differs")


def test_a_run_of_bad_batches_alone_stops(poisoned: Any, capfd: pytest.CaptureFixture[str]) -> None:
    for name in "abde":
        (poisoned.folder / "clean" / f"{name}.png").unlink()
    force = ("train:skip_nonfinite=true", "datasets:val=null", "train:total_iter=500")
    assert poisoned.run(*force, "logger:save_checkpoint_freq=1000") == 2
    assert "100 iterations in a row" in capfd.readouterr().err


def test_crops_made_on_the_device_have_names(tiny: Any) -> None:
    from vheatir.image_io import write_image
    from vheatir.training.distributed import Processes
    from vheatir.training.feed import TrainingFeed
    from vheatir.training.options import load_options

    # images of one colour each, so that a crop reveals its image
    for number, name in enumerate("abcde"):
        colour = np.full((40 + 7 * number, 50, 3), 40 * number, np.uint8)
        write_image(tiny.folder / "clean" / f"{name}.png", colour)
    options = load_options(tiny.file, ["train:data_on_device=true"])
    feed = TrainingFeed(options, torch.device("cpu"), Processes())
    batches = feed.batches(options.stages[0], 0)
    seen = set()
    for _ in range(20):
        batch = next(batches)
        for crop, name in zip(batch["gt"], feed.names(batch), strict=True):
            number = round(float(crop.mean()) * 255 / 40)
            assert Path(name).stem == "abcde"[number]
            seen.add(name)
    assert len(seen) == 5


@pytest.mark.parametrize(
    "model", ["denoise_gray_small", "denoise_gray_medium", "denoise_color_medium"]
)
def test_bf16_on_extreme_images(ledger: Any, full: bool, model: str) -> None:
    from vheatir import Restorer

    if not full and model != "denoise_gray_small":
        pytest.skip("in the long form: pytest -m reliability")
    side, rng = 64, np.random.default_rng(0)
    channels = () if "gray" in model else (3,)
    shape = (side, side, *channels)
    clean = {
        "black": np.zeros(shape), "white": np.ones(shape), "gray": np.full(shape, 0.5),
        "checkers": np.indices(shape).sum(0) % 2 * 1.0,
        # less than two fifths of it are clipped, so that it is really restored in bf16
        "contrast": 0.1 + 0.8 * (np.indices(shape)[0] // 4 % 2),
    }  # fmt: skip
    exact, rounded = Restorer(model, "cpu"), Restorer(model, "cpu", precision="bfloat16")
    with ledger(6, f"extreme images in bf16 against float32: {model}") as row:
        for name, sample_image in clean.items():
            # sigma 1000 saturates: half of the pixels are black, half white
            sigmas = {"gray": (1000,), "checkers": (1000,), "contrast": (15, 50)}
            for sigma in sigmas.get(name, (0, 15, 50, 1000)):
                noise = rng.normal(0, sigma / 255, shape)
                noisy = (np.clip(sample_image + noise, 0, 1) * 255).round().astype(np.uint8)
                truth = (sample_image * 255).round().astype(np.uint8)
                for level in (0.0, 15.0, 55.0) if full else (15.0,):
                    one, two = exact.restore(noisy, level), rounded.restore_detailed(noisy, level)
                    row.case(not two.retried, f"{name}, {sigma}, {level}: not finite in bf16")
                    best, loss = psnr(one, truth), 0.0
                    if not np.array_equal(one, two.image):
                        loss = abs(best - psnr(two.image, truth))
                    row.case(loss <= 0.05, f"{name}, {sigma}, {level}: {loss:.3f} dB of {best:.1f}")
