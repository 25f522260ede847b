"""The mixer study: candidates, measurements, and a tiny complete study, twice."""

from __future__ import annotations

import importlib.util
import json
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from studies.heat import measure, report, study
    from studies.heat.candidates import CONTROLS, read_candidates, select

from vheatir.archs import network_config
from vheatir.errors import VHeatIRError
from vheatir.tasks import get_task

FILE = Path(study.__file__).with_name("mixers.yml")
FIELDS = {
    "shape", "mixer", "level", "seed", "psnr_equal_time", "psnr_equal_iterations",
    "iterations_per_second", "params", "macs", "seconds_256", "seconds_768", "peak_bytes_768",
    "receptive_field",
}  # fmt: skip
needs_basicsr = pytest.mark.skipif(
    importlib.util.find_spec("basicsr") is None, reason="basicsr is not installed"
)


# the study's command sets the number of threads to one
pytestmark = pytest.mark.usefixtures("restored_threads")


def test_every_candidate_builds_and_the_controls_are_there() -> None:
    candidates = read_candidates(FILE)
    assert set(CONTROLS) <= {c.mixer for c in candidates if c.shape == "u"}
    assert len({c.key for c in candidates}) == len(candidates)
    for task in ("denoise_gray", "jpeg_color"):
        for candidate in candidates:
            network = candidate.build(get_task(task))
            x = torch.rand(1, get_task(task).channels, 16, 24)
            level = (50.0,) if candidate.shape == "u_told" else ()
            assert network(x, *level).shape == x.shape
            assert "MIXER" not in json.dumps(network_config(network))


def test_the_shapes_build_too() -> None:
    shapes = read_candidates(FILE.with_name("shapes.yml"))
    assert {candidate.mixer for candidate in shapes} == {"conv"}
    for candidate in shapes:
        network = candidate.build(get_task("denoise_gray"))
        assert network(torch.rand(1, 1, 9, 16)).shape == (1, 1, 9, 16)


def test_candidates_of_a_shape_differ_in_the_mixer_alone() -> None:
    for candidate in read_candidates(FILE):
        if candidate.shape == "u_every":
            assert candidate.network["mixers"] == [candidate.mixer] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("shapes: {u: {}}", "is not a file of candidates"),
        ("shapes: {u: {}}\ncandidates: [{shape: v, mixer: hco}]", "unknown shape 'v'"),
        ("shapes: {u: {}}\ncandidates: [{shape: u, mixers: [a, a]}]", "u/a twice"),
    ],
)
def test_a_bad_file_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "mine.yml"
    file.write_text(text)
    with pytest.raises(VHeatIRError, match=message):
        read_candidates(file)


def test_select_by_pattern() -> None:
    candidates = read_candidates(FILE)
    assert {c.name for c in select(candidates, ["u/hco*", "flat/none"])} == {
        "u/hco", "u/hco_spread", "flat/none",
    }  # fmt: skip
    with pytest.raises(VHeatIRError, match="did you mean 'u/hco'"):
        select(candidates, ["u/hcco"])


def test_the_field_of_a_box_filter_is_the_box() -> None:
    box = nn.Conv2d(1, 1, 9, padding=4, bias=False)
    nn.init.constant_(box.weight, 1 / 81)
    energy = measure.gradient_energy(box, [torch.rand(1, 1, 32, 32)])
    inside = np.zeros((32, 32), bool)
    inside[12:21, 12:21] = True
    np.testing.assert_allclose(energy[inside], 1 / 81)
    assert energy[~inside].max() == 0
    # 90 % of 81 pixels: the smallest disc that contains 73 of them
    distance = np.sort(np.hypot(*np.mgrid[-4:5, -4:5]).ravel())
    assert measure.receptive_field(energy) == pytest.approx(distance[72])
    response = measure.impulse_response(box, torch.rand(1, 1, 32, 32))
    np.testing.assert_allclose(response[inside], 1 / 81, rtol=1e-4)


def test_rows_average_seeds_and_sort_by_equal_time() -> None:
    def record(mixer: str, seed: int, psnr: float) -> dict[str, object]:
        return {"shape": "u", "mixer": mixer, "level": 50.0, "seed": seed,
                "psnr_equal_time": psnr, "psnr_equal_iterations": None}  # fmt: skip

    found = [record("a", 0, 25.0), record("a", 1, 25.2), record("b", 0, 25.3)]
    first, second = report.rows(found)
    assert (first[0], first[2], first[3]["spread"]) == ("u/b", 1, None)
    assert second[3]["psnr_equal_time"] == pytest.approx(25.1)
    assert second[3]["spread"] == pytest.approx(0.2)
    assert "| u/a | 50 | 2 | 25.100 | 0.200 |" in report.markdown(found)


@needs_basicsr
def test_a_study_is_finished_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = [
        "--minutes", "0.001", "--iterations", "2", "--only", "u/none,u/edge_heat", "--crop", "16",
        "--batch", "2", "--sizes", "16", "--no-swinir", "--jobs", "2", "--out", str(tmp_path),
        "--level", "50",
    ]  # fmt: skip
    assert study.main(arguments) == 0
    content = json.loads((tmp_path / "mixers.json").read_text())
    weights = sorted((tmp_path / "runs").rglob("*.safetensors"))
    before = [file.stat().st_mtime_ns for file in weights]
    assert study.main(arguments) == 0  # everything is finished
    assert [file.stat().st_mtime_ns for file in weights] == before and before
    assert json.loads((tmp_path / "mixers.json").read_text()) == content
    records = content["records"]
    assert [r["mixer"] for r in records] == ["none", "edge_heat"]
    for record in records:
        assert FIELDS - {"seconds_256", "seconds_768", "peak_bytes_768"} <= record.keys()
        assert record["iterations_equal_time"] == max(
            1, round(0.06 * record["iterations_per_second"])
        )
        assert record["psnr_equal_time"] > 10 and record["psnr_equal_iterations"] > 10
        assert record["params"] > 1e5 and record["macs"] > 1e5 and record["seconds_16"] > 0
    for name in ("curves.png", "receptive_fields.png", "impulse_responses.png"):
        assert (tmp_path / name).stat().st_size > 1000
    assert "already finished" in capsys.readouterr().out


def test_nothing_to_do_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (
        ["--minutes", "0", "--iterations", "0"],
        ["--level", "x"],
        ["--minutes", "1,2"],
    ):
        assert study.main(arguments) == 2
        assert capsys.readouterr().err.startswith("error: --")
