"""Results at hand: what each visitor restored last, for its strength, residual and loupe."""

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

#: Most results kept: what a tiny one takes is not its pixels.
MOST = 200
_LONGEST_OWNER = 100
# Most of a residual, before it is amplified, lies within the range that this quantile spans.
_QUANTILE = 0.99
_STRONGEST_FACTOR = 16
_SAMPLED = 1_000_000  # pixels of a large image, for that quantile


@dataclass(frozen=True)
class Result:
    """One restoration, in the image's own depth.

    Attributes:
        before: (H, W), (H, W, 3) or (H, W, 4), ``uint8`` or ``uint16``.
        restored: what the network made of it, of the same shape and dtype.
        shown: ``restored`` at the strength that was chosen.
        before_file: ``before`` as PNG, in gradio's cache.
        shown_file: ``shown``, likewise.
        stem: name of the upload, without its suffix.
        point: column and row under the loupe.
        made: time of the restoration, in seconds of :func:`time.monotonic`.
    """

    before: NDArray[Any]
    restored: NDArray[Any]
    shown: NDArray[Any]
    before_file: str
    shown_file: str
    stem: str
    point: tuple[int, int]
    made: float = field(default_factory=time.monotonic)

    @property
    def size(self) -> int:
        """Bytes of its pixels; room for ``shown`` is counted also while it is ``restored``."""
        return 3 * self.before.nbytes


class ResultStore:
    """Keeps each visitor's last result, and forgets the oldest first; for any number of threads.

    Args:
        max_bytes: of pixels, for all results together.
        max_age: seconds after which a result is forgotten.
    """

    def __init__(self, max_bytes: int, max_age: float) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._lock = threading.Lock()
        # The one used last at the end; None for one that was too large to be kept.
        self._results: OrderedDict[str, Result | None] = OrderedDict()

    def put(self, owner: str | None, result: Result) -> None:
        """Keep a result in place of the owner's last one, unless it is too large by itself.

        Args:
            owner: the visitor's session; None for a request that has none, so that nobody could
                ask for the result again.
            result: what to keep.
        """
        if owner is None or len(owner) > _LONGEST_OWNER:
            return
        with self._lock:
            self._results.pop(owner, None)
            self._results[owner] = result if result.size <= self._max_bytes else None
            self._shrink()

    def get(self, owner: str | None) -> Result:
        """Return the owner's result, which counts as its use.

        Raises:
            VHeatIRError: it has been forgotten, was too large, or never was.
        """
        with self._lock:
            self._shrink()
            if owner is None or owner not in self._results:
                raise VHeatIRError("this result is no longer kept: press Restore again")
            result = self._results[owner]
            if result is None:
                raise VHeatIRError(
                    "this image is too large to be changed afterwards: set the strength, then "
                    "press Restore again"
                )
            self._results.move_to_end(owner)
            return result

    def change(self, owner: str | None, old: Result, **values: Any) -> Result:
        """Keep a changed result in the place of ``old``, unless a newer restoration is there.

        Args:
            owner: the visitor's session.
            old: what :meth:`get` returned.
            values: the attributes to change.

        Returns:
            The changed result, kept or not.
        """
        changed = replace(old, **values)
        with self._lock:
            now = self._results.get(owner or "")
            if now is not None and now.restored is old.restored:
                self._results[owner or ""] = changed
        return changed

    def forget(self, owner: str | None) -> None:
        """Forget a visitor who has left."""
        with self._lock:
            self._results.pop(owner or "", None)

    def delete_old(self) -> None:
        """Forget what is older than the age allowed."""
        with self._lock:
            self._shrink()

    @property
    def size(self) -> int:
        """Bytes of all pixels kept."""
        with self._lock:
            return self._size()

    def _size(self) -> int:
        return sum(each.size for each in self._results.values() if each)

    def _shrink(self) -> None:
        oldest = time.monotonic() - self._max_age
        for owner in [o for o, each in self._results.items() if each and each.made < oldest]:
            del self._results[owner]
        while len(self._results) > MOST or self._size() > self._max_bytes:
            self._results.popitem(last=False)


def amplified_residual(result: Result) -> tuple[NDArray[np.uint8], int]:
    """Return what was removed, amplified: before minus after.

    The factor depends on the restoration at full strength, so that strengths can be compared.

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
        point: column and row; near a border the part is moved inside.
        side: of the part, in pixels of the image; less where the image is smaller.
        scale: whole number.
    """
    height, width = image.shape[:2]
    left = min(max(point[0] - side // 2, 0), max(width - side, 0))
    top = min(max(point[1] - side // 2, 0), max(height - side, 0))
    part = image[top : top + side, left : left + side]
    return np.repeat(np.repeat(part, scale, axis=0), scale, axis=1)
