"""Tiling: no seams, any size, level maps cropped too; the self-ensemble against its formula."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from vheatir.errors import VHeatIRError
from vheatir.inference.tiled import restore_tensor, self_ensemble


class AddLevel(nn.Module):
    """Adds the level, of any shape, to the image."""

    def forward(self, x: Tensor, level: float | Tensor | None = None) -> Tensor:
        if level is None:
            return x
        if isinstance(level, Tensor) and level.ndim == 1:
            level = level[:, None, None, None]
        return x + level


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 150),
    width=st.integers(1, 150),
    tile=st.integers(16, 90),
    overlap=st.floats(0, 1),
    batch=st.integers(1, 2),
)
def test_identity_stays_identity(
    height: int, width: int, tile: int, overlap: float, batch: int
) -> None:
    x = torch.rand(batch, 3, height, width)
    y = restore_tensor(nn.Identity(), x, tile=tile, overlap=round(overlap * (tile - 8)))
    torch.testing.assert_close(y, x, rtol=0, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(height=st.integers(1, 100), width=st.integers(1, 100), tile=st.integers(16, 60))
def test_level_maps_are_cropped_along(height: int, width: int, tile: int) -> None:
    x = torch.rand(2, 1, height, width)
    level = torch.rand(2, 1, height, width)
    y = restore_tensor(AddLevel(), x, level, tile=tile, overlap=8)
    torch.testing.assert_close(y, x + level, rtol=0, atol=1e-6)


@pytest.mark.parametrize("level", [0.25, torch.tensor([0.25, 0.5]), torch.full((2, 1, 1, 1), 0.25)])
def test_other_levels_reach_every_tile(level: float | Tensor) -> None:
    x = torch.rand(2, 1, 50, 70)
    y = restore_tensor(AddLevel(), x, level, tile=32, overlap=8)
    torch.testing.assert_close(y, AddLevel()(x, level), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("height", "width"), [(100, 131), (64, 40), (33, 257)])
def test_a_local_network_gives_the_whole_image_result(height: int, width: int) -> None:
    # Three 3x3 convolutions reach 3 pixels; an overlap of 12 trims 3 from each tile.
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.GELU(), nn.Conv2d(8, 8, 3, padding=1), nn.GELU(),
        nn.Conv2d(8, 3, 3, padding=1),
    )  # fmt: skip
    x = torch.rand(1, 3, height, width)
    with torch.no_grad():
        whole = net(x)
    tiled = restore_tensor(net, x, tile=32, overlap=12)
    torch.testing.assert_close(tiled, whole, rtol=0, atol=1e-5)


def test_a_step_between_tiles_is_blended_smoothly() -> None:
    class TileMean(nn.Module):
        """Replaces a tile by its mean: the worst case for seams."""

        def forward(self, x: Tensor) -> Tensor:
            return x.mean((-2, -1), keepdim=True).expand_as(x)

    x = torch.linspace(0, 1, 400).expand(1, 1, 40, 400)
    y = restore_tensor(TileMean(), x, tile=128, overlap=64)
    step = y[..., 1:] - y[..., :-1]
    # Means of neighbouring tiles differ by 64 / 399; a smoothstep over 32 pixels is at most 1.5
    # times as steep as a straight line.
    assert step.min() >= -1e-6
    assert step.max() <= 1.5 * (64 / 399) / 32 + 1e-6


def test_pixel_unshuffle_keeps_its_phase_in_tiles() -> None:
    class EveryOther(nn.Module):
        """Clears every second row and column, counted from the corner of its input."""

        def forward(self, x: Tensor) -> Tensor:
            mask = torch.zeros_like(x)
            mask[..., ::2, ::2] = 1
            return x * mask

    x = torch.rand(1, 1, 101, 87)
    y = restore_tensor(EveryOther(), x, tile=37, overlap=9)
    torch.testing.assert_close(y, EveryOther()(x), rtol=0, atol=1e-6)


def test_tiles_keep_to_their_size_and_report_progress() -> None:
    sizes: list[tuple[int, ...]] = []
    calls: list[tuple[int, int]] = []

    class Spy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            sizes.append(tuple(x.shape[-2:]))
            return x

    restore_tensor(
        Spy(), torch.rand(1, 1, 77, 120), tile=48, overlap=16, progress=lambda *a: calls.append(a)
    )
    assert max(max(size) for size in sizes) <= 48
    assert calls == [(i + 1, len(sizes)) for i in range(len(sizes))]


@settings(max_examples=200, deadline=None)
@given(size=st.integers(1, 700), tile=st.integers(16, 300), share=st.floats(0, 1))
def test_tiles_are_few_aligned_overlapping_and_even(size: int, tile: int, share: float) -> None:
    overlap = round(share * (tile - 8))
    spans: list[tuple[int, int]] = []

    class Spy(nn.Module):
        """Reads the position of a tile from a ramp."""

        def forward(self, x: Tensor) -> Tensor:
            spans.append((int(x.min()), int(x.max()) + 1))
            return x

    restore_tensor(Spy(), torch.arange(size).float().view(1, 1, 1, -1), tile=tile, overlap=overlap)
    sides = [stop - start for start, stop in spans]
    assert spans[0][0] == 0
    assert spans[-1][1] == size
    assert max(sides) <= tile
    assert all(start % 8 == 0 for start, _ in spans)
    assert all(a[1] - b[0] >= overlap for a, b in pairwise(spans))
    # As few tiles as possible up to the alignment, and as even as it permits.
    step = max(8, (tile - overlap) // 8 * 8)
    assert len(spans) == 1 + max(0, -(-(size - tile) // step))
    if len(spans) > 1:
        needed = (size + (len(spans) - 1) * overlap) / len(spans)
        assert max(sides) < needed + 16


def test_channels_and_dtype_of_the_result() -> None:
    net = nn.Conv2d(3, 1, 1)
    x = torch.rand(1, 3, 40, 50)
    assert restore_tensor(net, x, tile=32, overlap=8).shape == (1, 1, 40, 50)
    y = restore_tensor(nn.Identity(), x.double(), tile=32, overlap=8)
    assert y.dtype == torch.float64
    torch.testing.assert_close(y, x.double(), rtol=0, atol=1e-14)


def test_no_gradients_are_recorded() -> None:
    net = nn.Conv2d(1, 1, 3, padding=1)
    assert not restore_tensor(net, torch.rand(1, 1, 9, 9)).requires_grad


@pytest.mark.parametrize(("tile", "overlap"), [(8, 0), (0, 0), (64, 60), (64, -1)])
def test_impossible_tiles_are_refused(tile: int, overlap: int) -> None:
    with pytest.raises(VHeatIRError, match="give"):
        restore_tensor(nn.Identity(), torch.rand(1, 1, 20, 20), tile=tile, overlap=overlap)


@pytest.mark.parametrize("tile", [None, 16])
def test_self_ensemble_is_the_mean_over_eight(tile: int | None) -> None:
    class Shift(nn.Module):
        """Direction-dependent: the mean of each pixel and its left neighbour, plus the level."""

        def forward(self, x: Tensor, level: Tensor) -> Tensor:
            left = torch.cat([x[..., :1], x[..., :-1]], dim=-1)
            return (x + left) / 2 + level

    x = torch.rand(1, 2, 20, 31, dtype=torch.float64)
    level = torch.rand(1, 1, 20, 31, dtype=torch.float64)
    # Over the eight transforms each of the four neighbours takes the "left" role twice.
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="replicate")
    neighbours = (
        padded[..., 1:-1, :-2] + padded[..., 1:-1, 2:]
        + padded[..., :-2, 1:-1] + padded[..., 2:, 1:-1]
    ) / 4  # fmt: skip
    calls: list[tuple[int, int]] = []
    y = self_ensemble(Shift(), x, level, tile=tile, overlap=8, progress=lambda *a: calls.append(a))
    torch.testing.assert_close(y, (x + neighbours) / 2 + level, rtol=0, atol=1e-12)
    assert calls[-1][0] == calls[-1][1] == len(calls)


def test_self_ensemble_leaves_its_input_alone() -> None:
    x = torch.rand(1, 3, 12, 17)
    before = x.clone()
    self_ensemble(nn.Identity(), x)
    assert torch.equal(x, before)


class Windows(nn.Module):
    """Shifts every window of 8x8 pixels to mean zero; other sizes are an error."""

    def __init__(self, **given: object) -> None:
        super().__init__()
        self.__dict__.update(given)

    def forward(self, x: Tensor) -> Tensor:
        cut = x.unflatten(-1, (-1, 8)).unflatten(-3, (-1, 8))
        return (cut - cut.mean((-3, -1), keepdim=True)).flatten(-4, -3).flatten(-2)


@pytest.mark.parametrize(
    "given",
    [
        {"window_size": 8},
        {"window_size": (8, 4)},
        {"window_size": None, "vheatir_config": {"window_size": 8}},
        {"vheatir_config": {"window_size": [8, 8]}},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [(16, 24), (13, 18), (9, 32), (3, 5)])
def test_images_off_the_window_are_padded_and_cropped(
    given: dict[str, object], size: tuple[int, int]
) -> None:
    network = Windows(**given)
    x = torch.rand(2, 3, *size)
    bottom, right = -size[0] % 8, -size[1] % 8
    mode = "reflect" if min(size) > 8 else "edge"
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (0, bottom), (0, right)), mode=mode)
    expected = network(torch.from_numpy(padded))[..., : size[0], : size[1]]
    assert torch.equal(restore_tensor(network, x), expected)
    assert restore_tensor(network, x, tile=16, overlap=8).shape == x.shape


def test_a_level_per_pixel_is_padded_with_the_image() -> None:
    class Adds(Windows):
        def forward(self, x: Tensor, level: Tensor) -> Tensor:  # type: ignore[override]
            assert x.shape[2:] == level.shape[2:] == (16, 16)
            return x + level

    x, level = torch.rand(1, 3, 9, 10), torch.rand(1, 1, 9, 10)
    assert torch.equal(restore_tensor(Adds(window_size=8), x, level), x + level)
