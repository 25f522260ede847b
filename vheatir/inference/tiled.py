"""Run a network on an image of any size, whole or in overlapping tiles (:mod:`vheatir.tiles`)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import EllipsisType

import numpy as np
import torch
from torch import Tensor, nn

from vheatir.archs import window_of
from vheatir.archs.base import pad_to_multiple
from vheatir.tiles import cover

Level = float | Tensor | None
Progress = Callable[[int, int], None]
_Area = tuple[EllipsisType] | tuple[EllipsisType, slice, slice]


@torch.no_grad()
def restore_tensor(
    net: nn.Module,
    x: Tensor,
    level: Level = None,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Restore a batch of images without gradients, whole or tile by tile.

    Each tile is moved to the network's device and its result back to the image's, so that a large
    image in main memory needs accelerator memory for one tile only.

    Args:
        net: network called as ``net(x, level)``, or ``net(x)`` where ``level`` is None; returns
            a tensor of the same height and width. For one that needs multiples of a window
            (:func:`vheatir.archs.window_of`), images are padded by reflection.
        x: (B, C, H, W), floating, in [0, 1], any H, W >= 1.
        level: scalar, (B,), or (B, 1, H, W) for one level per pixel, cropped along with the tiles.
        tile: maximum side of a tile in pixels, at least 16; tiles are shrunk as long as their
            number stays the same. None for the whole image at once.
        overlap: minimum overlap of neighbouring tiles in pixels, at most ``tile - 8``; None for 32,
            or half a tile if that is less.
        progress: called as ``progress(done, total)`` after each tile.

    Returns:
        Tensor of the network's channels, with the height, width, dtype and device of ``x``.

    Raises:
        VHeatIRError: an invalid ``tile`` or ``overlap``.
    """
    device = next((parameter.device for parameter in net.parameters()), x.device)
    if tile is None:
        result = _run(net, x.to(device), _crop_level(level, x, (...,), device)).to(x.device)
        if progress is not None:
            progress(1, 1)
        return result.to(x.dtype)
    height, width = x.shape[-2:]
    rows, columns = cover(height, width, tile, overlap)
    dtype = torch.promote_types(x.dtype, torch.float32)  # of the sum
    out: Tensor | None = None
    for index, ((row, across), (column, down)) in enumerate(product(rows, columns)):
        area: _Area = (..., row, column)
        part = x[area].to(device)
        result = _run(net, part, _crop_level(level, x, area, device)).to(x.device)
        if out is None:
            out = x.new_zeros((*result.shape[:-2], height, width), dtype=dtype)
        weights = torch.from_numpy(np.outer(across, down))
        out[area] += result.to(dtype) * weights.to(device=x.device, dtype=dtype)
        if progress is not None:
            progress(index + 1, len(rows) * len(columns))
    assert out is not None
    return out.to(x.dtype)


def _run(net: nn.Module, x: Tensor, level: Level) -> Tensor:
    """Call the network on an image, padded to a multiple of its window."""
    height, width = x.shape[-2:]
    window = window_of(net)
    if window > 1:
        if _is_level_map(level, x):
            level = pad_to_multiple(level, window)  # type: ignore[arg-type]
        x = pad_to_multiple(x, window)
    result = net(x) if level is None else net(x, level)
    return result[..., :height, :width] if window > 1 else result


def self_ensemble(
    net: nn.Module,
    x: Tensor,
    level: Level = None,
    *,
    tile: int | None = None,
    overlap: int | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Restore the eight flips and rotations of ``x`` and return the mean of the eight results.

    Geometric self-ensemble of EDSR (arXiv 1707.02921, section 3.4): slightly better, eight times
    slower. Level maps are flipped and rotated with the image.

    Args:
        net: see :func:`restore_tensor`, also for the other arguments.
        x: (B, C, H, W), floating, in [0, 1].
        level: scalar, (B,), or (B, 1, H, W).
        tile: maximum side of a tile in pixels, or None.
        overlap: minimum overlap of neighbouring tiles in pixels, at most ``tile - 8``; None for 32,
            or half a tile if that is less.
        progress: called as ``progress(done, total)`` over the tiles of all eight runs.

    Returns:
        Tensor of the network's channels, with the height, width, dtype and device of ``x``.
    """
    total: Tensor | None = None
    for index in range(8):

        def report(done: int, count: int, index: int = index) -> None:
            if progress is not None:
                progress(index * count + done, 8 * count)

        turned = restore_tensor(
            net,
            _transform(x, index),
            _transform(level, index) if _is_level_map(level, x) else level,
            tile=tile,
            overlap=overlap,
            progress=report,
        )
        restored = _undo_transform(turned, index)
        total = restored.clone() if total is None else total.add_(restored)
    assert total is not None
    return total / 8


def _transform(image: Tensor | float | None, index: int) -> Tensor:
    """Rotate by ``index % 4`` right angles, then flip for ``index >= 4``."""
    assert isinstance(image, Tensor)
    turned = torch.rot90(image, index % 4, (-2, -1))
    return turned.flip(-1) if index >= 4 else turned


def _undo_transform(image: Tensor, index: int) -> Tensor:
    return torch.rot90(image.flip(-1) if index >= 4 else image, -(index % 4), (-2, -1))


def _is_level_map(level: Level, x: Tensor) -> bool:
    """Whether ``level`` has one value per pixel of ``x``."""
    return isinstance(level, Tensor) and level.ndim == 4 and level.shape[-2:] == x.shape[-2:]


def _crop_level(level: Level, x: Tensor, area: _Area, device: torch.device) -> Level:
    if not isinstance(level, Tensor):
        return level
    return (level[area] if _is_level_map(level, x) else level).to(device)
