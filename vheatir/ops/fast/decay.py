"""The decay exp(-k w^2) of the HCO at inference: kept between calls, or computed in strips."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from vheatir.ops.fast import fused, strips
from vheatir.ops.heat_conduction import HeatConduction2d, interpolation_matrix, squared_frequency

#: Total size in bytes of the decay maps that all modules may cache between calls.
DECAY_CACHE_BYTES = 32 * 2**20


class DecayMap(NamedTuple):
    """A decay map (H, W, C) and the diffusivity k (h, w, C) that it belongs to."""

    diffusivity: Tensor
    decay: Tensor


#: The cached map of each module; outside the modules, so that their copies leave it behind.
maps: weakref.WeakKeyDictionary[HeatConduction2d, DecayMap] = weakref.WeakKeyDictionary()
_lock = threading.Lock()


def decay_function(
    module: HeatConduction2d, spectrum: Tensor, k: Tensor
) -> Callable[[Tensor, int], object]:
    """Return an in-place ``decay_(strip, left)``, where ``left`` is the strip's first column.

    In order of preference: the fused kernel, which computes the decay on the fly; the cached decay
    map; or the decay of each strip in turn, if the map does not fit into the cache.

    Args:
        module: whose cache to use, if its ``cache_decay`` is set.
        spectrum: (B, H, W, C), to which the strips of columns belong.
        k: thermal diffusivity on a grid, (h, w, C).
    """
    height, width = spectrum.shape[1:3]
    if fused.can_decay(spectrum, k):
        from vheatir.ops.fast import triton_kernels

        k = k.contiguous()
        return lambda y, left: triton_kernels.decay_(y, k, left, width)
    if module.cache_decay and _reserve(module, k, height, width):
        decay = _cached_map(module, k, height, width)
        return lambda y, left: y.mul_(decay[:, left : left + y.shape[2]])
    _drop(module)
    strip = decay_strips(k, height, width)
    return lambda y, left: y.mul_(strip(left, left + y.shape[2]))


def decay_strips(k: Tensor, height: int, width: int) -> Callable[[int, int], Tensor]:
    """Return a function that computes exp(-k w^2) for a range of columns, (H, columns, C).

    k (h, w, C) is interpolated to the frequencies of the image, as by
    :func:`vheatir.ops.heat_conduction.interpolate`.
    """
    to_rows = interpolation_matrix(height, k.shape[0], k)
    to_columns = interpolation_matrix(width, k.shape[1], k)
    across = torch.einsum("wb,abc->awc", to_columns, k)
    minus_omega = -squared_frequency(height, width, k.dtype, k.device)[..., None]

    def strip(left: int, right: int) -> Tensor:
        k_strip = (to_rows @ across[:, left:right].flatten(1)).view(height, -1, k.shape[2])
        return k_strip.mul_(minus_omega[:, left:right]).exp_()

    return strip


def _drop(module: HeatConduction2d) -> None:
    with _lock:
        maps.pop(module, None)


def _reserve(module: HeatConduction2d, k: Tensor, height: int, width: int) -> bool:
    """Reserve cache space for a decay map; evict maps of other image sizes if necessary."""
    size = height * width * k.shape[2] * k.element_size()
    with _lock:
        others = {m: cached.decay for m, cached in maps.items() if m is not module}
        total = size + sum(decay.nbytes for decay in others.values())
        for other, decay in others.items():
            if total > DECAY_CACHE_BYTES >= size and decay.shape[:2] != (height, width):
                del maps[other]
                total -= decay.nbytes
        return total <= DECAY_CACHE_BYTES


def _cached_map(module: HeatConduction2d, k: Tensor, height: int, width: int) -> Tensor:
    """Return the decay map of k, computed now unless it is the cached one."""
    cached = maps.get(module)
    # k is small, so compare it directly: this detects every change of weights, dtype or device,
    # including changes through `.data`, which do not increment the version counter.
    if (
        cached is not None
        and cached.decay.shape[:2] == (height, width)
        and cached.diffusivity.dtype == k.dtype
        and cached.diffusivity.device == k.device
        and torch.equal(cached.diffusivity, k)
    ):
        return cached.decay
    # Free the old map before allocating the new one.
    _drop(module)
    del cached
    decay = k.new_empty(height, width, k.shape[2])
    strip = decay_strips(k, height, width)

    def fill(left: int, right: int) -> None:
        decay[:, left:right] = strip(left, right)

    strips.for_each_strip(width, height, k.device, fill)
    with _lock:
        maps[module] = DecayMap(k.clone(), decay)
    return decay
