"""Run a network on an image of any size, whole or in overlapping tiles.

Tiles are blended by weights that sum to one at every pixel. In the overlap of two tiles, the outer
quarter of each has weight zero, since its pixels have the least context; the weight passes from one
tile to the next over the middle half. A network whose receptive field extends at most ``overlap /
4`` pixels therefore gives the same result in tiles as on the whole image.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from types import EllipsisType

import torch
from torch import Tensor, nn

from vheatir.archs import window_of
from vheatir.archs.base import pad_to_multiple
from vheatir.errors import VHeatIRError

Level = float | Tensor | None
Progress = Callable[[int, int], None]
_Area = tuple[EllipsisType, slice, slice]

# Tiles start at multiples of this, so that JPEG's 8x8 blocks and pixel-unshuffle by 2, 4 or 8 are
# aligned as in the whole image.
ALIGNMENT = 8
MIN_TILE = 16


def restore_tensor(
    net: nn.Module,
    x: Tensor,
    level: Level = None,
    *,
    tile: int | None = None,
    overlap: int = 32,
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
        overlap: minimum overlap of neighbouring tiles in pixels; at most ``tile - 8``.
        progress: called as ``progress(done, total)`` after each tile.

    Returns:
        Tensor of the network's channels, with the height, width, dtype and device of ``x``.

    Raises:
        VHeatIRError: an invalid ``tile`` or ``overlap``.
    """
    if tile is not None and tile < MIN_TILE:
        raise VHeatIRError(f"tile {tile} is too small: give at least {MIN_TILE} pixels")
    if tile is not None and not 0 <= overlap <= tile - ALIGNMENT:
        raise VHeatIRError(
            f"overlap {overlap} does not fit tiles of {tile}: give 0 to {tile - ALIGNMENT}"
        )
    height, width = x.shape[-2:]
    rows = _spans(height, tile or height, overlap)
    columns = _spans(width, tile or width, overlap)
    device = next((parameter.device for parameter in net.parameters()), x.device)
    total = len(rows) * len(columns)
    out: Tensor | None = None
    with torch.no_grad():
        for index, ((row, across), (column, down)) in enumerate(product(rows, columns)):
            area: _Area = (..., row, column)
            part = x[area].to(device)
            part_level = _crop_level(level, x, area, device)
            result = _run(net, part, part_level).to(x.device)
            if total == 1:
                out = result
            else:
                # Accumulate in at least float32.
                dtype = torch.promote_types(x.dtype, torch.float32)
                if out is None:
                    out = x.new_zeros((*result.shape[:-2], height, width), dtype=dtype)
                weights = across[:, None] * down
                out[area] += result.to(dtype) * weights.to(device=x.device, dtype=dtype)
            if progress is not None:
                progress(index + 1, total)
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
    overlap: int = 32,
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
        overlap: minimum overlap of neighbouring tiles in pixels.
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
    unflipped = image.flip(-1) if index >= 4 else image
    return torch.rot90(unflipped, -(index % 4), (-2, -1))


def _is_level_map(level: Level, x: Tensor) -> bool:
    """Whether ``level`` has one value per pixel of ``x``."""
    return isinstance(level, Tensor) and level.ndim == 4 and level.shape[-2:] == x.shape[-2:]


def _crop_level(level: Level, x: Tensor, area: _Area, device: torch.device) -> Level:
    if not isinstance(level, Tensor):
        return level
    return (level[area] if _is_level_map(level, x) else level).to(device)


def _spans(size: int, tile: int, overlap: int) -> list[tuple[slice, Tensor]]:
    """Cover ``size`` pixels with tiles of at most ``tile``, with weights that sum to one."""
    starts = _starts(size, tile, overlap)
    # Shrink the tiles as far as their number allows: extra overlap would only cost time.
    shared = -(-overlap // ALIGNMENT) * ALIGNMENT
    even = -(-(size + (len(starts) - 1) * shared) // len(starts))
    tile = min(tile, -(-even // ALIGNMENT) * ALIGNMENT)
    starts = _starts(size, tile, overlap)
    stops = [min(start + tile, size) for start in starts]

    # ramps[i] rises from 0 to 1 where tile i takes over from tile i - 1. They are ordered,
    # ramps[i] >= ramps[i + 1], so their differences are weights: >= 0, summing to one, and zero
    # outside the tile, even where three tiles overlap.
    centres = torch.arange(size, dtype=torch.float64) + 0.5
    ramps = [torch.ones_like(centres)]
    for start, stop in zip(starts[1:], stops[:-1], strict=True):
        margin = (stop - start) / 4
        length = max(stop - start - 2 * margin, 1e-9)
        t = ((centres - start - margin) / length).clamp(0, 1)
        ramps.append(t * t * (3 - 2 * t))
    ramps.append(torch.zeros_like(centres))
    return [
        (slice(start, stop), (ramps[i] - ramps[i + 1])[start:stop])
        for i, (start, stop) in enumerate(zip(starts, stops, strict=True))
    ]


def _starts(size: int, tile: int, overlap: int) -> list[int]:
    """Return the start of each tile, for the fewest tiles that overlap by at least ``overlap``."""
    step = max(ALIGNMENT, (tile - overlap) // ALIGNMENT * ALIGNMENT)
    starts = [0]
    # The last tile is moved back to end at the image border, up to the alignment.
    last = -(-max(size - tile, 0) // ALIGNMENT) * ALIGNMENT
    while starts[-1] < last:
        starts.append(min(starts[-1] + step, last))
    return starts
