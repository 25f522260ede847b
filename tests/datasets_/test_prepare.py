from __future__ import annotations

import errno
import importlib.util
import json
import os
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from downloads import file_hash
from vheatir.image_io import read_image, write_image

SCRIPT = Path(__file__).parents[2] / "datasets" / "prepare.py"
SHAPES = {"gray.png": (5, 7), "color.png": (6, 4, 3), "odd.png": (1, 1)}


@pytest.fixture(scope="module")
def prepare() -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location("prepare_under_test", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look up their module
    spec.loader.exec_module(module)
    yield module
    del sys.modules[spec.name]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    """A folder served over HTTP; its file ``url`` contains the address."""
    folder = tmp_path / "site"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        (folder / "url").write_text(f"http://127.0.0.1:{server.server_address[1]}")
        yield folder
        server.shutdown()
        thread.join()


def sample_images() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(7)
    return {name: rng.integers(0, 256, shape, np.uint8) for name, shape in SHAPES.items()}


def toy_set(prepare: ModuleType, site: Path, **changes: Any) -> Any:
    """Put BMP files on the site; return the set that converts them."""
    files = {}
    for name, image in sample_images().items():
        write_image(site / f"{Path(name).stem}.bmp", image)
        files[name] = {"pixels": prepare.pixel_hash(image)}
    fields = {"url": (site / "url").read_text() + "/{stem}.bmp", "files": files, **changes}
    return prepare.DataSet("Toy", "test", len(files), "tiny", "here", "none", **fields)


def train_set(prepare: ModuleType, site: Path, images: int = 4) -> Any:
    """Put a tar of JPEG images on the site; return the set in it, which excludes one image."""
    rng = np.random.default_rng(8)
    with tarfile.open(site / "toy.tgz", "w:gz") as tar:
        for place in ("train/1.jpg", "train/2.jpg", "test/3.jpg", "test/4.jpg", "test/5.jpg"):
            image = site / "x.jpg"
            write_image(image, rng.integers(0, 256, (8, 8, 3), np.uint8))
            tar.add(image, f"Toy/images/{place}")
        tar.add(image, "Toy/images/val/6.jpg")
        tar.add(image, "Toy/small/1.jpg")
    url = (site / "url").read_text() + "/toy.tgz"
    rules = {"members": "*/images/t[re]*/*", "exclude": ("5",)}
    return prepare.DataSet("Toy", "train", images, "tiny", "here", "none", url, **rules)


def contents(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def run(prepare: ModuleType, data: Any, *arguments: object) -> int:
    return int(prepare.main([data.name, *map(str, arguments)], {data.name: data}))


# -- the catalogue --------------------------------------------------------------------------------


def test_the_catalogue_is_complete(prepare: ModuleType) -> None:
    catalogue = prepare.load_catalogue()
    roles = {name: data.role for name, data in catalogue.items()}
    assert [n for n in roles if roles[n] == "test"] == ["Set12", "McMaster", "LIVE1", "classic5"]
    assert [n for n in roles if roles[n] == "photo"] == ["Nam25", "CC15", "PolyU"]
    assert [n for n in roles if roles[n] == "train"] == ["DIV2K", "Flickr2K", "BSD500", "WED"]
    for data in catalogue.values():
        assert data.url.startswith("http")
        assert data.source and data.licence and data.size
        if data.role == "test":
            assert len(data.files) == data.images
            assert all(len(known["pixels"]) == 64 for known in data.files.values())
        if data.role == "photo":
            assert data.protocol and data.images % 2 == 0


@pytest.mark.parametrize(("name", "pixels"), [("Nam25", True), ("CC15", False)])
def test_pairs_are_whole(prepare: ModuleType, name: str, pixels: bool) -> None:
    data = prepare.load_catalogue()[name]
    assert len(data.files) == data.images and data.pixels_are_known is pixels
    noisy, clean = (
        {file.split("/")[1] for file in data.files if file.startswith(folder)}
        for folder in ("noisy/", "clean/")
    )
    assert noisy == clean and len(noisy) == data.images / 2
    assert len({data.url_of(file) for file in data.files}) == data.images


def test_addresses_name_the_file_at_the_source(prepare: ModuleType) -> None:
    catalogue = prepare.load_catalogue()
    cc15 = catalogue["CC15"].url_of("clean/d800_iso6400_3.png")
    assert cc15.endswith("/Real_ccnoise_denoised_part/d800_iso6400_3_mean.png")
    assert catalogue["Nam25"].url_of("noisy/07.png").endswith("/testsets/Nam_patches/07_noise.png")
    assert catalogue["McMaster"].url_of("7.png").endswith("/7.tif")


@pytest.mark.parametrize("name", ["Set12", "McMaster", "LIVE1", "classic5", "Nam25"])
def test_the_hashes_are_those_of_the_real_images(prepare: ModuleType, name: str) -> None:
    folder = os.environ.get("VHEATIR_DATA")
    if not folder:
        pytest.skip("VHEATIR_DATA names no folder with the test sets")
    root = Path(folder) / "test"
    data = prepare.load_catalogue()[name]
    assert prepare.check(data, root) == f"{data.images} images verified"
    for file, known in data.files.items():
        if "sha256" in known:
            assert file_hash(root / name / file) == known["sha256"]


@pytest.mark.parametrize(
    ("name", "member", "belongs"),
    [
        ("DIV2K", "DIV2K_train_HR/0001.png", True),
        ("Flickr2K", "Flickr2K/Flickr2K_HR/000001.png", True),
        ("Flickr2K", "Flickr2K/Flickr2K_LR_bicubic/X2/000001x2.png", False),
        ("BSD500", "BSR/BSDS500/data/images/train/100075.jpg", True),
        ("BSD500", "BSR/BSDS500/data/images/test/Thumbs.db", False),
        ("BSD500", "BSR/BSDS500/data/images/val/101085.jpg", False),  # BSD68 is taken from these
        ("BSD500", "BSR/BSDS500/data/images/train/12003.jpg", False),  # Set12's 04.png
        ("WED", "exploration_database_and_code/pristine_images/00001.bmp", True),
        ("WED", "exploration_database_and_code/support_functions/x.png", False),
        ("PolyU", "PolyU-1/CroppedImages/Canon5D2_5_160_3200_chair_5_real.JPG", True),
        ("PolyU", "PolyU-1/OriginalImages/Canon5D2_chair_Real.JPG", False),
    ],
)
def test_members(prepare: ModuleType, name: str, member: str, belongs: bool) -> None:
    assert prepare.load_catalogue()[name].belongs(member) is belongs


def test_pixel_hash_sees_pixels_and_not_their_wrapping(prepare: ModuleType) -> None:
    gray = sample_images()["gray.png"]
    color = sample_images()["color.png"]
    alpha = np.full((*color.shape[:2], 1), 255, np.uint8)
    same = prepare.pixel_hash(gray)
    assert prepare.pixel_hash(np.repeat(gray[:, :, None], 3, 2)) == same
    assert prepare.pixel_hash(np.dstack([color, alpha])) == prepare.pixel_hash(color)
    others = [gray.T, gray + np.uint8(1), gray.astype(np.uint16), gray.reshape(7, 5)]
    assert same not in [prepare.pixel_hash(other) for other in others]
    assert prepare.pixel_hash(color[:, :, ::-1]) != prepare.pixel_hash(color)


# -- fetching -------------------------------------------------------------------------------------


def test_images_are_fetched_converted_and_locked(
    prepare: ModuleType, site: Path, tmp_path: Path
) -> None:
    data, root = toy_set(prepare, site), tmp_path / "root"
    assert run(prepare, data, "--root", root) == 0
    assert contents(root) == ["Toy/color.png", "Toy/gray.png", "Toy/odd.png", "prepare.lock.json"]
    for name, image in sample_images().items():
        np.testing.assert_array_equal(read_image(root / "Toy" / name), image)
    lock = json.loads((root / "prepare.lock.json").read_text())
    assert {entry["sha256"] for entry in lock.values()} == {
        file_hash(path) for path in site.glob("*.bmp")
    }
    assert run(prepare, data, "--root", root, "--check") == 0


def test_what_is_there_is_kept_and_what_is_damaged_is_fetched_again(
    prepare: ModuleType, site: Path, tmp_path: Path
) -> None:
    data, root = toy_set(prepare, site), tmp_path / "root"
    run(prepare, data, "--root", root)
    (root / "Toy" / "odd.png").write_bytes(b"damaged")
    for path in site.glob("[gc]*.bmp"):
        path.unlink()  # downloading them again would fail
    assert run(prepare, data, "--root", root, "--check") == 2
    assert run(prepare, data, "--root", root) == 0
    assert run(prepare, data, "--root", root, "--check") == 0


@pytest.mark.reliability
def test_another_image_is_refused_and_nothing_is_left(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = toy_set(prepare, site), tmp_path / "root"
    write_image(site / "gray.bmp", 255 - sample_images()["gray.png"])
    assert run(prepare, data, "--root", root) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "refused" in error and error.count("\n") == 1
    assert contents(root) == []


@pytest.mark.reliability
def test_a_wrong_file_hash_is_refused(prepare: ModuleType, site: Path, tmp_path: Path) -> None:
    data, root = toy_set(prepare, site), tmp_path / "root"
    data.files["gray.png"]["sha256"] = "0" * 64
    assert run(prepare, data, "--root", root) == 2
    assert contents(root) == []


@pytest.mark.reliability
def test_an_archive_that_changes_after_the_first_fetch_is_refused(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = train_set(prepare, site), tmp_path / "root"
    assert run(prepare, data, "--root", root) == 0
    names = ["Toy/1.jpg", "Toy/2.jpg", "Toy/3.jpg", "Toy/4.jpg", "prepare.lock.json"]
    assert contents(root) == names
    assert run(prepare, data, "--root", root) == 0
    assert "there already" in capsys.readouterr().out
    for path in (root / "Toy").iterdir():
        path.unlink()
    (root / "Toy").rmdir()
    with (site / "toy.tgz").open("ab") as archive:
        archive.write(b"changed")
    assert run(prepare, data, "--root", root) == 2
    assert "first download" in capsys.readouterr().err
    assert contents(root) == ["prepare.lock.json"]


@pytest.mark.reliability
def test_an_archive_of_other_images_is_refused_and_not_recorded(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = train_set(prepare, site, images=9), tmp_path / "root"
    assert run(prepare, data, "--root", root) == 2
    assert "4 images" in capsys.readouterr().err
    assert contents(root) == []


@pytest.mark.reliability
def test_a_full_disk_leaves_the_archive(
    prepare: ModuleType,
    site: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def write(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    data, root = train_set(prepare, site), tmp_path / "root"
    monkeypatch.setattr("downloads._write_member", write)
    assert run(prepare, data, "--root", root) == 2
    error = capsys.readouterr().err
    assert "No space left" in error and error.count("\n") == 1
    assert (root / ".downloads" / "Toy" / "toy.tgz").is_file()


@pytest.mark.reliability
def test_an_interrupted_fetch_is_completed_by_the_next(
    prepare: ModuleType, site: Path, tmp_path: Path
) -> None:
    data, root = train_set(prepare, site), tmp_path / "root"

    def interrupt(done: int, total: int | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare.fetch(data, root, report=interrupt)
    assert not (root / "Toy").exists()
    assert run(prepare, data, "--root", root) == 0
    assert not (root / ".downloads").exists()
    assert run(prepare, data, "--root", root, "--check") == 0


def test_archives_are_kept_on_request_and_a_group_names_its_sets(
    prepare: ModuleType, site: Path, tmp_path: Path
) -> None:
    root, sets = tmp_path / "root", {"Toy": train_set(prepare, site)}
    assert prepare.main(["train", "--root", str(root), "--keep-archives"], sets) == 0
    assert (root / ".downloads" / "Toy" / "toy.tgz").is_file()
    assert len(list((root / "Toy").iterdir())) == 4


def test_a_folder_of_something_else_is_not_touched(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = train_set(prepare, site), tmp_path / "root"
    write_image(root / "Toy" / "mine.png", sample_images()["gray.png"])
    assert run(prepare, data, "--root", root) == 2
    assert "move it away" in capsys.readouterr().err
    assert contents(root) == ["Toy/mine.png"]


def pair_set(prepare: ModuleType, site: Path) -> Any:
    """Put a pair on the site; return a set without known pixel hashes."""
    for end in ("real", "mean"):
        write_image(site / f"a_{end}.png", sample_images()["color.png"] + np.uint8(end == "real"))
    files = {"noisy/a.png": {"source": "a_real.png"}, "clean/a.png": {"source": "a_mean.png"}}
    url = (site / "url").read_text() + "/{source}"
    return prepare.DataSet("Pairs", "photo", 2, "tiny", "here", "none", url, files=files)


@pytest.mark.reliability
def test_pairs_without_known_pixels_are_locked_at_the_first_fetch(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = pair_set(prepare, site), tmp_path / "root"
    assert run(prepare, data, "--root", root, "--check") == 2
    assert run(prepare, data, "--root", root) == 0
    assert contents(root) == ["Pairs/clean/a.png", "Pairs/noisy/a.png", "prepare.lock.json"]
    assert run(prepare, data, "--root", root, "--check") == 0
    assert "2 images present" in capsys.readouterr().out
    noisy = root / "Pairs" / "noisy" / "a.png"
    np.testing.assert_array_equal(read_image(noisy), sample_images()["color.png"] + np.uint8(1))
    noisy.unlink()
    write_image(site / "a_real.png", sample_images()["color.png"])
    assert run(prepare, data, "--root", root) == 2
    assert "first download" in capsys.readouterr().err and not noisy.exists()


# -- taking from a folder -------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [False, True])
def test_images_are_recognised_by_their_pixels(
    prepare: ModuleType, site: Path, tmp_path: Path, copy: bool
) -> None:
    data, root, source = toy_set(prepare, site), tmp_path / "root", tmp_path / "old"
    images = sample_images()
    write_image(source / "a" / "first.png", images["gray.png"])
    write_image(source / "b" / "second.tif", images["color.png"])
    write_image(source / "third.png", images["odd.png"])
    write_image(source / "unrelated.png", images["gray.png"][::-1])
    (source / "broken.png").write_bytes(b"no image")
    assert run(prepare, data, "--root", root, "--source", source, *["--copy"] * copy) == 0
    assert (root / "Toy" / "gray.png").is_symlink() is not copy
    assert not (root / "Toy" / "color.png").is_symlink()  # converted
    assert run(prepare, data, "--root", root, "--check") == 0
    assert contents(root) == ["Toy/color.png", "Toy/gray.png", "Toy/odd.png"]


def test_gray_stored_as_colour_is_still_the_image(
    prepare: ModuleType, site: Path, tmp_path: Path
) -> None:
    data, root, source = toy_set(prepare, site), tmp_path / "root", tmp_path / "old"
    for name, image in sample_images().items():
        color = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, 2)
        source.mkdir(exist_ok=True)
        cv2.imwrite(str(source / f"{name}.bmp"), color[:, :, ::-1])
    assert run(prepare, data, "--root", root, "--source", source) == 0
    assert read_image(root / "Toy" / "gray.png").ndim == 2


def test_missing_images_are_named(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, source = toy_set(prepare, site), tmp_path / "old"
    write_image(source / "gray.png", sample_images()["gray.png"])
    assert run(prepare, data, "--root", tmp_path / "root", "--source", source) == 2
    assert "color.png, odd.png" in capsys.readouterr().err
    assert run(prepare, data, "--root", tmp_path / "root", "--source", tmp_path / "no") == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_training_folder_is_linked_without_what_does_not_belong(
    prepare: ModuleType, site: Path, tmp_path: Path
) -> None:
    data, root, source = train_set(prepare, site), tmp_path / "root", tmp_path / "old"
    for place in ("toy/train/1.png", "toy/test/1.png", "toy/val/2.png", "toy/test/5.png", "x.png"):
        write_image(source / place, sample_images()["gray.png"])
    assert run(prepare, data, "--root", root, "--source", source) == 0
    assert contents(root) == ["Toy/test/1.png", "Toy/train/1.png"]
    assert all(path.is_symlink() for path in (root / "Toy").rglob("*.png"))


def test_pairs_without_known_pixels_are_recognised_by_their_names(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root, source = pair_set(prepare, site), tmp_path / "root", tmp_path / "old"
    write_image(source / "part" / "a_real.png", sample_images()["color.png"])
    write_image(source / "part" / "a_ours.png", sample_images()["color.png"])
    assert run(prepare, data, "--root", root, "--source", source) == 2
    assert "(matched by name): clean/a.png" in capsys.readouterr().err
    write_image(source / "part" / "a_mean.png", sample_images()["color.png"])
    assert run(prepare, data, "--root", root, "--source", source) == 0
    assert contents(root) == ["Pairs/clean/a.png", "Pairs/noisy/a.png"]


def test_only_the_part_that_is_the_set_is_taken_from_a_whole_source(
    prepare: ModuleType, site: Path, tmp_path: Path
) -> None:
    data, root, source = train_set(prepare, site), tmp_path / "root", tmp_path / "old"
    for place in ("images/train/1.png", "images/test/2.png", "small/1.png"):
        write_image(source / place, sample_images()["gray.png"])
    assert run(prepare, data, "--root", root, "--source", source) == 0
    assert contents(root) == ["Toy/images/test/2.png", "Toy/images/train/1.png"]


def test_the_source_may_not_be_the_target(
    prepare: ModuleType, site: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, root = train_set(prepare, site), tmp_path / "root"
    write_image(root / "Toy" / "1.png", sample_images()["gray.png"])
    assert run(prepare, data, "--root", root, "--source", root) == 2
    assert "give another one" in capsys.readouterr().err
    assert contents(root) == ["Toy/1.png"]


# -- the script -----------------------------------------------------------------------------------


def test_the_script_runs_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert all(name in done.stdout for name in ("Set12", "LIVE1", "Nam25", "DIV2K"))


def test_a_typo_names_the_nearest_set(
    prepare: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prepare.main(["Mcmaster", "--check"]) == 2
    assert "did you mean 'McMaster'?" in capsys.readouterr().err
