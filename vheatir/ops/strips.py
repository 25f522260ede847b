"""Work on an image in strips that stay in the caches of the processor or the GPU.

On a CPU several threads share the work. PyTorch's own threads meet after every operation, which for
small strips costs more than they gain, and up to a time slice each where the cores are busy with
something else. Here each thread works through a band of rows, or of columns, by itself, and they
meet once.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Whether bands of rows go to a pool of threads; otherwise to PyTorch's, in larger strips.
POOLED = True

_STRIP_TOKENS = 8192
_LEAST_ROWS = 4
# On a GPU, enough work for each kernel, and little enough for its second-level cache.
_GPU_STRIP_TOKENS = 2**16
# Without the pool, strips for several threads are larger, for fewer meetings.
_SEVERAL_THREADS = 8
# More bands than threads, so that one that is held up leaves its work to the others; but none of
# less than half a strip.
_BANDS_A_THREAD = 4
_LEAST_BAND = 16

Band = tuple[int, int]


def on_cpu(device: torch.device) -> bool:
    """Tell whether strips are a CPU's: small, many, and shared by threads."""
    return device.type == "cpu"


def can_stream(module: nn.Module, x: Tensor) -> bool:
    """Tell whether ``module`` may work on x (B, H, W, C) in strips: at inference, not compiled."""
    return (
        not (torch.is_grad_enabled() or module.training or torch.compiler.is_compiling())
        and x.is_contiguous()
    )


def batches(x: Tensor) -> Sequence[Tensor]:
    """Divide images (B, H, W, C) into those that go through together: on a GPU, one strip's."""
    together = 1 if on_cpu(x.device) else _GPU_STRIP_TOKENS // (x.shape[1] * x.shape[2])
    return x.split(max(1, together))


def strips(band: Band, across: int, device: torch.device) -> Iterator[Band]:
    """Yield the strips of a band of rows or columns, first and one past the last.

    Args:
        band: what is to be divided.
        across: tokens of each row or column.
        device: that will work on them.
    """
    first, last = band
    if on_cpu(device):
        tokens = _STRIP_TOKENS * (_SEVERAL_THREADS if torch.get_num_threads() > 1 else 1)
        step = max(_LEAST_ROWS, tokens // across)
    else:
        count = -(-(last - first) * across // _GPU_STRIP_TOKENS)
        step = -(-(last - first) // count)  # all of one size
    for top in range(first, last, step):
        yield top, min(top + step, last)


def bands(length: int, across: int, device: torch.device) -> list[Band]:
    """Return the bands of rows or columns that threads work on by themselves.

    Args:
        length: number of rows or columns.
        across: tokens of each.
        device: that will work on them.
    """
    threads = torch.get_num_threads() if POOLED and on_cpu(device) else 1
    count = min(_BANDS_A_THREAD * threads, max(threads, 2 * length * across // _STRIP_TOKENS))
    count = max(1, min(count, length // _LEAST_BAND)) if threads > 1 else 1
    edges = [length * i // count for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def for_each_strip(
    length: int, across: int, device: torch.device, work: Callable[[int, int], object]
) -> None:
    """Call ``work`` with the ends of every strip of ``length`` rows or columns, as above."""

    def through(band: Band) -> None:
        for ends in strips(band, across, device):
            work(*ends)

    for_each(bands(length, across, device), through)


def for_each(parts: Sequence[Band], work: Callable[[Band], None]) -> None:
    """Call ``work`` with every band, on the pool if there are several.

    The threads take over the caller's gradient, inference and autocast modes. Returns when all
    are done; the first error is raised then.
    """
    if len(parts) == 1:
        work(parts[0])
        return
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def as_the_caller(part: Band) -> None:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", dtype=dtype, enabled=enabled),
        ):
            work(part)

    futures = _submit(as_the_caller, parts)
    wait(futures)
    for future in futures:
        future.result()


def convolve_rows(
    conv: nn.Conv2d, before: Callable[[Tensor], Tensor] | None, x: Tensor, top: int, bottom: int
) -> Tensor:
    """Return rows ``top`` to ``bottom`` of ``conv(before(x))``; arguments as below."""
    first, last = max(0, top - 1), min(x.shape[1], bottom + 1)  # the convolution's reach
    y = x[:, first:last] if before is None else before(x[:, first:last])
    # Rows that are there need no zeros around them; results of the neighbours' rows are not made.
    inside = first < top and bottom < last
    padding = (0 if inside else 1, 1)
    y = F.conv2d(y.permute(0, 3, 1, 2), conv.weight, conv.bias, padding=padding, groups=conv.groups)
    y = y.permute(0, 2, 3, 1)
    return y if inside else y[:, top - first : bottom - first]


def add_convolution(
    conv: nn.Conv2d, before: Callable[[Tensor], Tensor] | None, x: Tensor, out: Tensor
) -> None:
    """Add ``conv(before(x))``, a 3x3 convolution, to ``out`` in place, strip by strip.

    Args:
        conv: from the channels of x to those of out.
        before: applied pixel by pixel, or None.
        x: (B, H, W, C), not changed.
        out: (B, H, W, C), another tensor.
    """

    def work(top: int, bottom: int) -> None:
        out[:, top:bottom] += convolve_rows(conv, before, x, top, bottom)

    for_each_strip(x.shape[1], x.shape[2], x.device, work)


_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None
_pool_size = 0


def _submit(work: Callable[[Band], None], parts: Sequence[Band]) -> list[Future[None]]:
    global _pool, _pool_size
    threads = torch.get_num_threads()
    with _lock:
        if _pool is None or _pool_size != threads:
            if _pool is not None:
                _pool.shutdown(wait=False)  # what it has been given it still does
            _pool, _pool_size = _start(threads), threads
        return [_pool.submit(work, part) for part in parts]


def _start(threads: int) -> ThreadPoolExecutor:
    """Start all threads of a pool, each computing alone."""
    pool = ThreadPoolExecutor(threads, "vheatir-strips", _compute_alone)
    started = threading.Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    # The number is each thread's own from now on, but new threads would still start with one.
    torch.set_num_threads(threads)
    return pool


def _compute_alone() -> None:
    torch.set_num_threads(1)
    # A thread takes over the last number that any thread has set when it first looks: look now.
    torch.get_num_threads()


def _forget_pool() -> None:
    global _lock, _pool
    _lock, _pool = threading.Lock(), None


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child starts its own.
    os.register_at_fork(after_in_child=_forget_pool)
