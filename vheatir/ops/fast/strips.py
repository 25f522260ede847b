"""Cache blocking: process an image in strips of rows or columns that fit into cache.

A strip is small enough to stay in the CPU cache, or the L2 cache of a GPU, across consecutive
operations. On a CPU, a thread pool processes bands of several strips in parallel. PyTorch's own
threads synchronise after every operation, which costs small strips more than it gains them, and up
to a time slice each if other processes use the cores. Here each thread processes its bands
independently, and all of them synchronise once at the end.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.ops.dispatch import infers

#: Whether a thread pool processes bands in parallel; if not, PyTorch's threads, in larger strips.
POOLED = True

_STRIP_TOKENS = 8192
_MIN_ROWS = 4
# On a GPU: large enough to occupy each kernel, small enough for the L2 cache.
_GPU_STRIP_TOKENS = 2**16
# Without the pool, PyTorch's threads get strips this many times larger, to synchronise less often.
_MULTITHREADED_FACTOR = 8
# More bands than threads balances the load if a thread is delayed, but no band is smaller than half
# a strip.
_BANDS_PER_THREAD = 4
_MIN_BAND = 16

#: First and one past the last row or column.
Band = tuple[int, int]


def on_cpu(device: torch.device) -> bool:
    """Whether to use CPU strips: small, many, and shared among threads."""
    return device.type == "cpu"


def can_stream(module: nn.Module, x: Tensor) -> bool:
    """Whether ``module`` may process x (B, H, W, C) in strips: at inference, not compiled."""
    return infers(module) and x.is_contiguous()


def batches(x: Tensor) -> Sequence[Tensor]:
    """Split images (B, H, W, C) into batches to process together: up to one strip on a GPU."""
    together = 1 if on_cpu(x.device) else _GPU_STRIP_TOKENS // (x.shape[1] * x.shape[2])
    return x.split(max(1, together))


def strips(band: Band, across: int, device: torch.device) -> Iterator[Band]:
    """Yield the strips of a band of rows or columns as (first, one past the last).

    Args:
        band: rows or columns to divide.
        across: tokens per row or column.
        device: that processes the strips.
    """
    first, last = band
    across = max(1, across)  # an empty batch has no tokens
    if on_cpu(device):
        tokens = _STRIP_TOKENS * (_MULTITHREADED_FACTOR if torch.get_num_threads() > 1 else 1)
        step = max(_MIN_ROWS, tokens // across)
    else:
        count = -(-(last - first) * across // _GPU_STRIP_TOKENS)
        step = -(-(last - first) // count)  # of equal size
    for top in range(first, last, step):
        yield top, min(top + step, last)


def bands(length: int, across: int, device: torch.device) -> list[Band]:
    """Return the bands of rows or columns that threads process independently.

    Args:
        length: number of rows or columns.
        across: tokens per row or column.
        device: that processes the bands.
    """
    threads = torch.get_num_threads() if POOLED and on_cpu(device) else 1
    count = min(_BANDS_PER_THREAD * threads, max(threads, 2 * length * across // _STRIP_TOKENS))
    count = max(1, min(count, length // _MIN_BAND)) if threads > 1 else 1
    edges = [length * i // count for i in range(count + 1)]
    return list(zip(edges[:-1], edges[1:], strict=True))


def for_each_strip(
    length: int, across: int, device: torch.device, work: Callable[[int, int], object]
) -> None:
    """Call ``work(first, last)`` for every strip of ``length`` rows or columns, ``last`` exclusive.

    Arguments as in :func:`bands`.
    """

    def process_band(band: Band) -> None:
        for first, last in strips(band, across, device):
            work(first, last)

    for_each(bands(length, across, device), process_band)


def for_each(parts: Sequence[Band], work: Callable[[Band], None]) -> None:
    """Call ``work`` for every band, on the thread pool if there are several.

    The threads inherit the caller's gradient, inference and autocast modes. Returns when all bands
    are done, and then raises the first error.
    """
    if len(parts) == 1:
        work(parts[0])
        return
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    enabled, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")

    def with_callers_modes(part: Band) -> None:
        with (
            torch.inference_mode(inference),
            torch.set_grad_enabled(grad),
            torch.autocast("cpu", dtype=dtype, enabled=enabled),
        ):
            work(part)

    with _lock:
        pool = _pool(torch.get_num_threads())
        futures = [pool.submit(with_callers_modes, part) for part in parts]
    wait(futures)
    for future in futures:
        future.result()


def convolve_rows(
    conv: nn.Conv2d, before: Callable[[Tensor], Tensor] | None, x: Tensor, top: int, bottom: int
) -> Tensor:
    """Return rows ``top`` to ``bottom`` (exclusive) of ``conv(before(x))``, a 3x3 convolution.

    Arguments as in :func:`add_convolution`.
    """
    first, last = max(0, top - 1), min(x.shape[1], bottom + 1)  # one row of halo on either side
    y = x[:, first:last] if before is None else before(x[:, first:last])
    # Strips inside the image have a halo on both sides: no zero padding, no extra output rows.
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
        conv: maps the channels of x to those of out.
        before: pixel-wise function applied to strips of x, or None.
        x: (B, H, W, C), not modified.
        out: (B, H, W, C), must not be x.
    """

    def work(top: int, bottom: int) -> None:
        out[:, top:bottom] += convolve_rows(conv, before, x, top, bottom)

    for_each_strip(x.shape[1], x.shape[2], x.device, work)


_lock = threading.Lock()


# A pool that is dropped for another number of threads still completes the work submitted so far.
@lru_cache(maxsize=1)
def _pool(threads: int) -> ThreadPoolExecutor:
    """Start all threads of a pool, each with a single PyTorch thread."""
    pool = ThreadPoolExecutor(threads, "vheatir-strips", _use_one_thread)
    started = threading.Barrier(threads + 1)
    for _ in range(threads):
        pool.submit(started.wait)
    started.wait()
    # The setting is now local to each worker, but new threads would still inherit 1: restore it.
    torch.set_num_threads(threads)
    return pool


def _use_one_thread() -> None:
    torch.set_num_threads(1)
    # A thread adopts the most recent global setting on its first query: query now to pin it.
    torch.get_num_threads()


def _reset_pool() -> None:
    global _lock
    _lock = threading.Lock()
    _pool.cache_clear()


if hasattr(os, "register_at_fork"):
    # Threads do not survive a fork: a child process starts its own pool.
    os.register_at_fork(after_in_child=_reset_pool)
