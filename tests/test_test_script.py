"""Run ``python vheatir/test.py``."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import vheatir.test
from vheatir.archs import build_network
from vheatir.bundled import heldout_photographs
from vheatir.degradations import benchmark_noise
from vheatir.image_io import read_image, write_image
from vheatir.metrics import CONVENTIONS, psnr, to_uint8
from vheatir.tasks import get_task
from vheatir.weights import load_weights, save_weights

SCRIPT = Path(vheatir.test.__file__).resolve()


@pytest.fixture(autouse=True)
def no_test_sets(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the machine's own test sets and work in an empty folder."""
    monkeypatch.delenv("VHEATIR_DATA", raising=False)
    monkeypatch.chdir(tmp_path)


def tiny(
    path: Path,
    task: str = "denoise_color",
    level: object = 15,
    name: str = "tiny",
    iterations: int = 0,
) -> Path:
    channels = get_task(task).channels
    torch.manual_seed(1)
    network = build_network({
        "type": "VHeatIR", "in_chans": channels, "out_chans": channels, "embed_dim": 8,
        "depths": [1], "downscale": 2,
    })  # fmt: skip
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    training = {"iterations": iterations}
    info = {"task": task, "level": level, "name": name, "training": training}
    return save_weights(path, network, info)


@pytest.fixture
def crops(tmp_path: Path) -> Path:
    """A folder with two small images."""
    folder = tmp_path / "crops"
    for name, photo in heldout_photographs().items():
        write_image(folder / f"{name}.png", photo[100:164, 100:181])
    return folder


@pytest.fixture
def option() -> Path:
    """The option file of the quickstart."""
    pytest.importorskip("pydantic")
    file = SCRIPT.parents[1] / "options" / "quickstart.yml"
    if not file.is_file():
        pytest.skip("the option files are not beside the package")
    return file


def run(*arguments: object) -> int:
    return vheatir.test.main([str(argument) for argument in arguments])


def load(folder: Path) -> list[dict]:
    return json.loads((folder / "benchmark.json").read_text())


def test_script_runs_from_any_folder_on_the_bundled_photographs(tmp_path: Path) -> None:
    weights = tiny(tmp_path / "tiny.safetensors")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, str(SCRIPT), "--limit", "1", "--weights", str(weights), "--out", "o",
         "--save-images", "--device", "cpu"],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "bundled with scikit-image" in result.stdout.splitlines()[0]
    assert "only the first image" in result.stdout
    assert " ".join(CONVENTIONS["denoise_color"].split()[:12]) in result.stdout

    degraded, restored = load(tmp_path / "o")
    assert degraded["method"] == "degraded" and restored["method"] == "tiny"
    for record in (degraded, restored):
        assert (record["task"], record["dataset"]) == ("denoise_color", "bundled")
        assert (record["level"], record["images"], record["published"]) == (15, 1, False)
        assert record["psnrb"] is None
    assert degraded["params"] is None and degraded["seconds_per_image"] is None
    assert restored["params"] > 1000 and restored["seconds_per_image"] > 0

    # The metrics are those of the saved images, which are the output of the network.
    clean = heldout_photographs()["chelsea"]
    images = tmp_path / "o" / "images" / "denoise_color" / "bundled_15"
    output = read_image(images / "chelsea_tiny.png")
    assert psnr(output, clean) == pytest.approx(restored["psnr"], abs=1e-9)
    assert psnr(read_image(images / "chelsea_input.png"), clean) == degraded["psnr"]
    noisy = benchmark_noise(clean.astype(np.float32) / 255, 15)
    with torch.no_grad():
        x = torch.from_numpy(noisy.transpose(2, 0, 1).copy())[None]
        y = load_weights(weights).network(x)[0].numpy().transpose(1, 2, 0)
    assert np.abs(to_uint8(y).astype(int) - output).max() <= 1
    rows = list(csv.DictReader((tmp_path / "o" / "benchmark.csv").read_text().splitlines()))
    assert [row["method"] for row in rows] == ["degraded", "tiny"]
    assert "| tiny |" in (tmp_path / "o" / "benchmark.md").read_text()


def test_the_self_ensemble_is_a_method_of_its_own(crops: Path, tmp_path: Path) -> None:
    weights = tiny(tmp_path / "w.safetensors")
    asked = ("--data", crops, "--weights", weights, "--self-ensemble", "--out", "o")
    assert run(*asked) == 0
    assert {r["method"] for r in load(Path("o"))} == {"degraded", "tiny, self-ensemble"}


def test_nothing_beside_the_script_shadows_a_module(tmp_path: Path) -> None:
    without = shutil.ignore_patterns("__pycache__", "*.safetensors")
    shutil.copytree(SCRIPT.parent, tmp_path / "clone" / "vheatir", ignore=without)
    for shadow in ("vheatir/json.py", "vheatir/rich.py", "vheatir/numpy.py"):
        (tmp_path / "clone" / shadow).write_text("raise RuntimeError('shadowed')")
    result = subprocess.run(
        [sys.executable, tmp_path / "clone" / "vheatir" / "test.py", "--task", "denoise"],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith("error: unknown task 'denoise'")


def test_without_weights_the_inputs_of_the_asked_task_are_measured(crops: Path, capsys) -> None:
    code = run("--data", crops, "--task", "jpeg_gray", "--level", 10, 40, "--out", "o")
    assert code == 0
    records = [record for record in load(Path("o")) if record["method"] == "degraded"]
    assert [(r["task"], r["dataset"], r["level"]) for r in records] == [
        ("jpeg_gray", "crops", 10),
        ("jpeg_gray", "crops", 40),
    ]
    assert all(r["psnrb"] is not None and r["images"] == 2 for r in records)
    assert "crops (2 images)" in capsys.readouterr().out


def test_models_appear_at_the_levels_they_are_trained_for(crops: Path, tmp_path: Path) -> None:
    one = tiny(tmp_path / "one.safetensors", "jpeg_color", 30, "one")
    many = tiny(tmp_path / "many.safetensors", "jpeg_color", [15, 60], "many")
    assert run("--data", crops, "--weights", one, many, "--out", "o") == 0
    shown = {(r["method"], r["level"]) for r in load(Path("o"))}
    assert shown == {("degraded", q) for q in (20, 30, 40)} | {
        ("one", 30), ("many", 20), ("many", 30), ("many", 40),
    }  # fmt: skip
    assert run("--data", crops, "--weights", many, "--level", 55, "--out", "o2") == 0
    assert {r["level"] for r in load(Path("o2"))} == {55}


def test_published_rows_stand_beside_the_published_sets(tmp_path: Path) -> None:
    photo = heldout_photographs()["chelsea"][:48, :48]
    write_image(tmp_path / "sets" / "McMaster" / "1.png", photo)
    assert run("--data", "sets", "--task", "denoise_color", "--out", "o") == 0
    records = load(Path("o"))
    swinir = [r["psnr"] for r in records if r["method"] == "SwinIR" and r["published"]]
    assert swinir == [35.61, 33.20, 30.22]
    assert {r["published"] for r in records if r["method"] == "degraded"} == {False}
    assert "McMaster has 1 of its 18 images" in Path("o/benchmark.md").read_text()


@pytest.mark.usefixtures("zoo_with_mini")
def test_the_papers_network_stands_beside_what_the_paper_says(tmp_path: Path) -> None:
    photo = heldout_photographs()["chelsea"][:48, :48, 0]
    write_image(tmp_path / "sets" / "Set12" / "1.png", photo)
    assert run("--data", "sets", "--task", "denoise_gray", "--out", "o") == 0
    text = (tmp_path / "o" / "benchmark.md").read_text()
    rows = {line.split(" | ")[0]: line.split(" | ")[2:5] for line in text.splitlines()}
    assert rows["| vHeatIR, as published"] == ["33.37", "-", "-"]
    first, *others = rows["| vHeatIR flat mini, ours"]
    assert float(first.split("/")[0]) > 20 and others == ["-", "-"]
    assert "| denoise_gray_small" in rows


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A data folder with two small pairs under the name of a published set."""
    rng = np.random.default_rng(0)
    for name, photo in heldout_photographs().items():
        clean = photo[100:164, 100:181]
        noisy = np.clip(clean + rng.normal(0, 10, clean.shape), 0, 255).astype(np.uint8)
        write_image(tmp_path / "sets" / "Nam25" / "clean" / f"{name}.png", clean)
        write_image(tmp_path / "sets" / "Nam25" / "noisy" / f"{name}.png", noisy)
    return tmp_path / "sets"


def test_a_task_without_a_level(pairs: Path, tmp_path: Path, capsys) -> None:
    weights = tiny(tmp_path / "x.safetensors", "photo", None, "x")
    assert run("--data", pairs, "--weights", weights, "--out", "o", "--save-images") == 0
    records = load(Path("o"))
    assert {r["level"] for r in records} == {None}
    by_name = {r["method"]: r for r in records}
    assert by_name["CBDNet"]["published"] and by_name["CBDNet"]["psnr"] == 40.02
    for method, stem in (("degraded", "input"), ("x", "x")):
        figures = [
            psnr(
                read_image(tmp_path / "o/images/photo/Nam25" / f"{name}_{stem}.png"),
                read_image(pairs / "Nam25" / "clean" / f"{name}.png"),
            )
            for name in heldout_photographs()
        ]
        assert by_name[method]["psnr"] == pytest.approx(np.mean(figures), abs=1e-9)
    printed = capsys.readouterr().out
    assert "Nam25 (2 images)" in printed and "None" not in printed and "synthetic" not in printed
    text = (tmp_path / "o" / "benchmark.md").read_text()
    assert "| method | parameters | PSNR/SSIM | s/image |" in text and "None" not in text


def test_without_pairs_synthetic_damage_is_used_and_reported(tmp_path: Path, capsys) -> None:
    weights = tiny(tmp_path / "x.safetensors", "photo", None, "x")
    assert run("--weights", weights, "--limit", 1, "--out", "o") == 0
    title = capsys.readouterr().out.splitlines()[0]
    assert "bundled with scikit-image" in title and "synthetic degradation" in title
    degraded, restored = load(Path("o"))
    assert (degraded["dataset"], degraded["level"], degraded["images"]) == ("bundled", None, 1)
    assert restored["method"] == "x" and 10 < degraded["psnr"] < 60
    assert run("--weights", weights, "--limit", 1, "--out", "o2") == 0
    assert load(Path("o2"))[0] == degraded


def test_a_level_leaves_out_the_task_without_one(pairs: Path, tmp_path: Path, capsys) -> None:
    photo = heldout_photographs()["chelsea"][:48, :48]
    write_image(pairs / "McMaster" / "1.png", photo)
    noise = tiny(tmp_path / "n.safetensors", "denoise_color", [0, 55], "n")
    weights = ("--weights", noise, tiny(tmp_path / "x.safetensors", "photo", None, "x"))
    assert run("--data", pairs, *weights, "--level", 30, "--out", "o") == 0
    assert {(r["task"], r["level"]) for r in load(Path("o"))} == {("denoise_color", 30)}
    assert "photo is left out: it has no level" in capsys.readouterr().err


def test_bm3d_on_request(tmp_path: Path) -> None:
    pytest.importorskip("bm3d")
    write_image(tmp_path / "d" / "a.png", heldout_photographs()["chelsea"][100:164, 100:164])
    asked = ("--task", "denoise_gray", "--level", 25, "--out", "o")
    assert run("--data", "d", "--bm3d", *asked) == 0
    by_name = {r["method"]: r["psnr"] for r in load(Path("o"))}
    assert by_name["BM3D (measured)"] > by_name["degraded"] + 6


def test_option_file_names_the_weights(option: Path, crops: Path, tmp_path: Path, capsys) -> None:
    place = ("--force_yml", f"path:experiments_root={tmp_path / 'runs'}")
    assert run("-opt", option, *place, "--data", crops, "--out", "o") == 2
    assert "train it first" in capsys.readouterr().err
    tiny(tmp_path / "runs/quickstart/models/quickstart.safetensors", name="quickstart")
    assert run("-opt", option, *place, "--data", crops, "--out", "o") == 0
    assert [(r["method"], r["level"]) for r in load(Path("o"))] == [
        ("degraded", 15), ("quickstart", 15),
    ]  # fmt: skip


def test_a_continued_run_is_tested_with_its_latest_weights(
    option: Path, crops: Path, tmp_path: Path, capsys
) -> None:
    models = tmp_path / "runs/quickstart/models"
    tiny(models / "quickstart.safetensors", name="final", iterations=3000)
    tiny(models / "net_g_latest.safetensors", name="latest", iterations=4500)
    asked = ("-opt", option, "--data", crops, "--out", "o", "--force_yml",
             f"path:experiments_root={tmp_path / 'runs'}")  # fmt: skip
    assert run(*asked) == 0
    assert [r["method"] for r in load(Path("o"))] == ["degraded", "latest"]
    tiny(models / "quickstart.safetensors", name="final", iterations=6000)
    assert run(*asked) == 0
    assert [r["method"] for r in load(Path("o"))] == ["degraded", "final"]


def test_an_option_file_without_a_run_tests_the_weights_it_starts_from(
    option: Path, crops: Path, tmp_path: Path, capsys
) -> None:
    start = tiny(tmp_path / "start.safetensors", name="start")
    asked = ("-opt", option, "--data", crops, "--out", "o", "--force_yml",
             f"path:experiments_root={tmp_path / 'runs'}", "path:pretrain_network_g=")  # fmt: skip
    assert run(*asked[:-1], f"{asked[-1]}{start}") == 0
    assert [r["method"] for r in load(Path("o"))] == ["degraded", "start"]
    # not those of another level or task, from which fine-tuning starts
    tiny(start, level=[0, 55])
    assert run(*asked[:-1], f"{asked[-1]}{start}") == 2
    assert "is for denoise_color at level [0, 55]: train it first" in capsys.readouterr().err
    assert run(*asked[:-1], f"{asked[-1]}{tmp_path / 'none.safetensors'}") == 2
    assert "none.safetensors' is not an existing .safetensors file" in capsys.readouterr().err
    # the weights of a run come first
    tiny(tmp_path / "runs/quickstart/models/quickstart.safetensors", name="trained")
    assert run(*asked[:-1], f"{asked[-1]}{start}") == 0
    assert [r["method"] for r in load(Path("o"))] == ["degraded", "trained"]


def test_an_option_file_without_a_level(pairs: Path, tmp_path: Path) -> None:
    pytest.importorskip("pydantic")
    option = SCRIPT.parents[1] / "options" / "all_levels" / "photo_small.yml"
    if not option.is_file():
        pytest.skip("the option files are not beside the package")
    place = ("--force_yml", f"path:experiments_root={tmp_path / 'runs'}")
    tiny(tmp_path / "runs/photo_small/models/photo_small.safetensors", "photo", None, "p")
    assert run("-opt", option, *place, "--data", pairs, "--out", "o") == 0
    measured = [r for r in load(Path("o")) if not r["published"]]
    assert [(r["method"], r["level"]) for r in measured] == [("degraded", None), ("p", None)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "denoise_grey"], "did you mean 'denoise_gray'"),
        (["--data", "nowhere"], "does not exist"),
        (["--weights", "none.safetensors"], "does not exist"),
        (["--weights", "w.safetensors", "--task", "jpeg_gray"], "the weights are for"),
        (["--weights", "w.safetensors", "--level", "25"], "trained for sigma 15"),
        (["--weights", "w.safetensors", "-opt", "x.yml"], "give one of them"),
        (["--weights", "w.safetensors", "--limit", "0"], "at least 1"),
        (["--weights", "w.safetensors", "--out", "w.safetensors"], "another --out"),
        (["--task", "jpeg_gray", "--level", "0"], "whole numbers 1 to 100"),
        (["--task", "denoise_gray", "--level", "-5"], "0 to 255"),
        (["--device", "abacus"], "device 'abacus'"),
        (["--task", "photo", "--level", "20"], "task photo has no level"),
        (["--task", "photo", "denoise_gray", "--level", "20"], "task photo has no level"),
        (["--weights", "w.safetensors", "--task", "photo"], "the weights are for denoise_color"),
    ],
)
def test_mistakes_are_one_line_and_status_2(arguments, message, capsys, tmp_path) -> None:
    tiny(tmp_path / "w.safetensors")
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    lines = [line for line in error.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and message in lines[0], error
    assert "Traceback" not in error
    assert not (tmp_path / "results").exists()


def test_a_test_that_fails_keeps_the_earlier_results(crops: Path, tmp_path: Path, capsys) -> None:
    tiny(tmp_path / "w.safetensors")
    command = ("--weights", "w.safetensors", "--data", crops, "--out", "o", "--device", "cpu")
    assert run(*command) == 0
    before = {path.name: path.read_bytes() for path in Path("o").glob("benchmark.*")}
    assert before
    min(crops.iterdir()).write_bytes(b"no image")
    assert run(*command) == 2
    assert {path.name: path.read_bytes() for path in Path("o").glob("benchmark.*")} == before
