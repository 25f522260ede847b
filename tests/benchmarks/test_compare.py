"""The comparison benchmark, on images small enough to take seconds."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from benchmarks import compare, contenders, measure, report

FIELDS = {
    "device", "dtype", "mode", "size", "height", "width", "method", "params", "macs", "seconds",
    "images_per_second", "peak_bytes",
}  # fmt: skip


def test_writes_records_and_a_plot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--device", "cpu", "--size", "mini", "--sizes", "16x24", "--repetitions", "1"]
    assert compare.main([*arguments, "--no-layers", "--out", str(tmp_path)]) == 0
    content = json.loads((tmp_path / "compare.json").read_text())
    records = content["records"]
    assert [r["method"] for r in records] == ["vheatir", "swinir", "vheatir-dense"]
    for record in records:
        assert record.keys() >= FIELDS
        assert record["status"] == "ok" and record["device"] == "cpu"
        assert record["seconds"] > 0 and record["macs"] > 0 and record["peak_bytes"] >= 0
        assert record["images_per_second"] == pytest.approx(1 / record["seconds"])
    ours, theirs, _ = records
    assert abs(ours["params"] / theirs["params"] - 1) < 0.05
    by_hand = theirs["times"][0] / ours["times"][0]
    assert content["ratios"][0]["throughput"] == pytest.approx(by_hand)
    assert (tmp_path / "compare.png").stat().st_size > 1000
    assert "16x24" in capsys.readouterr().out


def test_an_interrupted_run_keeps_the_sizes_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = []

    def once(*arguments: object) -> list[measure.Result]:
        if measured:
            raise KeyboardInterrupt
        measured.append(measure.interleaved(*arguments))  # type: ignore[arg-type]
        return measured[0]

    monkeypatch.setattr(compare, "interleaved", once)
    arguments = ["--device", "cpu", "--size", "mini", "--methods", "vheatir", "--repetitions", "1"]
    assert compare.main([*arguments, "--sizes", "16x24,32", "--out", str(tmp_path)]) == 130
    (record,) = json.loads((tmp_path / "compare.json").read_text())["records"]
    assert (record["height"], record["width"], record["status"]) == (16, 24, "ok")
    error = capsys.readouterr().err
    assert "16x24: vheatir " in error and "interrupted: the sizes" in error


def test_refuses_networks_of_different_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(contenders.GRID, "mini", 24)
    assert compare.main(["--size", "mini", "--out", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "not comparable" in error and "+2" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("size", contenders.SIZES)
def test_sizes_are_comparable(size: str) -> None:
    contenders.check_parameters(contenders.build("vheatir", size), contenders.build("swinir", size))


def test_an_impossible_size_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert compare.main(["--sizes", "100"]) == 2
    assert "multiples of SwinIR's window" in capsys.readouterr().err


def test_over_budget_is_a_result() -> None:
    case = contenders.Case("hco", "mini", 16, 16)
    (result,) = measure.interleaved([case], repetitions=1, budget=1e-9)
    assert result.status == "over budget" and result.seconds is None
    rows = report.table("", [result], "swin-layer").columns[4]
    assert list(rows.cells) == ["over budget"]


def test_shared_masks_leave_swinir_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = contenders.build("swinir", "mini").eval()
    monkeypatch.setattr(contenders, "share_masks", lambda network: None)
    published = contenders.build("swinir", "mini").eval()
    with torch.no_grad():
        for x in (torch.rand(1, 3, 24, 32), torch.rand(2, 3, 64, 64), torch.rand(1, 3, 24, 32)):
            torch.testing.assert_close(shared(x), published(x))


def test_the_dense_network_computes_the_same() -> None:
    x = torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        fast = contenders.build("vheatir", "mini").eval()(x)
        dense = contenders.build("vheatir-dense", "mini").eval()(x)
    torch.testing.assert_close(dense, fast, rtol=1e-4, atol=1e-5)


def test_counts_products_and_transforms() -> None:
    x, weight = torch.rand(1, 8, 16, 4), torch.rand(6, 4)
    from vheatir.ops import dct2

    with torch.inference_mode():
        linear = measure.count_macs(lambda: torch.nn.functional.linear(x, weight))
        fast = measure.count_macs(lambda: dct2(x, (1, 2), "fft"))
        dense = measure.count_macs(lambda: dct2(x, (1, 2), "matmul"))
    assert linear == x.numel() * 6
    assert fast == x.numel() * (3 + 4)
    assert dense == x.numel() * (8 + 16)


@pytest.mark.parametrize("groups", [1, 2, 8])
@pytest.mark.parametrize("frozen", [False, True])
def test_a_convolution_counts_twice_as_much_backwards(groups: int, frozen: bool) -> None:
    conv = torch.nn.Conv2d(8, 8, 3, padding=1, groups=groups)
    x = torch.rand(2, 8, 5, 7, requires_grad=not frozen)
    forwards = 2 * 5 * 7 * 8 * (8 // groups) * 9
    counted = measure.count_macs(lambda: conv(x).sum().backward())
    assert counted == forwards * (2 if frozen else 3)


def test_exponent_of_a_power() -> None:
    assert report.exponent([(n, 3.0 * n**1.25) for n in (10, 50, 400)]) == pytest.approx(1.25)
    assert report.exponent([(10, 1.0)]) is None


def test_the_measuring_process_finds_the_packages_that_this_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "sitecustomize.py").write_text(f"open({str(tmp_path / 'seen')!r}, 'w').close()")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    answer, _ = measure.probe(contenders.Case("heat", size="mini", height=16, width=16), 60)
    assert answer["status"] == measure.OK and answer["peak_bytes"] >= 0
    assert (tmp_path / "seen").exists()
