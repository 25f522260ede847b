"""Pairs of images: which belong together, the same crop of both, mixtures of training sets."""

from __future__ import annotations

import importlib.util
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from vheatir.basicsr_import import import_basicsr
from vheatir.data.pair_source import PairSource
from vheatir.data.restoration_dataset import (
    MixedDataset,
    PairedDataset,
    RestorationDataset,
    augment,
    init_worker,
)
from vheatir.data.sampler import SampleStream
from vheatir.data.sources import ImageSource
from vheatir.degradations import DegradationRange
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image
from vheatir.tasks import get_task

# the tests need several workers, even on two cores
pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")

NAMES = ("a.png", "b.png", "sub/c.png")
SIZE = 16


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pairs whose degraded image is the negative of the clean one, which no crop can hide."""
    rng = np.random.default_rng(0)
    for name, shape in zip(NAMES, ((24, 31, 3), (35, 26, 3), (32, 32, 3)), strict=True):
        clean = rng.integers(256, size=shape, dtype=np.uint8)
        write_image(tmp_path / "gt" / name, clean)
        write_image(tmp_path / "lq" / name, 255 - clean)
    return tmp_path


def pairs(folder: Path, color: str = "rgb", **options: Any) -> PairSource:
    return PairSource([folder / "gt"], [folder / "lq"], color, **options)  # type: ignore[arg-type]


def stems(source: PairSource) -> list[tuple[str, str]]:
    both = zip(source.degraded.names, source.names, strict=True)
    return [(Path(lq).stem, Path(gt).stem) for lq, gt in both]


# --- which images belong together


def test_names_below_the_folders_match(folder: Path) -> None:
    source = pairs(folder)
    assert stems(source) == [("a", "a"), ("b", "b"), ("c", "c")]
    for cached in (pairs(folder, cache=True), source):
        for index in range(3):
            lq, gt = cached[index]
            assert np.array_equal(lq, 255 - gt) and gt.dtype == np.uint8
            assert cached.size(index) == gt.shape[:2]


def test_suffixes_may_differ(folder: Path) -> None:
    (folder / "lq" / "a.png").rename(folder / "lq" / "a.bmp")
    write_image(folder / "lq" / "a.bmp", np.zeros((24, 31, 3), np.uint8))
    assert stems(pairs(folder)) == [("a", "a"), ("b", "b"), ("c", "c")]


def test_template_names_the_degraded_image(folder: Path) -> None:
    for name in NAMES:
        path = folder / "lq" / name
        path.rename(path.with_name(f"{path.stem}_noisy.png"))
    hint = "give each pair one name, or a filename_tmpl"
    with pytest.raises(VHeatIRError, match=rf"3 image\(s\) are missing in .*lq, .*'a'; {hint}$"):
        pairs(folder)
    assert stems(pairs(folder, template="{}_noisy"))[0] == ("a_noisy", "a")
    with pytest.raises(VHeatIRError, match="with filename_tmpl '{}_x': the first is 'a_x'"):
        pairs(folder, template="{}_x")


def test_meta_info_file_lists_the_pairs(folder: Path) -> None:
    listed = folder / "meta_info.txt"
    listed.write_text("b.png (35,26,3)\nsub/c.png (32,32,3)\n")
    (folder / "lq" / "a.png").unlink()
    assert stems(pairs(folder, listed=listed)) == [("b", "b"), ("c", "c")]
    listed.write_text("b.png (35,26,3)\nz.png (1,1,3)\n")
    with pytest.raises(VHeatIRError, match=r"missing in .*gt, which .*meta_info.txt lists.*'z'"):
        pairs(folder, listed=listed)
    with pytest.raises(VHeatIRError, match="cannot be read"):
        pairs(folder, listed=folder / "none.txt")


def test_a_selection_of_clean_images_takes_their_partners(folder: Path) -> None:
    assert stems(pairs(folder, exclude=["b.png"])) == [("a", "a"), ("c", "c")]
    assert stems(pairs(folder, limit=1)) == [("a", "a")]
    assert stems(pairs(folder, holdout_every=2)) == [("b", "b")]


def test_what_does_not_match_gives_one_line(folder: Path) -> None:
    write_image(folder / "lq" / "d.png", np.zeros((20, 20), np.uint8))
    with pytest.raises(VHeatIRError, match=r"1 image\(s\) of .*lq have no clean .* first is 'd'"):
        pairs(folder)
    (folder / "lq" / "d.png").unlink()
    write_image(folder / "lq" / "b.png", np.zeros((35, 25, 3), np.uint8))
    for source in (pairs(folder), pairs(folder, cache=True)):
        with pytest.raises(VHeatIRError, match=r"lq/b\.png is 25x35 pixels, but .*b\.png is 26x35"):
            source.size(1)
        with pytest.raises(VHeatIRError, match="must have the same size"):
            PairedDataset(source, SIZE, 0)[0, 1]
    with pytest.raises(VHeatIRError, match=r"'.*none' does not exist"):
        PairSource([folder / "gt"], [folder / "none"], "rgb")
    with pytest.raises(VHeatIRError, match="has no pairs"):
        PairSource(["bundled"], [folder / "lq"], "rgb")


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="BasicSR writes the LMDB")
def test_a_missing_lmdb_is_named(folder: Path) -> None:
    with pytest.raises(VHeatIRError, match=r"LMDB folder '.*none\.lmdb' does not exist: give an"):
        PairSource([folder / "none.lmdb"], [folder / "lq"], "rgb")


def test_lmdb_pairs_are_equal_to_the_folders(folder: Path, capsys: Any) -> None:
    import_basicsr()
    from basicsr.utils.lmdb_util import make_lmdb_from_imgs

    for kind in ("gt", "lq"):
        keys = [Path(name).stem for name in NAMES]
        root = folder / f"{kind}.lmdb"
        make_lmdb_from_imgs(str(folder / kind), str(root), list(NAMES), keys, map_size=2**24)
    stored = PairSource([folder / "gt.lmdb"], [folder / "lq.lmdb"], "rgb", template="{}_x")
    plain = pairs(folder)
    assert len(stored) == 3
    for index in range(3):
        assert all(np.array_equal(a, b) for a, b in zip(stored[index], plain[index], strict=True))
    one, other = (batches(PairedDataset(s, SIZE, 7), 3, w) for s, w in ((plain, 0), (stored, 2)))
    assert all(torch.equal(a["lq"], b["lq"]) for a, b in zip(one, other, strict=True))


# --- samples


def batches(data: Any, count: int, workers: int = 0, start: int = 0) -> list[dict[str, Any]]:
    loader = DataLoader(
        data,
        batch_sampler=SampleStream(len(data), 4, seed=7, start=start),
        num_workers=workers,
        worker_init_fn=init_worker,
        multiprocessing_context="fork" if workers else None,
    )
    return list(itertools.islice(iter(loader), count))


@pytest.mark.parametrize("color", ["rgb", "gray", "luma"])
def test_crops_of_a_pair_are_of_one_place_and_orientation(folder: Path, color: str) -> None:
    data = PairedDataset(pairs(folder, color), SIZE, 7, enlarge=5)
    assert len(data) == 15
    for index in range(len(data)):
        item = data[1, index]
        channels = 3 if color == "rgb" else 1
        assert item["gt"].shape == item["lq"].shape == (channels, SIZE, SIZE)
        assert item["gt"].dtype == item["lq"].dtype == torch.uint8 and item["level"] == 0
        # the negative of Y, 16..235, is not exactly Y of the negative
        total = item["lq"].int() + item["gt"].int()
        expected, error = (251, 1) if color == "luma" else (255, color == "gray")
        assert (total - expected).abs().max() <= error


def test_samples_depend_on_seed_epoch_and_index_alone(folder: Path) -> None:
    data = PairedDataset(pairs(folder), SIZE, 7, enlarge=4)
    whole = batches(data, 9)
    again = batches(data, 5, workers=2, start=4 * 4)
    assert all(torch.equal(a["lq"], b["lq"]) for a, b in zip(whole[4:], again, strict=True))
    assert not torch.equal(data[0, 0]["gt"], data[1, 0]["gt"])


def test_crop_larger_than_a_pair_is_named(folder: Path) -> None:
    with pytest.raises(VHeatIRError, match=r"a\.png is 31x24 pixels, smaller than the crop of 25"):
        PairedDataset(pairs(folder), 25, 0)[0, 0]


@pytest.mark.parametrize(
    ("kind", "count"), [(True, 8), (False, 1), ("flip", 2), ("rotate", 4)], ids=str
)
def test_orientations_are_those_of_basicsr(kind: Any, count: int) -> None:
    square = np.arange(16, dtype=np.uint8).reshape(4, 4)
    rng = np.random.default_rng(0)
    ours = {augment(square, rng, kind).tobytes() for _ in range(200)}
    assert len(ours) == count
    if importlib.util.find_spec("basicsr") is None:
        return
    import_basicsr()
    from basicsr.data.transforms import augment as reference

    flip, turn = {True: (1, 1), False: (0, 0), "flip": (1, 0), "rotate": (0, 1)}[kind]
    theirs = {
        np.ascontiguousarray(reference(square.copy()[..., None], bool(flip), bool(turn))).tobytes()
        for _ in range(200)
    }
    assert ours == theirs


# --- mixtures


def mixture(folder: Path, weights: tuple[float, float], level: float = 50) -> MixedDataset:
    task = get_task("denoise_color")
    made = RestorationDataset(
        ImageSource([folder / "gt"], "rgb"), SIZE, 7, DegradationRange(task, level, level)
    )
    return MixedDataset([made, PairedDataset(pairs(folder), SIZE, 7)], weights, 7)


def test_weights_are_shares_of_the_samples(folder: Path) -> None:
    data = mixture(folder, (1, 3))
    assert len(data) == 6
    levels = [data[epoch, index]["level"] for epoch in range(60) for index in range(6)]
    # four standard deviations of a binomial of 360 draws
    assert levels.count(0) / 360 == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 360) ** 0.5)
    paths = {data[epoch, index]["gt_path"] for epoch in range(20) for index in range(6)}
    assert len(paths) == 3


def test_mixed_batches_are_of_one_scale_and_repeat(folder: Path) -> None:
    data = mixture(folder, (1, 1))
    whole = batches(data, 8)
    assert any(0 < int((batch["level"] == 0).sum()) < 4 for batch in whole)
    for batch in whole:
        for lq, gt, level in zip(batch["lq"], batch["gt"], batch["level"], strict=True):
            if level == 0:
                lq = lq * 255 if lq.dtype == torch.float32 else lq.float()
                assert torch.allclose(lq + gt, torch.tensor(255.0), atol=1e-3)
            else:
                assert lq.dtype == torch.float32 and lq.max() < 3
    again = batches(data, 3, workers=2, start=5 * 4)
    assert all(torch.equal(a["lq"], b["lq"]) for a, b in zip(whole[5:], again, strict=True))


def test_one_set_alone_has_weight_one(folder: Path) -> None:
    data = mixture(folder, (1e-12, 1))
    assert all(data[epoch, index]["level"] == 0 for epoch in range(10) for index in range(6))


def test_one_clean_folder_with_two_degraded_ones(tmp_path: Path) -> None:
    for folder, value in (("gt", 0), ("lq1", 1), ("lq2", 2)):
        for name in ("a.png", "b.png"):
            write_image(tmp_path / folder / name, np.full((8, 8, 3), value, np.uint8))
    roots = [tmp_path / "gt"] * 2, [tmp_path / "lq1", tmp_path / "lq2"]
    source = PairSource(*roots, "rgb")
    assert len(source) == 4
    assert sorted(int(source[index][0].max()) for index in range(4)) == [1, 1, 2, 2]
    assert len(PairSource(*roots, "rgb", limit=3)) == 3
