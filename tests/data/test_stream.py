"""Samples as a pure function of seed, epoch and index, in an order with random access."""

from __future__ import annotations

import importlib.util
import itertools
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch.utils.data import DataLoader

from vheatir.basicsr_import import import_basicsr
from vheatir.data.restoration_dataset import (
    RestorationDataset,
    augment,
    init_worker,
    window,
)
from vheatir.data.sampler import SampleStream
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange, degrade_for_training, jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image
from vheatir.tasks import get_task

# the test needs three workers, even on two cores
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

SIZE = 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    rng = np.random.default_rng(0)
    for name, shape in (("a.png", (48, 61, 3)), ("b.bmp", (70, 52, 3)), ("sub/c.png", (64, 64))):
        write_image(folder / name, rng.integers(256, size=shape, dtype=np.uint8))
    return folder


def dataset(folder: Path, task: str = "denoise_color", **options: object) -> RestorationDataset:
    what = DegradationRange(get_task(task), *((0, 55) if "noise" in task else (5, 95)))
    source = ImageSource([folder], get_task(task).color, cache=bool(options.pop("cache", True)))
    settings: dict[str, Any] = {"source": source, "degradation": what, "size": SIZE, "seed": 7}
    return RestorationDataset(**{**settings, "enlarge": 4, **options})


def batches(data: RestorationDataset, count: int, workers: int = 0, **stream: int) -> list[dict]:
    stream = {"batch_size": 4, **stream}
    loader = DataLoader(
        data,
        batch_sampler=SampleStream(len(data), seed=7, **stream),
        num_workers=workers,
        worker_init_fn=init_worker,
        multiprocessing_context="fork" if workers else None,
    )
    return list(itertools.islice(iter(loader), count))


def same(one: list[dict], other: list[dict]) -> bool:
    return len(one) == len(other) and all(
        a["gt_path"] == b["gt_path"] and all(torch.equal(a[k], b[k]) for k in ("lq", "gt", "level"))
        for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("task", ["denoise_color", "denoise_gray", "jpeg_gray", "jpeg_color"])
def test_crops_repeat_for_any_number_of_workers(folder: Path, task: str) -> None:
    data = dataset(folder, task)
    alone = batches(data, 8)
    assert same(alone, batches(data, 8, workers=1))
    assert same(alone, batches(data, 8, workers=3))


def test_crops_differ_between_epochs_and_between_seeds(folder: Path) -> None:
    data = dataset(folder)
    first, again = (data[epoch, 5] for epoch in (0, 1))
    other = dataset(folder, seed=8)[0, 5]
    for key in ("lq", "gt"):
        assert not torch.equal(first[key], again[key])
        assert not torch.equal(first[key], other[key])
        assert torch.equal(first[key], data[0, 5][key])


def test_each_epoch_visits_every_sample_once_in_an_order_of_its_own() -> None:
    keys = list(itertools.islice(itertools.chain.from_iterable(SampleStream(12, 5, seed=3)), 36))
    epochs = [[index for epoch, index in keys if epoch == n] for n in range(3)]
    assert [key[0] for key in keys] == [0] * 12 + [1] * 12 + [2] * 12
    assert all(sorted(order) == list(range(12)) for order in epochs)
    assert len({tuple(order) for order in epochs}) == 3


def test_order_and_first_sample_have_generators_of_their_own() -> None:
    # NumPy pads [seed, epoch] to [seed, epoch, 0], which belongs to sample 0.
    order = next(iter(SampleStream(1000, 1000, seed=3)))
    assert [i for _, i in order] != list(np.random.default_rng([3, 0, 0]).permutation(1000))


def test_stream_can_be_entered_anywhere(folder: Path) -> None:
    data = dataset(folder)
    whole = batches(data, 9)
    assert same(whole[5:], batches(data, 4, workers=2, start=5 * 4))
    # with another batch size, as in a new stage
    assert torch.equal(
        torch.cat([b["lq"] for b in whole[4:8]]),
        torch.cat([b["lq"] for b in batches(data, 2, batch_size=8, start=16)]),
    )


def test_processes_share_one_stream(folder: Path) -> None:
    data = dataset(folder)
    whole = batches(data, 4, batch_size=4)
    ranks = [batches(data, 4, batch_size=2, rank=rank, world_size=2) for rank in (0, 1)]
    for number, batch in enumerate(whole):
        joined = torch.cat([ranks[0][number]["lq"], ranks[1][number]["lq"]])
        assert torch.equal(batch["lq"], joined)


def test_cached_is_equal_to_not_cached(folder: Path) -> None:
    assert same(batches(dataset(folder), 4), batches(dataset(folder, cache=False), 4))
    cached, not_cached = (ImageSource([folder], "rgb", cache=c) for c in (True, False))
    assert [cached.size(i) for i in range(3)] == [not_cached.size(i) for i in range(3)]
    assert sorted(not_cached.size(i) for i in range(3)) == [(48, 61), (64, 64), (70, 52)]


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="BasicSR writes the LMDB")
@pytest.mark.parametrize("task", ["denoise_color", "jpeg_gray"])
def test_lmdb_of_basicsr_is_read_equal_to_the_folder(
    folder: Path, tmp_path: Path, task: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import_basicsr()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    color = get_task(task).color
    plain = ImageSource([folder], color)
    names = [str(Path(name).relative_to(folder)) for name in plain.names]
    lmdb = tmp_path / "clean.lmdb"
    keys = [str(Path(name).with_suffix("")).replace("a", "a.b") for name in names]
    make_lmdb_from_imgs(str(folder), str(lmdb), names, keys, map_size=2**24)
    stored = ImageSource([lmdb], color)
    assert len(stored) == len(plain) == 3
    for index in range(3):
        assert np.array_equal(stored[index], plain[index])
        assert stored.size(index) == plain[index].shape[:2]
    # in workers, each with its own database handle, while one is open in this process
    what = {"degradation": DegradationRange(get_task(task), 15, 15)}
    one, other = dataset(folder, task, **what), dataset(folder, task, source=stored, **what)
    for a, b in zip(batches(one, 4), batches(other, 4, workers=2), strict=True):
        assert torch.equal(a["lq"], b["lq"]) and torch.equal(a["gt"], b["gt"])
    assert np.array_equal(pickle.loads(pickle.dumps(stored))[2], plain[2])


def test_damaged_lmdb_gives_one_line(tmp_path: Path) -> None:
    root = tmp_path / "x.lmdb"
    root.mkdir()
    with pytest.raises(VHeatIRError, match="meta_info.txt is missing"):
        ImageSource([root], "rgb")
    (root / "meta_info.txt").write_text("just a name\n")
    with pytest.raises(VHeatIRError, match="should read"):
        ImageSource([root], "rgb")
    (root / "meta_info.txt").write_text("\n")
    with pytest.raises(VHeatIRError, match="contains no image: its meta_info.txt is empty"):
        ImageSource([root], "rgb")


def test_holdout_splits_and_an_empty_one_is_named(folder: Path) -> None:
    every = ImageSource([folder], "rgb", holdout_every=2).names
    others = ImageSource([folder], "rgb", exclude_every=2).names
    assert sorted(every + others) == sorted(ImageSource([folder], "rgb").names)
    assert not set(every) & set(others)
    with pytest.raises(VHeatIRError, match=r"has 3 image\(s\).*holdout_every 20"):
        ImageSource([folder], "rgb", holdout_every=20)


def test_image_smaller_than_the_crop_is_named(folder: Path) -> None:
    data = dataset(folder, size=50)
    with pytest.raises(VHeatIRError, match=r"a\.png is 61x48 pixels, smaller than the crop of 50"):
        [data[0, index] for index in range(len(data))]


# --- degradation of a crop


def test_crops_reach_every_place_and_all_eight_orientations_occur_equally() -> None:
    image = np.arange(12 * 15, dtype=np.uint8).reshape(12, 15)
    rng = np.random.default_rng(0)
    corners = {int(image[window(image.shape, 8, rng)][0, 0]) for _ in range(2000)}
    assert corners == {row * 15 + column for row in range(5) for column in range(8)}

    square = image[:8, :8]
    eight = [np.rot90(flip, turns) for turns in range(4) for flip in (square, square[:, ::-1])]
    counts = [0] * 8
    for _ in range(4000):
        turned = augment(square, rng)
        (match,) = (i for i, other in enumerate(eight) if np.array_equal(turned, other))
        counts[match] += 1
    # chi-squared with 7 degrees of freedom: 24.3 is its 99.9 % quantile
    assert sum((count - 500) ** 2 / 500 for count in counts) < 24.3


def test_noise_has_the_level_asked_for() -> None:
    what = DegradationRange(get_task("denoise_color"), 10, 50)
    clean = np.full((96, 96, 3), 128, np.uint8)
    levels = []
    for seed in range(100):
        lq, gt, level = degrade_for_training(clean, 96, what, np.random.default_rng(seed))
        noise = (lq - clean.astype(np.float32) / 255) * 255
        assert lq.dtype == np.float32 and gt is clean
        assert noise.std() == pytest.approx(level, rel=0.03)
        assert abs(noise.mean()) < 4 * level / 96
        across = np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]
        between = np.corrcoef(noise[..., 0].ravel(), noise[..., 1].ravel())[0, 1]
        assert max(abs(across), abs(between)) < 0.05
        levels.append(level)
    assert 10 <= min(levels) < 15 and 45 < max(levels) <= 50
    assert np.mean(levels) == pytest.approx(30, abs=4)


def photo() -> np.ndarray:
    from skimage import data

    return data.astronaut()


def jpeg_samples(task: str, count: int, **options: object) -> list[tuple]:
    what = DegradationRange(get_task(task), 20, 40, **options)  # type: ignore[arg-type]
    image = photo() if task == "jpeg_color" else photo()[..., 1]
    samples = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        clean = augment(image[window(image.shape, 64 + what.margin, rng)], rng)
        samples.append(degrade_for_training(clean, 64, what, rng))
    return samples


def phase(lq: np.ndarray) -> tuple[int, int]:
    """Find the JPEG grid, where most coefficients of the 8x8 blocks are zero up to rounding."""

    def zeros(top: int, left: int) -> float:
        blocks = lq[top : top + 56, left : left + 56].astype(float).reshape(7, 8, 7, 8)
        return float((np.abs(dctn(blocks, axes=(1, 3), norm="ortho")) < 1).mean())

    return max(itertools.product(range(8), range(8)), key=lambda place: zeros(*place))


@pytest.mark.parametrize("task", ["jpeg_gray", "jpeg_color"])
def test_aligned_crops_are_compressions_of_the_clean_crop(task: str) -> None:
    qualities = set()
    for lq, gt, quality in jpeg_samples(task, 40):
        assert np.array_equal(lq, jpeg_compress(gt, int(quality)))
        assert lq.dtype == gt.dtype == np.uint8 and lq.shape[:2] == (64, 64)
        qualities.add(quality)
    assert min(qualities) >= 20 and max(qualities) <= 40 and len(qualities) > 10


@pytest.mark.parametrize("grid", ["random", "half"])
def test_grid_of_other_crops_lies_at_any_phase(grid: str) -> None:
    samples = jpeg_samples("jpeg_gray", 300, jpeg_grid=grid)
    aligned = [np.array_equal(lq, jpeg_compress(gt, int(q))) for lq, gt, q in samples]
    found = [phase(lq) for lq, _, _ in samples]
    there = {p for p, exact in zip(found, aligned, strict=True) if not exact}
    share = sum(aligned) / len(aligned)
    assert share == pytest.approx(0.5 + 0.5 / 64 if grid == "half" else 1 / 64, abs=0.09)
    assert len(there) > (40 if grid == "half" else 50)
    assert all(p == (0, 0) for p, exact in zip(found, aligned, strict=True) if exact)


def test_subsampling_is_drawn_from_those_allowed() -> None:
    kinds = ("4:2:0", "4:4:4")
    counts = dict.fromkeys(kinds, 0)
    for lq, gt, quality in jpeg_samples("jpeg_color", 60, subsampling=kinds):
        (kind,) = (k for k in kinds if np.array_equal(lq, jpeg_compress(gt, int(quality), k)))
        counts[kind] += 1
    assert min(counts.values()) > 15


def test_double_compression_leaves_two_grids() -> None:
    share = 0.5
    once = jpeg_samples("jpeg_gray", 200, double_compression=share)
    twice = [not np.array_equal(lq, jpeg_compress(gt, int(q))) for lq, gt, q in once]
    assert sum(twice) / 200 == pytest.approx(share, abs=0.12)
    # the clean crop is still the target, and the grid of the second compression is aligned
    for lq, gt, _ in jpeg_samples("jpeg_gray", 40, double_compression=1.0, jpeg_grid="half"):
        assert lq.shape == gt.shape == (64, 64)
        assert 5 < 10 * np.log10(255**2 / np.mean((lq.astype(float) - gt) ** 2)) < 45


def test_lists_of_names_choose_images(folder: Path, tmp_path: Path) -> None:
    everything = [Path(name).name for name in ImageSource([folder], "rgb").names]
    listed = tmp_path / "list.txt"
    listed.write_text(f"# a comment\n\n{everything[0]}\n")
    assert [Path(n).name for n in ImageSource([folder], "rgb", include=[str(listed)]).names] == (
        everything[:1]
    )
    without = ImageSource([folder], "rgb", exclude=[str(listed), f"{everything[1][0]}*"])
    assert [Path(name).name for name in without.names] == everything[2:]
    with pytest.raises(VHeatIRError, match="of which include and exclude selects none"):
        ImageSource([folder], "rgb", include=[str(listed)], exclude=["*"])
    listed.write_text("# nothing\n")
    with pytest.raises(VHeatIRError, match="is empty"):
        ImageSource([folder], "rgb", include=[str(listed)])
    with pytest.raises(VHeatIRError, match="cannot be read"):
        ImageSource([folder], "rgb", exclude=["missing.txt"])


def test_no_list_holds_out_what_another_trains_on() -> None:
    lists = Path(__file__).resolve().parents[2] / "options" / "lists"
    held = (lists / "heldout.txt").read_text().splitlines()
    clean = (lists / "heldout_clean_licence.txt").read_text().splitlines()
    unclear = (lists / "unclear_licence.txt").read_text().splitlines()
    names = [{line for line in each if not line.startswith("#")} for each in (held, clean, unclear)]
    assert names[1] == names[0] - names[2]
    assert len(names[1]) >= 24
