"""Measurements: interleaved timing, multiply-adds, and peak memory in a fresh process."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from benchmarks.contenders import Case, prepare
from vheatir.ops.fast import dct

ROOT = Path(__file__).resolve().parents[1]

OK, OUT_OF_MEMORY, OVER_BUDGET = "ok", "out of memory", "over budget"


@dataclass
class Result:
    """Measurements of one :class:`Case`.

    Attributes:
        params: number of weights.
        macs: multiply-adds of products, convolutions and transforms, for the batch.
        seconds: median of ``times``; None without times.
        images_per_second: batch over seconds.
        peak_bytes: peak memory above the process's baseline.
        status: ``"ok"``, ``"out of memory"`` or ``"over budget"``.
        times: seconds of each repetition, in the order of measurement.
        probe_seconds: one warm run in the process that measured memory, also for a case whose
            repetitions would have exceeded the budget.
    """

    device: str
    dtype: str
    mode: str
    size: str
    height: int
    width: int
    method: str
    params: int | None = None
    macs: int | None = None
    seconds: float | None = None
    images_per_second: float | None = None
    peak_bytes: int | None = None
    batch: int = 1
    compiled: str | None = None
    tile: int | None = None
    status: str = OK
    times: list[float] = field(default_factory=list)
    probe_seconds: float | None = None


class _MacCounter(TorchDispatchMode):
    """Counts the multiply-adds of every dispatched operator."""

    def __init__(self) -> None:
        super().__init__()
        self.macs = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        packet = func.overloadpacket
        formula = flop_registry.get(packet)
        if packet not in _TRANSFORMS and formula is None:
            with self:  # linear and matmul are not decomposed in inference mode
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        out = func(*args, **kwargs)
        if packet in _TRANSFORMS:
            x, dims = args[:2]
            per_sample = sum(math.log2(max(x.shape[d], 2)) for d in dims)
            self.macs += _TRANSFORMS[packet] * x.numel() * per_sample
        elif packet is torch.ops.aten.convolution_backward:
            self.macs += _convolution_backward_macs(*args)
        elif formula is not None:
            self.macs += formula(*args, **kwargs, out_val=out) / 2
        return out


# Multiply-adds per sample and octave of a fast transform, two operations counted as one: 2 N log2 N
# operations for a DCT of N samples (split radix), 5 N log2 N for a complex Fourier transform.
_TRANSFORMS = {
    torch.ops.vheatir.scipy_dctn: 1.0,
    torch.ops.vheatir.scipy_dctn_: 1.0,
    torch.ops.aten._fft_c2c: 2.5,
    torch.ops.aten._fft_r2c: 1.25,
}


def _convolution_backward_macs(grad: Tensor, x: Tensor, weight: Tensor, *rest: Any) -> int:
    """As many as in the forward pass, for each of the gradients of x and of the weights.

    PyTorch's own formula counts a depthwise convolution as a full one.
    """
    transposed, wanted = rest[4], rest[-1]
    return (x if transposed else grad).numel() * weight[0].numel() * sum(wanted[:2])


def count_macs(work: Callable[[], object]) -> int:
    """Return the multiply-adds of matrix products, convolutions and transforms.

    Element-wise passes (softmax, normalisation, activation, decay) are not counted.
    """
    counter = _MacCounter()
    # The counter sees only the operators of this thread, so the network must run in it.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    dct.AS_OPERATORS = True
    try:
        with counter:
            work()
    finally:
        torch.set_num_threads(threads)
        dct.AS_OPERATORS = False
    return round(counter.macs)


Work = Callable[[], None]


def processor_seconds(cases: Mapping[str, Case], reference: str, rounds: int) -> dict[str, float]:
    """Return the processor time of each case, measured in turns on one thread of the CPU.

    That of the reference is its median over the rounds; that of another case is this median times
    the median ratio of both in one round, since the speed of a machine varies.

    Args:
        cases: the cases by any names.
        reference: one of the names.
        rounds: rounds after a warm-up.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = {name: prepare(case)[1] for name, case in cases.items()}
        for each in work.values():
            each()
        table = [{n: timed_on_processor(each) for n, each in work.items()} for _ in range(rounds)]
    finally:
        torch.set_num_threads(threads)
    own = median(row[reference] for row in table)
    return {name: own * median(row[name] / row[reference] for row in table) for name in work}


def timed_on_processor(work: Work) -> float:
    """Return the processor time of one call, in seconds."""
    before = time.process_time()
    work()
    return time.process_time() - before


def probe(case: Case, budget: float) -> tuple[dict[str, Any], Work | None]:
    """Run a case twice, in a fresh process; on a GPU, whose allocator tracks memory, in this one.

    Returns:
        A dict with ``status`` and, if that is ``"ok"``, ``params``, ``macs``, ``seconds`` (of the
        second run) and ``peak_bytes``; and the work, if it was prepared in this process.
    """
    if not case.device.startswith("cuda"):
        return _probe_in_subprocess(case, budget), None
    try:
        answer, work = _probe_in_process(case)
    except torch.OutOfMemoryError:
        return {"status": OUT_OF_MEMORY}, None
    finally:
        torch.cuda.empty_cache()
    return {"status": OK, **answer}, work


def _probe_in_subprocess(case: Case, budget: float) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.measure", json.dumps(asdict(case))]
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": paths}
    environment["VHEATIR_BENCHMARK_THREADS"] = str(torch.get_num_threads())
    start_up = 120
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            cwd=ROOT,
            env=environment,
            text=True,
            timeout=budget + start_up,
        )
    except subprocess.TimeoutExpired:
        return {"status": OVER_BUDGET}
    killed_for_memory = done.returncode == -9
    if killed_for_memory or "out of memory" in done.stderr.lower() or "alloc" in done.stderr[-300:]:
        return {"status": OUT_OF_MEMORY}
    if done.returncode:
        raise RuntimeError(f"{case.method} failed:\n{done.stderr}")
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"status": OK, **answer}


def _probe_in_process(case: Case) -> tuple[dict[str, Any], Work]:
    """Measure in this process, which should be fresh for CPU memory."""
    # A small image loads kernels, thread pools and libraries, which are not the network's cost.
    small = {**asdict(case), "height": 16, "width": 16, "batch": 1, "compiled": None}
    prepare(Case(**small))[1]()
    network, work = prepare(case)
    if case.compiled:
        work()  # exclude the compiler's memory and time
    memory = _gpu_memory if case.device.startswith("cuda") else _process_memory
    answer: dict[str, Any] = {"params": sum(p.numel() for p in network.parameters())}
    with memory(case, answer):
        # Twice, so that what the first call allocates (caches, optimiser states) counts too.
        work()
        start = time.perf_counter()
        work()
        answer["seconds"] = time.perf_counter() - start
    answer["macs"] = None if case.compiled else count_macs(work)
    return answer, work


@contextmanager
def _process_memory(case: Case, answer: dict[str, Any]) -> Iterator[None]:
    baseline = _status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark
    yield
    answer["peak_bytes"] = max(0, _status_bytes("VmHWM") - baseline)


def _status_bytes(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    line = next(line for line in lines if line.startswith(name + ":"))
    return int(line.split()[1]) * 1024


@contextmanager
def _gpu_memory(case: Case, answer: dict[str, Any]) -> Iterator[None]:
    torch.cuda.empty_cache()
    baseline = torch.cuda.memory_allocated(case.device)
    torch.cuda.reset_peak_memory_stats(case.device)
    yield
    answer["peak_bytes"] = torch.cuda.max_memory_allocated(case.device) - baseline


def interleaved(cases: Sequence[Case], repetitions: int, budget: float) -> list[Result]:
    """Measure cases interleaved: one run of each per round.

    Args:
        cases: what to compare.
        repetitions: timed rounds, after one warm-up round.
        budget: time limit per case in seconds; a case that would exceed it is not timed.
    """
    torch.compiler.reset()  # earlier compilations count towards a limit
    results, running = [], []
    for case in cases:
        answer, work = probe(case, budget)
        known = asdict(case)
        result = Result(**{k: v for k, v in known.items() if k in Result.__dataclass_fields__})
        result.status = answer["status"]
        result.params, result.macs = answer.get("params"), answer.get("macs")
        result.peak_bytes = answer.get("peak_bytes")
        result.probe_seconds = answer.get("seconds")
        if answer.get("seconds", 0.0) * (repetitions + 1) > budget:
            result.status = OVER_BUDGET
        results.append(result)
        if result.status == OK:
            running.append((result, case, work))
    ready = [(result, work or prepare(case)[1]) for result, case, work in running]
    for repetition in range(repetitions + 1):
        for result, work in ready:
            start = time.perf_counter()
            work()
            if repetition > 0:  # the first warms up
                result.times.append(time.perf_counter() - start)
    for result, _ in ready:
        result.seconds = median(result.times)
        result.images_per_second = result.batch / result.seconds
    return results


def pairwise_ratio(slow: Result, fast: Result) -> float | None:
    """Return the median over rounds of slow / fast, each pair from one round."""
    pairs = [a / b for a, b in zip(slow.times, fast.times, strict=False)]
    return median(pairs) if pairs else None


def main() -> None:
    """Run one case for :func:`probe` and print the result as JSON."""
    # If memory runs out, the kernel should kill this process, not its parent.
    marker = Path("/proc/self/oom_score_adj")
    if marker.exists():
        marker.write_text("1000")
    torch.set_num_threads(int(os.environ["VHEATIR_BENCHMARK_THREADS"]))
    print(json.dumps(_probe_in_process(Case(**json.loads(sys.argv[1])))[0]))


if __name__ == "__main__":
    main()
