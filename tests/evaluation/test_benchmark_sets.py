"""Find test sets in folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vheatir.errors import VHeatIRError
from vheatir.evaluation.benchmark_sets import (
    default_data_folder,
    find_test_sets,
    folder_test_set,
    paired_test_set,
)
from vheatir.image_io import write_image
from vheatir.tasks import PAIRED_TASKS, get_task


def add_images(folder: Path, *names: str) -> None:
    for value, name in enumerate(names):
        write_image(folder / name, np.full((16, 16, 3), value, np.uint8))


def test_published_sets_go_to_their_tasks_and_others_are_left_alone(tmp_path: Path) -> None:
    for name in ("classic5", "LIVE1", "McMaster", "Kodak"):
        add_images(tmp_path / name, "x.png")

    def found(task: str) -> list[str]:
        return [test_set.name for test_set in find_test_sets(tmp_path, get_task(task))]

    assert found("jpeg_gray") == ["LIVE1", "classic5"]
    assert found("jpeg_color") == ["LIVE1"]
    assert found("denoise_color") == ["McMaster"]
    assert found("denoise_gray") == []


def test_one_published_set_may_be_given_itself(tmp_path: Path) -> None:
    add_images(tmp_path / "Set12", "x.png")
    folder = tmp_path / "Set12"
    assert [s.name for s in find_test_sets(folder, get_task("denoise_gray"))] == ["Set12"]
    assert find_test_sets(folder, get_task("denoise_color")) == []


def test_images_of_ones_own(tmp_path: Path) -> None:
    add_images(tmp_path / "many" / "b", "x.png")
    add_images(tmp_path / "many" / "a", "x.png")
    for task in ("denoise_gray", "jpeg_color"):
        sets = find_test_sets(tmp_path / "many", get_task(task))
        assert [s.name for s in sets] == ["a", "b"]
        assert [s.name for s in find_test_sets(tmp_path / "many" / "a", get_task(task))] == ["a"]


def test_images_are_sorted_and_names_are_unique(tmp_path: Path) -> None:
    add_images(tmp_path, "b.png", "a.png", "a.bmp", "deep/a.png")
    test_set = folder_test_set(tmp_path)
    assert test_set.names == ("a_bmp", "a_png", "b", "deep_a")
    values = [int(test_set.load(i, get_task("denoise_color"))[0, 0, 0]) for i in range(4)]
    assert values == [2, 1, 0, 3]


def test_pairs_in_two_folders(tmp_path: Path) -> None:
    add_images(tmp_path / "Nam25" / "noisy", "1.png", "2.png")
    add_images(tmp_path / "Nam25" / "clean", "0.png", "1.png", "2.png")
    add_images(tmp_path / "Set12", "x.png")
    task = get_task("photo")
    with pytest.raises(VHeatIRError, match=r"'0' in .*Nam25.* has no noisy image: "):
        find_test_sets(tmp_path, task)
    (tmp_path / "Nam25" / "clean" / "0.png").unlink()
    for folder in (tmp_path, tmp_path / "Nam25"):
        (pairs,) = find_test_sets(folder, task)
        assert (pairs.name, pairs.names) == ("Nam25", ("1", "2"))
        values = [(clean[0, 0, 0], noisy[0, 0, 0]) for clean, noisy in
                  (pairs.load_pair(i, task) for i in range(2))]  # fmt: skip
        assert values == [(1, 0), (2, 1)]
    assert [s.name for s in find_test_sets(tmp_path, get_task("denoise_gray"))] == ["Set12"]


def test_pairs_told_apart_by_their_endings(tmp_path: Path) -> None:
    names = ("a_mean.png", "a_ours.png", "a_real.png", "b_Real.JPG", "b_mean.JPG", "notes.txt")
    add_images(tmp_path / "CC15", *names[:-1])
    (tmp_path / "CC15" / names[-1]).write_text("")
    (pairs,) = find_test_sets(tmp_path, get_task("photo"))
    assert pairs.names == ("a", "b") and pairs.is_paired
    clean, noisy = pairs.load_pair(0, get_task("photo"))
    assert (clean[0, 0, 0], noisy[0, 0, 0]) == (0, 2)


def test_pairs_in_a_subfolder_as_prepare_leaves_those_of_polyu(tmp_path: Path) -> None:
    add_images(tmp_path / "PolyU" / "repository" / "CroppedImages", "x_real.JPG", "x_mean.JPG")
    (pairs,) = find_test_sets(tmp_path, get_task("photo"))
    assert (pairs.name, pairs.names, pairs.is_paired) == ("PolyU", ("x",), True)


def test_pairs_of_ones_own_and_clean_images(tmp_path: Path) -> None:
    add_images(tmp_path / "b" / "noisy", "1.png")
    add_images(tmp_path / "b" / "clean", "1.jpg")
    add_images(tmp_path / "a", "x.png", "y_real.png")
    add_images(tmp_path / "c", "x_real.png", "x_mean.png")
    sets = find_test_sets(tmp_path, get_task("photo"))
    assert [(s.name, s.is_paired, len(s)) for s in sets] == [
        ("a", False, 2), ("b", True, 1), ("c", True, 1),
    ]  # fmt: skip
    # for other tasks only the clean images of pairs are references
    others = find_test_sets(tmp_path, get_task("denoise_color"))
    assert [(s.name, s.is_paired, len(s)) for s in others] == [
        ("a", False, 2), ("b", False, 1), ("c", False, 1),
    ]  # fmt: skip
    (alone,) = find_test_sets(tmp_path / "b", get_task("denoise_color"))
    assert (alone.name, alone.names, alone.is_paired) == ("b", ("1",), False)
    clean, noisy = sets[0].load_pair(0, get_task("photo"))
    assert clean.shape == (16, 16, 3) and noisy is None


def test_pairs_in_subfolders_keep_their_names_apart(tmp_path: Path) -> None:
    for kind in ("noisy", "clean"):
        for folder in ("a", "b"):
            add_images(tmp_path / kind / folder, "1.png")
    assert paired_test_set(tmp_path).names == ("a_1", "b_1")


def test_published_pairs_are_for_networks_trained_on_pairs_too(tmp_path: Path) -> None:
    for kind in ("noisy", "clean"):
        add_images(tmp_path / "Nam25" / kind, "1.png")
    for folder in (tmp_path, tmp_path / "Nam25"):
        for task in PAIRED_TASKS.values():
            assert [s.is_paired for s in find_test_sets(folder, task)] == [True]


def test_half_a_set_of_pairs_is_one_clear_line(tmp_path: Path) -> None:
    add_images(tmp_path / "mine" / "noisy", "1.png", "2.png")
    with pytest.raises(VHeatIRError, match=r"no clean image \(and 1 more\)"):
        find_test_sets(tmp_path / "mine", get_task("photo"))
    add_images(tmp_path / "PolyU", "1.png")
    with pytest.raises(VHeatIRError, match="contains no pairs"):
        find_test_sets(tmp_path, get_task("photo"))
    add_images(tmp_path / "two" / "noisy", "1.png", "1.bmp")
    with pytest.raises(VHeatIRError, match="two images called '1'"):
        paired_test_set(tmp_path / "two")


def test_missing_and_empty_folders_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(VHeatIRError, match="does not exist"):
        find_test_sets(tmp_path / "nowhere", get_task("denoise_gray"))
    with pytest.raises(VHeatIRError, match="contains no images"):
        find_test_sets(tmp_path, get_task("denoise_gray"))


def test_default_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VHEATIR_DATA", str(tmp_path))
    with pytest.raises(VHeatIRError, match="VHEATIR_DATA is set"):
        default_data_folder()
    add_images(tmp_path / "test" / "Set12", "x.png")
    assert default_data_folder() == tmp_path / "test"
    monkeypatch.delenv("VHEATIR_DATA")
    add_images(tmp_path / "work" / "datasets" / "Set12", "x.png")
    monkeypatch.chdir(tmp_path / "work")
    # The datasets/ folder of the checkout takes precedence if it contains a test set.
    own = Path(__file__).parents[2] / "datasets"
    if not (own / "Set12").exists() and not (own / "test").exists():
        assert default_data_folder() in (tmp_path / "work" / "datasets", own)
