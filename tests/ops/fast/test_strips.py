"""Bands and strips on the thread pool: same results, the caller's modes, errors, forks."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from vheatir.archs import VHeatIR
from vheatir.ops.fast import strips

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def two_threads(restored_threads: None) -> None:
    torch.set_num_threads(2)


@pytest.mark.parametrize("pooled", [True, False])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_threads_change_no_result(
    pooled: bool, norm: str, mode: type[torch.no_grad], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "POOLED", pooled)
    monkeypatch.setattr(strips, "_STRIP_TOKENS", 60)  # several strips per band
    torch.manual_seed(0)
    net = VHeatIR(embed_dim=6, depths=[2, 1], fve_size=4, norm=norm).double().eval()  # type: ignore[arg-type]
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.rand(2, 3, 90, 12, dtype=torch.float64)
    expected = net(x).detach()
    assert len(strips.bands(90, 12, CPU)) == (5 if pooled else 1)
    with mode():
        torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)
    assert torch.get_num_threads() == 2


def test_bands_and_strips_cover_every_row_once() -> None:
    for height in (1, 15, 16, 31, 33, 100, 1000):
        parts = strips.bands(height, 700, CPU)
        rows = [
            r for part in parts for strip in strips.strips(part, 700, CPU) for r in range(*strip)
        ]
        assert rows == list(range(height))


@pytest.mark.parametrize(("height", "width", "count"), [
    (8, 8, 1), (64, 64, 2), (128, 128, 4), (256, 256, 8), (1000, 1000, 8), (40, 1000, 2),
])  # fmt: skip
def test_bands_leave_work_to_others_but_are_no_less_than_half_a_strip(
    height: int, width: int, count: int
) -> None:
    assert len(strips.bands(height, width, CPU)) == count


@pytest.mark.parametrize(("height", "width", "rows"), [
    (1, 1, [1]), (256, 256, [256]), (768, 768, 8 * [86] + [80]), (500, 500, 4 * [125]),
    (3, 2**17, [1, 1, 1]),
])  # fmt: skip
def test_on_a_gpu_strips_are_few_and_of_one_size(height: int, width: int, rows: list[int]) -> None:
    gpu = torch.device("meta")
    (band,) = strips.bands(height, width, gpu)
    found = list(strips.strips(band, width, gpu))
    assert [bottom - top for top, bottom in found] == rows
    assert found[0][0] == 0 and found[-1][1] == height


def test_on_a_gpu_small_images_go_together() -> None:
    def sizes(device: str, *shape: int) -> list[int]:
        return [len(part) for part in strips.batches(torch.empty(*shape, 1, device=device))]

    assert sizes("meta", 10, 128, 128) == [4, 4, 2]
    assert sizes("meta", 2, 400, 400) == [1, 1]
    assert sizes("cpu", 3, 8, 8) == [1, 1, 1]


def test_workers_take_over_the_modes_and_compute_alone() -> None:
    seen = []

    def note(_: strips.Band) -> None:
        autocast = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu")
        modes = torch.is_inference_mode_enabled(), torch.is_grad_enabled(), autocast
        seen.append((modes, torch.get_num_threads(), threading.current_thread().name))

    parts = [(0, 1), (1, 2), (2, 3)]
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        strips.for_each(parts, note)
    with torch.no_grad():
        strips.for_each(parts, note)
    expected = 3 * [(True, False, torch.bfloat16)] + 3 * [(False, False, False)]
    assert [modes for modes, *_ in seen] == expected
    assert all(threads == 1 and "vheatir" in name for _, threads, name in seen)
    # a thread started later inherits PyTorch's setting, not that of the workers
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [2]


def test_an_error_comes_back_when_all_have_ended() -> None:
    done = []

    def fail(band: strips.Band) -> None:
        if band[0] == 0:
            raise ValueError("band 0")
        done.append(band)

    with pytest.raises(ValueError, match="band 0"):
        strips.for_each([(0, 1), (1, 2), (2, 3)], fail)
    assert sorted(done) == [(1, 2), (2, 3)]


def test_several_callers_share_the_pool() -> None:
    sums = [0] * 8

    def call(index: int) -> None:
        torch.set_num_threads(2)
        lock = threading.Lock()

        def add(band: strips.Band) -> None:
            with lock:
                sums[index] += band[1] - band[0]

        for _ in range(20):
            strips.for_each([(0, 3), (3, 7), (7, 8)], add)

    callers = [threading.Thread(target=call, args=(i,)) for i in range(8)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert sums == [160] * 8


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_its_own_threads() -> None:
    parts = [(0, 1), (1, 2)]
    strips.for_each(parts, lambda band: None)
    child = os.fork()
    if child == 0:
        seen: list[strips.Band] = []
        try:
            strips.for_each(parts, seen.append)
        finally:  # an exception must not make the child a second pytest
            os._exit(int(sorted(seen) != parts))
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
