"""The result store (one per visitor, bounded, isolated), the residual and the loupe."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest

from vheatir.demo.results import MOST, Result, ResultStore, amplified_residual, magnified
from vheatir.errors import VHeatIRError
from vheatir.inference.files import Metadata


def result(side: int = 10, dtype: Any = np.uint8, **values: Any) -> Result:
    before = np.zeros((side, side, 3), dtype)
    restored = np.ones_like(before)
    named = {"before": before, "restored": restored, "shown": restored, "before_file": "b.png",
             "shown_file": "s.png", "stem": "photo", "point": (0, 0)}  # fmt: skip
    return Result(**{**named, **values})


def test_each_visitor_gets_its_own_last_result() -> None:
    store = ResultStore(1_000_000, 60)
    first, second, other = result(), result(), result()
    store.put("a", first)
    store.put("b", other)
    store.put("a", second)
    assert store.get("a") is second and store.get("b") is other
    store.forget("a")
    assert store.get("b") is other
    for owner in ("a", "c", "", None):
        with pytest.raises(VHeatIRError, match="press Restore again"):
            store.get(owner)


def test_the_bytes_are_bounded_and_the_one_used_longest_ago_goes_first() -> None:
    each = result().size
    assert each == 900
    store = ResultStore(3 * each, 60)
    for owner in "abc":
        store.put(owner, result())
    store.get("a")
    store.put("d", result())
    assert store.size == 3 * each
    with pytest.raises(VHeatIRError, match="press Restore again"):
        store.get("b")
    for owner in "acd":
        store.get(owner)
    # A changed strength takes no more memory: moving a slider evicts nothing.
    now = store.get("d")
    store.change("d", now, shown=np.zeros_like(now.before))
    assert store.size == 3 * each
    store.get("a")


def test_metadata_counts_as_memory() -> None:
    metadata = Metadata(b"icc", b"exif", b"an xmp packet", png_chunks=(b"a text", b"another"))
    large = result(metadata=metadata)
    assert large.size == result().size + 3 + 4 + 13 + 6 + 7
    store = ResultStore(large.size - 1, 60)
    store.put("a", large)
    assert store.size == 0


def test_one_too_large_by_itself_displaces_nobody() -> None:
    store = ResultStore(2000, 60)
    store.put("a", result())
    store.put("b", result(side=100))
    store.get("a")
    with pytest.raises(VHeatIRError, match="too large to adjust afterwards"):
        store.get("b")
    store.put("b", result())
    store.get("b")


def test_tiny_results_and_long_names_are_bounded_too() -> None:
    store = ResultStore(1_000_000, 60)
    for number in range(MOST + 5):
        store.put(str(number), result(side=1))
    assert store.size == MOST * result(side=1).size
    store.put("x" * 1_000_000, result())
    store.put(None, result())
    assert store.size == MOST * result(side=1).size


def test_old_results_are_forgotten() -> None:
    store = ResultStore(1_000_000, 60)
    store.put("old", result(made=time.monotonic() - 61))
    store.put("new", result())
    store.delete_old()
    assert store.size == result().size
    with pytest.raises(VHeatIRError):
        store.get("old")


def test_a_change_does_not_replace_a_newer_restoration() -> None:
    store = ResultStore(1_000_000, 60)
    old, new = result(), result()
    store.put("a", old)
    store.put("a", new)
    assert store.change("a", old, point=(3, 4)).point == (3, 4)
    assert store.get("a") is new
    store.forget("a")
    store.change("a", new, point=(3, 4))
    assert store.size == 0


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_the_residual_is_what_was_removed(dtype: Any) -> None:
    step = 1 if dtype == np.uint8 else 257
    before = np.full((8, 8, 4), 100 * step, dtype)
    restored = before.copy()
    restored[:4, :, 0] -= 10 * step
    restored[:, :, 3] = 0  # alpha is ignored
    residual, factor = amplified_residual(result(before=before, restored=restored, shown=restored))
    assert factor == 8  # 16 times 10 would leave the range
    assert (residual.shape, residual.dtype) == ((8, 8, 3), np.uint8)
    assert (residual[:4, :, 0] == 128 + 80).all() and (residual[4:] == 128).all()
    # At zero strength nothing is removed; the factor is unchanged.
    residual, factor = amplified_residual(result(before=before, restored=restored, shown=before))
    assert factor == 8 and (residual == 128).all()


def test_the_residual_of_a_gray_image_is_gray() -> None:
    before = np.full((8, 8), 7, np.uint8)
    residual, factor = amplified_residual(result(before=before, restored=before, shown=before))
    assert residual.shape == (8, 8) and factor == 16 and (residual == 128).all()


@pytest.mark.parametrize(
    ("point", "top", "left"),
    [((10, 20), 18, 8), ((0, 0), 0, 0), ((29, 39), 36, 26), ((-5, 10**9), 36, 0)],
)
def test_the_loupe_shows_pixels_as_they_are(point: tuple[int, int], top: int, left: int) -> None:
    image = np.random.default_rng(0).integers(0, 65535, (40, 30, 3), dtype=np.uint16)
    shown = magnified(image, point, side=4, scale=3)
    assert shown.shape == (12, 12, 3) and shown.dtype == np.uint16
    for offset in range(3):
        part = shown[offset::3, offset::3]
        np.testing.assert_array_equal(part, image[top : top + 4, left : left + 4])


def test_the_loupe_on_a_small_image_shows_all_of_it() -> None:
    image = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert magnified(image, (1, 1), side=160, scale=2).shape == (4, 6)
