"""Overlapping tiles that cover an image, and the weights that blend them.

The weights sum to one at every pixel. In the overlap of two tiles, the outer quarter of each has
weight zero, since its pixels have the least context; the weight passes from one tile to the next
over the middle half. A network whose receptive field extends at most ``overlap / 4`` pixels
therefore gives the same result in tiles as on the whole image.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError

# Tiles start at multiples of this, so that JPEG's 8x8 blocks and pixel-unshuffle by 2, 4 or 8 are
# aligned as in the whole image.
ALIGNMENT = 8
MIN_TILE = 16
#: Side of the tiles of large images, where the user gives none, and their overlap.
AUTO_TILE = 512
OVERLAP = 32

Spans = list[tuple[slice, NDArray[np.float64]]]


def cover(
    height: int, width: int, tile: int | None, overlap: int | None = None
) -> tuple[Spans, Spans]:
    """Cover an image with tiles: every pair of a row span and a column span is one.

    Args:
        height: height of the image in pixels, at least 1.
        width: width of the image in pixels, at least 1.
        tile: largest side of a tile in pixels, at least 16; None for one tile, the whole image.
        overlap: minimum overlap of neighbouring tiles in pixels; at most ``tile - 8``. None for 32,
            or half a tile if that is less.

    Returns:
        For rows and for columns, the spans of the tiles in pixels with the weight at each pixel.
        The weight of a tile at a pixel is the product of both.

    Raises:
        VHeatIRError: an invalid ``tile`` or ``overlap``.
    """
    if tile is not None and tile < MIN_TILE:
        raise VHeatIRError(f"tile {tile} is too small: give at least {MIN_TILE} pixels")
    if overlap is None:
        overlap = 0 if tile is None else min(OVERLAP, tile // 2)
    if tile is not None and not 0 <= overlap <= tile - ALIGNMENT:
        raise VHeatIRError(
            f"overlap {overlap} does not fit tiles of {tile}: give 0 to {tile - ALIGNMENT}"
        )
    return _spans(height, tile or height, overlap), _spans(width, tile or width, overlap)


def _spans(size: int, tile: int, overlap: int) -> Spans:
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
    centres = np.arange(size, dtype=np.float64) + 0.5
    ramps = [np.ones_like(centres)]
    for start, stop in zip(starts[1:], stops[:-1], strict=True):
        margin = (stop - start) / 4
        length = max(stop - start - 2 * margin, 1e-9)
        t = ((centres - start - margin) / length).clip(0, 1)
        ramps.append(t * t * (3 - 2 * t))
    ramps.append(np.zeros_like(centres))
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
