"""Store of each visitor's last result, for adjusting its strength and for residual and loupe."""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError
from vheatir.inference.files import Metadata

#: Maximum number of results; for tiny images, pixels are not the main memory cost.
MOST = 200
_LONGEST_OWNER = 100
# The amplification factor keeps residuals up to this quantile in range.
_QUANTILE = 0.99
_STRONGEST_FACTOR = 16
_SAMPLED = 1_000_000  # pixels sampled from a large image for the quantile


@dataclass(frozen=True)
class Result:
    """One restoration, in the image's bit depth.

    Attributes:
        before: (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``.
        restored: output of the network, same shape and dtype.
        shown: ``restored`` at the chosen strength.
        before_file: ``before`` as PNG, in gradio's cache.
        shown_file: ``shown``, likewise.
        stem: name of the upload, without its suffix.
        point: column and row of the loupe's centre.
        strength: of luma and chroma in ``shown``, in percent.
        metadata: metadata of the upload.
        made: time of the restoration, in seconds of :func:`time.monotonic`.
    """

    before: NDArray[Any]
    restored: NDArray[Any]
    shown: NDArray[Any]
    before_file: str
    shown_file: str
    stem: str
    point: tuple[int, int]
    strength: tuple[float, float] = (100, 100)
    metadata: Metadata = Metadata()
    made: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        """Bytes of pixels and metadata; ``shown`` counts even while it is ``restored`` itself."""
        kept = self.metadata
        blocks = (kept.icc or b"", kept.exif, kept.xmp or b"", *kept.png_chunks)
        return 3 * self.before.nbytes + sum(map(len, blocks))


class ResultStore:
    """Stores each visitor's last result, with LRU eviction; thread-safe.

    Args:
        max_bytes: limit for the pixels and metadata of all results together.
        max_age: seconds after which a result is dropped.
    """

    def __init__(self, max_bytes: int, max_age: float) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._lock = threading.RLock()
        # Most recently used last; None for a result that was too large to store.
        self._results: OrderedDict[str, Result | None] = OrderedDict()

    def put(self, owner: str | None, result: Result) -> None:
        """Store a result in place of the owner's last one, unless it is too large by itself.

        Args:
            owner: the visitor's session; None for a request without one, whose result cannot be
                requested again and is not stored.
            result: the result to store.
        """
        if owner is None or len(owner) > _LONGEST_OWNER:
            return
        with self._lock:
            self._results.pop(owner, None)
            self._results[owner] = result if result.size <= self._max_bytes else None
            self.delete_old()

    def get(self, owner: str | None) -> Result:
        """Return the owner's result and mark it as recently used.

        Raises:
            VHeatIRError: it has been dropped, was too large, or never existed.
        """
        with self._lock:
            self.delete_old()
            if owner is None or owner not in self._results:
                raise VHeatIRError("this result is no longer stored: press Restore again")
            result = self._results[owner]
            if result is None:
                raise VHeatIRError(
                    "this image is too large to adjust afterwards: set the strength, then press "
                    "Restore again"
                )
            self._results.move_to_end(owner)
            return result

    def change(self, owner: str | None, old: Result, **values: Any) -> Result:
        """Replace ``old`` by a changed result, unless there is a newer restoration.

        Args:
            owner: the visitor's session.
            old: what :meth:`get` returned.
            values: the attributes to change.

        Returns:
            The changed result, stored or not.
        """
        changed = replace(old, **values)
        with self._lock:
            now = self._results.get(owner or "")
            if now is not None and now.restored is old.restored:
                self._results[owner or ""] = changed
        return changed

    def forget(self, owner: str | None) -> None:
        """Drop the result of a visitor who has left."""
        with self._lock:
            self._results.pop(owner or "", None)

    def delete_old(self) -> None:
        """Drop results older than ``max_age``, and the least recently used beyond the limits."""
        with self._lock:
            oldest = time.monotonic() - self._max_age
            for owner in [o for o, each in self._results.items() if each and each.made < oldest]:
                del self._results[owner]
            while len(self._results) > MOST or self.size > self._max_bytes:
                self._results.popitem(last=False)

    @property
    def size(self) -> int:
        """Bytes of all stored results."""
        with self._lock:
            return sum(each.size for each in self._results.values() if each)


def amplified_residual(result: Result) -> tuple[NDArray[np.uint8], int]:
    """Return the amplified residual: before minus after.

    The factor depends on the result at full strength, so that strengths can be compared.

    Returns:
        ``uint8``, (H, W) or (H, W, 3), 128 where nothing was removed; and the factor, a power of
        two up to 16 at which nearly all of the residual stays in range.
    """
    height, width = result.before.shape[:2]
    step = max(math.isqrt(height * width // _SAMPLED), 1)
    sampled = (image[::step, ::step] for image in (result.before, result.restored))
    typical = float(np.quantile(np.abs(_removed(*sampled)), _QUANTILE))
    factor = _STRONGEST_FACTOR
    while factor > 1 and factor * typical > 127:
        factor //= 2
    residual = _removed(result.before, result.shown)
    residual *= factor
    residual += 128
    return np.rint(residual).clip(0, 255).astype(np.uint8), factor


def _removed(before: NDArray[Any], after: NDArray[Any]) -> NDArray[np.float32]:
    """Return before minus after without alpha, on the scale 0..255."""
    if before.ndim == 3:
        before, after = before[:, :, :3], after[:, :, :3]
    step = np.float32(255 / np.iinfo(before.dtype).max)
    difference = before.astype(np.float32)
    difference -= after
    difference *= step
    return difference


def magnified(image: NDArray[Any], point: tuple[int, int], side: int, scale: int) -> NDArray[Any]:
    """Return the pixels around a point, each ``scale`` x ``scale`` of the result.

    Args:
        image: (H, W) or (H, W, C).
        point: column and row; near a border the window is shifted inside.
        side: side of the window in image pixels; smaller if the image is smaller.
        scale: integer magnification.
    """
    height, width = image.shape[:2]
    left = min(max(point[0] - side // 2, 0), max(width - side, 0))
    top = min(max(point[1] - side // 2, 0), max(height - side, 0))
    part = image[top : top + side, left : left + side]
    return np.repeat(np.repeat(part, scale, axis=0), scale, axis=1)
