"""Validation during training: the numbers and images of the benchmark protocol."""

from __future__ import annotations

import argparse
import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)

from vheatir.archs import build_network
from vheatir.data import sources
from vheatir.evaluation import run
from vheatir.evaluation.benchmark_sets import bundled_test_set
from vheatir.evaluation.methods import Method, network_restorer
from vheatir.evaluation.protocol import measure
from vheatir.image_io import read_image, write_image
from vheatir.tasks import get_task
from vheatir.training.distributed import Processes
from vheatir.training.feed import TrainingFeed
from vheatir.training.options import load_options
from vheatir.training.validation import Validator

OPTIONS = Path(__file__).resolve().parents[2] / "options" / "quickstart.yml"


def test_it_measures_what_the_benchmark_measures(tmp_path: Path) -> None:
    torch.manual_seed(0)
    shape = {"embed_dim": 8, "depths": [1], "downscale": 2}
    network = build_network({"type": "VHeatIR", **shape}).eval()
    options = load_options(OPTIONS, ["datasets:val:limit=1"])
    assert options.task == "denoise_color" and options.level == 15
    task, bundled = get_task("denoise_color"), bundled_test_set().first(1)
    method = Method("net", task.name, (15, 15), None, network_restorer(network, None))
    shown = []
    expected = measure(task, bundled, 15, method, shown.append)
    before = measure(task, bundled, 15)

    (name, values), *others = Validator(options).run(network, tmp_path).items()
    assert not others and name.endswith(" 15")
    assert values == {"psnr": expected.psnr, "ssim": expected.ssim, "input_psnr": before.psnr}
    (file,) = tmp_path.rglob("*.png")
    assert file.name == f"{bundled.names[0]}_15.png"
    np.testing.assert_array_equal(read_image(file), shown[0].output)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("[0,10]", [10.0]), ("[0,30]", [15.0, 25.0]), ("[0,55]", [15, 25, 50]),
        ("[60,70]", [70.0]), ("20", [20.0]),
    ],
)  # fmt: skip
def test_only_levels_of_the_training_are_validated(level: str, expected: list[float]) -> None:
    validator = Validator(load_options(OPTIONS, [f"level={level}"]))
    assert validator._levels(validator.options.datasets.val_sets["val"]) == expected
    # vheatir test measures there too
    own = Method("m", validator.task.name, validator.options.level_range, None, None)
    assert run._levels(argparse.Namespace(level=None), validator.task, [own]) == expected


def test_images_of_the_training_are_counted_in_the_log(tmp_path: Path, log_lines: list) -> None:
    photo = bundled_test_set().load(0, get_task("denoise_color"))
    for name in ("own/a.png", "own/b.png", "other/c.png"):
        write_image(tmp_path / name, photo[:32, :32])

    def warnings(*force: str) -> list[str]:
        log_lines.clear()
        size = ["datasets:train:gt_size=16", "train:stages=~", "val:metrics=psnr"]
        sets = [f"datasets:train:dataroot_gt={tmp_path}/own", *force]
        options = load_options(OPTIONS, [*size, *sets])
        feed = TrainingFeed(options, torch.device("cpu"), Processes())
        names = [name for each in feed._sets for name in each.source.names]
        Validator(options).warn_of_training_images(names)
        return log_lines

    (line,) = warnings("datasets:val={limit: 1}", f"datasets:val_2:dataroot_gt={tmp_path}/other")
    assert line.startswith("datasets:val: 1 of 1 validation images are training images: ")
    both = f"datasets:val:dataroot_gt=[{tmp_path}/own, {tmp_path}/other]"
    assert warnings(both)[0].startswith("datasets:val: 2 of 3 validation images")
    split = ("datasets:train:exclude_every=2", "datasets:val={holdout_every: 2}")
    assert warnings(*split) == []


def test_sets_without_names_and_images_of_one_name_stay_apart(tmp_path: Path) -> None:
    network = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [1]}).eval()
    photo = bundled_test_set().load(0, get_task("denoise_color"))
    for number, path in enumerate(("v1/a/1.png", "v1/b/1.png", "v2/1.png")):
        write_image(tmp_path / path, photo[:24, 24 * number : 24 * (number + 1)])
    force = [f"datasets:val={{dataroot_gt: {tmp_path}/v1}}",
             f"datasets:val_2={{dataroot_gt: {tmp_path}/v2}}"]  # fmt: skip
    options = load_options(OPTIONS, force)
    scores = Validator(options).run(network, tmp_path / "out")
    assert list(scores) == ["val 15", "val_2 15"]
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in tmp_path.glob("out/*/*.png"))
    assert files == ["val/1_1_15.png", "val/1_2_15.png", "val_2/1_15.png"]


def test_images_are_decoded_once_or_at_each_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [1]}).eval()
    write_image(tmp_path / "a.png", bundled_test_set().load(0, get_task("denoise_color"))[:24, :24])
    reads: list[object] = []
    monkeypatch.setattr(sources, "read_image", lambda path: reads.append(path) or read_image(path))

    def scores(cache: str) -> object:
        force = f"datasets:val={{dataroot_gt: {tmp_path}, cache: {cache}}}"
        validator = Validator(load_options(OPTIONS, [force]))
        reads.clear()
        return validator.run(network), validator.run(network)

    cached = scores("true")
    assert reads == []
    assert scores("false") == cached
    assert reads == 2 * [str(tmp_path / "a.png")]
