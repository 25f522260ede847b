"""``vheatir restore`` from the command line, on photographs with a tiny network of each kind."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from vheatir import cli, zoo
from vheatir.archs import build_network
from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import add_noise, jpeg_compress
from vheatir.image_io import read_image, write_image
from vheatir.inference import Restorer
from vheatir.inference.jobs import Job, Runner, Settings
from vheatir.metrics import psnr
from vheatir.weights import save_weights

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CLEAN = heldout_photographs()["chelsea"][100:164, 150:246]
GRAY = to_color_mode(CLEAN, "gray")


def noisy(image: np.ndarray, sigma: float = 25, dtype: str = "uint8") -> np.ndarray:
    out = add_noise(image / np.float32(255), sigma, np.random.default_rng(0)).clip(0, 1)
    return np.rint(out * np.iinfo(dtype).max).astype(dtype)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A colour model that brightens by 20 of 255, so that its effect is visible everywhere."""
    torch.manual_seed(0)
    net = build_network({"type": "VHeatIR", "in_chans": 3, "embed_dim": 8, "depths": [1]})
    for parameter in net.conv_last.parameters():  # type: ignore[union-attr]
        parameter.data.zero_()
    net.conv_last.bias.data.fill_(20 / 255)  # type: ignore[union-attr]
    path = tmp_path_factory.mktemp("weights") / "tiny.safetensors"
    save_weights(path, net, {"task": "denoise_color", "level": [0, 55], "name": "tiny"})
    return str(path)


@pytest.fixture
def run(tiny: str, capsys: pytest.CaptureFixture[str]) -> Any:
    def call(*arguments: Any, model: str | None = tiny) -> tuple[int, str]:
        chosen = [] if model is None else ["--model", model]
        status = cli.main(["restore", *map(str, arguments), *chosen, "--device", "cpu"])
        captured = capsys.readouterr()
        assert captured.out == ""
        return status, captured.err

    return call


def brightened(image: np.ndarray) -> np.ndarray:
    white = np.iinfo(image.dtype).max
    return np.rint((image / white + 20 / 255).clip(0, 1) * white).astype(image.dtype)


def assert_brightened(path: Path, before: np.ndarray, tolerance: int = 1) -> None:
    after = read_image(path)
    assert (after.shape, after.dtype) == (before.shape, before.dtype)
    difference = np.abs(after.astype(int) - brightened(before).astype(int))
    assert difference.max() <= tolerance


def test_released_models_remove_noise(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "gray.png", noisy(GRAY))
    arguments = (tmp_path / "gray.png", "-o", tmp_path / "out.png", "--task", "denoise")
    status, said = run(*arguments, model="denoise_gray_small")
    assert status == 0
    assert "sigma 2" in said and "denoise_gray_small" in said and "1 restored in" in said
    before, after = psnr(noisy(GRAY), GRAY), psnr(read_image(tmp_path / "out.png"), GRAY)
    assert after > before + 5
    assert run(*arguments, "--level", 25, "--overwrite", model="denoise_gray_small")[0] == 0
    assert psnr(read_image(tmp_path / "out.png"), GRAY) > before + 5


def test_auto_decides_and_picks_gray_or_colour(tmp_path: Path, run: Any) -> None:
    best = {name: zoo.list_models(name)[0].name for name in ("denoise_gray", "jpeg_gray")}
    write_image(tmp_path / "in/noise.png", noisy(GRAY, 15))
    Image.fromarray(GRAY).save(tmp_path / "in/block.jpg", quality=10)
    # A screenshot of a JPEG: no quantisation table, and gray stored as RGB.
    write_image(tmp_path / "in/shot.png", np.stack([jpeg_compress(GRAY, 10)] * 3, axis=2))
    status, said = run(tmp_path / "in", "-o", tmp_path / "out", "--format", "png", model=None)
    assert status == 0
    lines = {name: next(x for x in said.splitlines() if name in x) for name in ("no", "bl", "sh")}
    assert "found white noise of sigma 1" in lines["no"] and best["denoise_gray"] in lines["no"]
    assert "found JPEG of quality 10" in lines["bl"] and best["jpeg_gray"] in lines["bl"]
    assert "found JPEG blocks" in lines["sh"] and best["jpeg_gray"] in lines["sh"]
    assert psnr(read_image(tmp_path / "out/noise.png"), GRAY) > psnr(noisy(GRAY, 15), GRAY) + 3
    blocks = np.asarray(Image.open(tmp_path / "in/block.jpg"))
    assert psnr(read_image(tmp_path / "out/block.png"), GRAY) > psnr(blocks, GRAY) + 0.5
    shot = read_image(tmp_path / "out/shot.png")
    assert shot.shape == (*GRAY.shape, 3)
    np.testing.assert_array_equal(shot[..., 0], shot[..., 2])


def test_colour_goes_to_the_colour_model(tmp_path: Path, run: Any) -> None:
    image = noisy(CLEAN, 25)[:48, :48]
    write_image(tmp_path / "a.png", image)
    status, said = run(tmp_path / "a.png", "-o", tmp_path / "out.png", model=None)
    assert status == 0 and zoo.list_models("denoise_color")[0].name in said
    assert (
        psnr(read_image(tmp_path / "out.png"), CLEAN[:48, :48]) > psnr(image, CLEAN[:48, :48]) + 4
    )


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tiff"])
def test_exif_rotation_and_profile(tmp_path: Path, run: Any, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Kamera"
    source = tmp_path / f"photo{suffix}"
    Image.fromarray(CLEAN).save(source, exif=exif, icc_profile=ICC)
    assert run(source, "-o", tmp_path / "out")[0] == 0
    with Image.open(tmp_path / "out" / source.name) as result:
        pixels = np.asarray(result)
        assert result.info["icc_profile"] == ICC
        assert result.getexif().get(0x0112, 1) == 1
        assert result.getexif()[0x010F] == "Kamera"
    expected = brightened(np.rot90(CLEAN, -1))
    assert pixels.shape == expected.shape
    assert np.abs(pixels.astype(int) - expected).mean() < 6  # compressed twice


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("shape", ["gray", "rgb", "rgba"])
def test_depth_and_channels_stay(tmp_path: Path, run: Any, shape: str, dtype: str) -> None:
    image = noisy(GRAY if shape == "gray" else CLEAN, 5, dtype)
    if shape == "rgba":
        ramp = np.linspace(0, np.iinfo(dtype).max, image[..., 0].size).astype(dtype)
        image = np.dstack([image, ramp.reshape(image.shape[:2])])
    for suffix in (".png", ".tiff"):
        write_image(tmp_path / f"a{suffix}", image)
        assert run(tmp_path / f"a{suffix}", "-o", tmp_path / "out", "--tile", 32)[0] == 0
        result = tmp_path / "out" / f"a{suffix}"
        # OpenCV multiplies the colours of an 8-bit TIFF by its alpha.
        after = read_image(result) if dtype == "uint16" else np.asarray(Image.open(result))
        assert (after.shape, after.dtype) == (image.shape, image.dtype)
        colours = slice(0, 3) if image.ndim == 3 else slice(None)
        expected = brightened(image)[..., colours].astype(int)
        assert np.abs(after[..., colours].astype(int) - expected).max() <= 1
        if shape == "rgba":
            np.testing.assert_array_equal(after[..., 3], image[..., 3])


def test_folders_keep_their_structure_and_bad_files_are_reported(tmp_path: Path, run: Any) -> None:
    names = ["a.png", "Reise/Zürich/b.PNG", "Reise/写真 [1].png"]
    for name in names:
        write_image(tmp_path / "in" / name, CLEAN)
    (tmp_path / "in/broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    (tmp_path / "in/notes.txt").write_text("no image")
    status, said = run(tmp_path / "in", "-o", tmp_path / "out")
    assert status == 1
    assert "broken.jpg: failed: " in said and "3 restored, 1 failed" in said
    written = sorted(str(p.relative_to(tmp_path / "out")) for p in (tmp_path / "out").rglob("*.*"))
    assert written == sorted(names)
    for name in names:
        assert_brightened(tmp_path / "out" / name, CLEAN)
    # Two folders: each under its own name.
    other = tmp_path / "other"
    write_image(other / "a.png", CLEAN)
    assert run(tmp_path / "in/Reise", other, "-o", tmp_path / "both")[0] == 0
    assert (tmp_path / "both/Reise/Zürich/b.PNG").is_file()
    assert (tmp_path / "both/other/a.png").is_file()


def heic(image: np.ndarray, **options: Any) -> bytes:
    heif = pytest.importorskip("pillow_heif", reason="the extra heif is not installed")
    mode = "RGB" if image.dtype == np.uint8 else "RGB;16"
    out = io.BytesIO()
    file = heif.from_bytes(mode, image.shape[1::-1], image.tobytes())
    file.save(out, **{"quality": -1, "chroma": 444} | options)
    return out.getvalue()


def test_heic_becomes_jpeg_or_deep_png_by_default(tmp_path: Path, run: Any) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.HEIC").write_bytes(heic(CLEAN, color_primaries=12, transfer_characteristics=13))
    (folder / "b.heif").write_bytes(heic(CLEAN.astype(np.uint16) * 257))
    Image.fromarray(CLEAN).save(folder / "c.avif", quality=100, subsampling="4:4:4")
    status, said = run(folder, "-o", tmp_path / "out")
    assert status == 0, said
    assert sorted(os.listdir(tmp_path / "out")) == ["a.jpg", "b.png", "c.jpg"]
    assert_brightened(tmp_path / "out/b.png", CLEAN.astype(np.uint16) * 257, 257)
    with Image.open(tmp_path / "out/a.jpg") as result:
        assert np.abs(np.asarray(result).astype(int) - brightened(CLEAN)).mean() < 3
        profile = ImageCms.ImageCmsProfile(io.BytesIO(result.info["icc_profile"]))
        assert "Display P3" in ImageCms.getProfileDescription(profile)
    for fmt in ("png", "jpg", "webp", "tiff"):
        assert run(folder, "-o", tmp_path / fmt, "--format", fmt)[0] == 0
        assert sorted(os.listdir(tmp_path / fmt)) == [f"{name}.{fmt}" for name in "abc"]
    assert run(folder / "b.heif", "-o", tmp_path / "single.jpg")[0] == 0
    with Image.open(tmp_path / "single.jpg") as result:
        assert result.format == "JPEG"


def test_skipped_files_of_a_folder_are_reported_with_a_reason(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    write_image(folder / "a.png", CLEAN)
    write_image(folder / "sub/a.png", CLEAN)
    hdr = heic(CLEAN, color_primaries=9, transfer_characteristics=16)
    (folder / "hdr.heic").write_bytes(hdr)
    (folder / "plain.heic").write_bytes(heic(CLEAN))
    (folder / "a.NEF").write_bytes(b"MM\0*of a camera")  # beside the JPEG or PNG developed from it
    (folder / "sub/b.dng").write_bytes(b"II*\0")
    (folder / "notes.txt").write_text("no image")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    out = tmp_path / "out"
    status, said = run(folder, "-o", out, "--resume")
    lines = dict(line.split(": ", 1) for line in said.splitlines() if ": " in line)
    assert status == 1
    assert "skipped: is HDR (PQ)" in lines[str(folder / "hdr.heic")]
    assert "pip install pillow-heif" in lines[str(folder / "plain.heic")]
    for name in ("a.NEF", "sub/b.dng"):
        assert lines[str(folder / name)].startswith("skipped: is a raw file")
    assert "notes.txt" not in said
    assert "2 restored, 4 skipped (unsupported format)" in said
    assert sorted(p.name for p in out.rglob("*.*") if p.is_file() and p.suffix != ".jsonl") == [
        "a.png",
        "a.png",
    ]
    # With the package installed, a resumed run processes only what was skipped.
    monkeypatch.undo()
    status, said = run(folder, "-o", out, "--resume")
    assert status == 1
    assert "1 restored, 2 already done, 3 skipped" in said
    assert (out / "plain.jpg").is_file()
    # Skipped files are distributed over shards like the others.
    said = "".join(run(folder, "-o", tmp_path / "n", "--shard", f"{i}/2")[1] for i in (1, 2))
    for name in ("hdr.heic", "plain.heic", "a.NEF", "sub/b.dng", "a.png", "sub/a.png"):
        assert said.count(f"{folder / name}: ") == 1


def test_a_raw_file_given_by_name_is_skipped(tmp_path: Path, run: Any) -> None:
    (tmp_path / "a.dng").write_bytes(b"II*\0")
    for target in ("out", "b.jpg"):
        status, said = run(tmp_path / "a.dng", "-o", tmp_path / target)
        assert status == 1 and "a.dng: skipped: is a raw file" in said
        assert not (tmp_path / target).is_file()


def test_results_inside_the_folder_are_not_inputs(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "a.png", CLEAN)
    for _ in range(2):
        status, said = run(tmp_path, "-o", tmp_path / "out", "--overwrite")
        assert status == 0 and "1 restored in" in said


def test_nothing_is_overwritten_without_the_option(tmp_path: Path, run: Any) -> None:
    for name in ("a.png", "b.png"):
        write_image(tmp_path / "in" / name, CLEAN)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/a.png").write_bytes(b"precious")
    status, said = run(tmp_path / "in", "-o", tmp_path / "out")
    assert status == 1
    assert "--overwrite" in said and "1 restored, 1 skipped" in said
    assert (tmp_path / "out/a.png").read_bytes() == b"precious"
    assert run(tmp_path / "in", "-o", tmp_path / "out", "--overwrite")[0] == 0
    assert_brightened(tmp_path / "out/a.png", CLEAN)
    assert not [p for p in (tmp_path / "out").iterdir() if p.name.startswith(".")]


def test_patterns(tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("p/x/1.png", "p/y/2.png", "p/y/2.tiff"):
        write_image(tmp_path / name, CLEAN)
    monkeypatch.chdir(tmp_path)
    assert run("p/**/*.png", "-o", "out")[0] == 0
    files = sorted(str(p.relative_to("out")) for p in Path("out").rglob("*.*"))
    assert files == ["x/1.png", "y/2.png"]


def test_folders_with_dots_in_their_names(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "in/a.png", CLEAN)
    (tmp_path / "old.gif").mkdir()
    monkeypatch.chdir(tmp_path)
    for source, out in [
        ("in/a.png", "out.v2"),
        ("in/a.png", "new.gif/"),
        ("in/a.png", "old.gif"),
        ("in", "of_a_folder.gif"),
    ]:
        assert run(source, "-o", out)[0] == 0
        assert_brightened(Path(out) / "a.png", CLEAN)


def page() -> Image.Image:
    """A page with a line, which Automatic leaves unchanged."""
    pixels = np.full((96, 128, 3), 255, np.uint8)
    pixels[20:24, 10:100] = 0
    return Image.fromarray(pixels)


def test_an_unchanged_jpeg_is_not_compressed_again(tmp_path: Path, tiny: str, capsys) -> None:
    page().save(tmp_path / "page.jpg", quality=85)
    exif = Image.Exif()
    exif[0x0112] = 6
    page().save(tmp_path / "turned.jpg", quality=85, exif=exif)
    page().save(tmp_path / "several.jpg", "MPO", quality=85, save_all=True, append_images=[page()])
    for name in ("page", "turned", "several"):
        given = ["restore", str(tmp_path / f"{name}.jpg"), "-o", str(tmp_path / f"{name}_out.jpg")]
        assert cli.main([*given, "--device", "cpu"]) == 0
        assert "left unchanged" in capsys.readouterr().err
    for name in ("page", "several"):
        assert (tmp_path / f"{name}_out.jpg").read_bytes() == (
            tmp_path / f"{name}.jpg"
        ).read_bytes()
    assert read_image(tmp_path / "turned_out.jpg").shape == (128, 96, 3)


def test_an_unchanged_jpeg_is_copied_as_it_was_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, target = tmp_path / "page.jpg", tmp_path / "out.jpg"
    page().save(source, quality=85)
    judged = source.read_bytes()
    runner = Runner(Settings(device="cpu"))
    choose = runner._choose

    def choose_then_change(*arguments: Any) -> Any:
        source.write_bytes(b"replaced meanwhile")
        return choose(*arguments)

    monkeypatch.setattr(runner, "_choose", choose_then_change)
    assert "left unchanged" in runner.run(Job(source, target))
    assert target.read_bytes() == judged


def test_the_model_auto_is_the_default(tmp_path: Path, run: Any) -> None:
    Image.fromarray(GRAY).save(tmp_path / "a.jpg", quality=10)
    arguments = (tmp_path / "a.jpg", "-o", tmp_path / "out", "--resume")
    assert "found JPEG of quality 10 -> " in run(*arguments, model="auto")[1]
    assert "0 restored, 1 already done" in run(*arguments, model=None)[1]


def test_names_are_printed_without_control_characters(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "in" / "a\x1b[31m.png", CLEAN)
    assert run(tmp_path / "in", "-o", tmp_path / "out")[0] == 0
    status, said = run(tmp_path / "in", "-o", tmp_path / "out")
    assert status == 1 and "a?[31m.png exists" in said and "\x1b" not in said


def test_a_shard_without_an_image_makes_no_folder_of_the_output(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "a.png", CLEAN)
    target = tmp_path / "out.png"
    assert run(tmp_path / "a.png", "-o", target, "--resume", "--shard", "2/2")[0] == 0
    assert not target.exists()
    assert run(tmp_path / "a.png", "-o", target, "--resume", "--shard", "1/2")[0] == 0
    assert_brightened(target, CLEAN)


def test_results_that_match_the_pattern_are_not_inputs(
    tmp_path: Path, run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_image(tmp_path / "p/a.png", CLEAN)
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        status, said = run("**/*.png", "-o", "restored", "--overwrite")
        assert status == 0 and "1 restored in" in said
    # but an output folder that contains the input folder hides nothing
    assert run("p/*.png", "-o", ".")[0] == 0
    assert (tmp_path / "a.png").is_file()
    assert run("p", "-o", ".", "--overwrite")[0] == 0


def test_compare_shows_before_and_after(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "a.png", CLEAN)
    assert run(tmp_path / "a.png", "-o", tmp_path / "out.png", "--compare")[0] == 0
    both = read_image(tmp_path / "out.compare.png")
    height, width = CLEAN.shape[:2]
    assert both.shape == (height, 2 * width + 8, 3)
    np.testing.assert_array_equal(both[:, :width], CLEAN)
    np.testing.assert_array_equal(both[:, -width:], read_image(tmp_path / "out.png"))


def test_formats_are_converted(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "a.png", noisy(CLEAN, 5, "uint16"))
    for suffix, kind in (("jpg", "JPEG"), ("webp", "WEBP"), ("tiff", "TIFF")):
        status, said = run(tmp_path / "a.png", "-o", tmp_path / "out/", "--format", suffix)
        assert status == 0
        assert ("16 bits reduced to 8" in said) == (suffix != "tiff")
        with Image.open(tmp_path / f"out/a.{suffix}") as result:
            assert result.format == kind
    write_image(tmp_path / "b.bmp", CLEAN)
    assert run(tmp_path / "b.bmp", "-o", tmp_path / "out")[0] == 0
    assert_brightened(tmp_path / "out/b.png", CLEAN)


def test_through_a_pipe(tiny: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(CLEAN).save(stream, "PNG", icc_profile=ICC)
    done = subprocess.run(
        [sys.executable, "-m", "vheatir.cli", "restore", "-", "-o", "-", "--model", tiny],
        input=stream.getvalue(),
        capture_output=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        check=True,
        timeout=120,
    )
    result = Image.open(io.BytesIO(done.stdout))
    assert (result.format, result.info["icc_profile"]) == ("PNG", ICC)
    assert np.abs(np.asarray(result).astype(int) - brightened(CLEAN)).max() <= 1
    assert b"standard input: " in done.stderr and b"1 restored" in done.stderr


@pytest.mark.skipif(os.name == "nt", reason="closes the streams with a POSIX shell")
@pytest.mark.parametrize(
    ("arguments", "name"), [("- -o out.png <&-", "input"), ("a.png -o - >&-", "output")]
)
def test_closed_standard_streams(tmp_path: Path, arguments: str, name: str) -> None:
    write_image(tmp_path / "a.png", CLEAN[:9, :9])
    done = subprocess.run(
        ["sh", "-c", f'"{sys.executable}" -m vheatir.cli restore {arguments}'],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        text=True,
        timeout=120,
    )
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the standard {name} is closed: ")
    assert done.stderr.count("\n") == 1


def test_a_format_for_the_standard_output(
    tmp_path: Path, tiny: str, capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    (tmp_path / "a.heic").write_bytes(heic(CLEAN))
    common = ["restore", str(tmp_path / "a.heic"), "-o", "-", "--model", tiny, "--device", "cpu"]
    for options, kind in (([], "JPEG"), (["--format", "png"], "PNG")):
        assert cli.main([*common, *options]) == 0
        assert Image.open(io.BytesIO(capsysbinary.readouterr().out)).format == kind


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.png", "-o", "out"], "does not exist"),
        (["*.gif", "-o", "out"], "matches no image"),
        (["a.png", "b.png", "-o", "out.png"], "2 images cannot be written to 'out.png'"),
        (["a.png", "b.png", "-o", "-"], "standard output"),
        (["a.png", "a.bmp", "-o", "out"], "would both be written"),
        (["a.png", "-o", "out.bmp"], "cannot write .bmp"),
        (["a.png", "-o", "out.heic"], "cannot write .heic"),
        (["a.png", "-o", "out.GIF"], "cannot write .GIF"),
        (["a.png", "-o", "out.tga"], "cannot write .tga"),
        (["a.png", "-o", "out.jpg", "--format", "png"], "contradict"),
        (["a.png", "-o", "notes.txt"], "is a file"),
        (["a.png", "-o", "-", "--compare"], "--compare"),
        (["a.png", "-o", "out", "--model", "denoise_grey"], "did you mean 'denoise_gray'"),
        (["a.png", "-o", "out", "--model", "denoise_gray_small", "--task", "jpeg"], "omit --task"),
        (["a.png", "-o", "out", "--level", "15"], "--task denoise or jpeg"),
        (["a.png", "-o", "out", "--task", "photo", "--level", "20"], "photo takes no level"),
        (["a.png", "-o", "out", "--task", "photo", "--model", "jpeg_gray_small"], "task is photo"),
        (["a.png", "-o", "out", "--strength", "160"], "0 (the input) to 150"),
        (["a.png", "-o", "out", "--luma", "nan"], "0 (the input) to 150"),
        (["a.png", "-o", "out", "--chroma", "-1"], "0 (the input) to 150"),
        (["a.png", "-o", "out", "--device", "abacus"], "abacus"),
        (["empty", "-o", "out"], "contains no images"),
    ],
)
def test_invalid_arguments_are_reported_before_any_work(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.png", "b.png", "a.bmp"):
        write_image(name, CLEAN[:9, :9])
    Path("notes.txt").write_text("kept")
    Path("empty").mkdir()
    before = sorted(os.listdir())
    assert cli.main(["restore", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert sorted(os.listdir()) == before


@pytest.mark.parametrize(
    "option",
    [
        ["--tile", "x"],
        ["--tile", "8"],
        ["--level", "much"],
        ["--max-pixels", "0"],
        ["--strength", "full"],
    ],
)
def test_malformed_options_are_refused(option: list[str]) -> None:
    with pytest.raises(SystemExit) as leave:
        cli.main(["restore", "a.png", "-o", "out", *option])
    assert leave.value.code == 2


def test_unsupported_images_are_reported_individually(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "in/large.png", np.zeros((40, 40), np.uint8))
    write_image(tmp_path / "in/small.png", np.zeros((20, 20), np.uint8))
    status, said = run(tmp_path / "in", "-o", tmp_path / "out", "--max-pixels", "1e3")
    assert status == 1 and "large.png: failed: has 40 x 40 pixels" in said and "1 restored" in said
    # A gray denoiser would leave the chroma noise.
    write_image(tmp_path / "in/colour.png", CLEAN[:20, :20])
    status, said = run(tmp_path / "in", "-o", tmp_path / "gray", model="denoise_gray_small")
    assert status == 1 and "colour.png: failed: " in said and "2 restored, 1 failed" in said
    write_image(tmp_path / "alpha.png", np.full((9, 9, 4), 99, np.uint8))
    status, said = run(tmp_path / "alpha.png", "-o", tmp_path / "out", "--format", "jpg")
    assert status == 1 and "transparency" in said
    assert not (tmp_path / "out/alpha.jpg").exists()


def test_transparency_in_jpeg_is_refused_before_the_work(tmp_path: Path, photo: str) -> None:
    write_image(tmp_path / "a.png", np.dstack([noisy(CLEAN), noisy(GRAY)]))
    runner = Runner(Settings(task="photo", model=photo, device="cpu"))
    tiles: list[int] = []
    for suffix in (".jpg", ".png"):
        job = Job(tmp_path / "a.png", tmp_path / f"out{suffix}")
        outcome = runner.attempt(job, lambda done, total: tiles.append(done))
        if suffix == ".jpg":
            assert outcome.state == "failed" and "transparency" in outcome.message
            assert not tiles
    assert outcome.state == "restored" and tiles


def test_strength_scales_what_the_model_did(tmp_path: Path, run: Any) -> None:
    image = np.clip(CLEAN, 0, 200)
    write_image(tmp_path / "a.png", image)
    arguments = (tmp_path / "a.png", "-o", tmp_path / "out.png", "--overwrite")
    results = {}
    for strength in (0, 50, 100, 150):
        status, said = run(*arguments, "--strength", strength)
        assert status == 0
        assert (f", strength {strength} %" in said) == (strength != 100)
        results[strength] = read_image(tmp_path / "out.png").astype(int)
    np.testing.assert_array_equal(results[0], image)
    assert np.abs(results[100] - brightened(image)).max() <= 1
    for low, high in ((0, 50), (50, 100), (100, 150)):
        assert (results[low] < results[high]).mean() > 0.99
    # The default is the model's result.
    assert run(*arguments)[0] == 0
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), results[100])


def test_luma_and_chroma_override_the_strength(tmp_path: Path, run: Any) -> None:
    """The model brightens, so it only changes luma."""
    image = np.clip(CLEAN, 0, 200)
    write_image(tmp_path / "a.png", image)
    arguments = (tmp_path / "a.png", "-o", tmp_path / "out.png", "--overwrite")
    for options, expected, message in [
        (("--luma", 0), image, "luma 0 %, chroma 100 %"),
        (("--strength", 0, "--luma", 100), brightened(image), "luma 100 %, chroma 0 %"),
        (("--strength", 0, "--chroma", 80), image, "luma 0 %, chroma 80 %"),
        (("--strength", 30, "--luma", 100, "--chroma", 100), brightened(image), ""),
    ]:
        status, said = run(*arguments, *options)
        assert status == 0 and message in said and (" %" in said) == bool(message)
        result = read_image(tmp_path / "out.png").astype(int)
        assert np.abs(result - expected).max() <= 1


def test_another_strength_is_restored_again_on_resume(tmp_path: Path, run: Any) -> None:
    write_image(tmp_path / "in/a.png", CLEAN)
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--resume")
    assert "1 restored in" in run(*arguments, "--strength", 60)[1]
    assert "0 restored, 1 already done" in run(*arguments, "--strength", 60)[1]
    assert "0 restored, 1 already done" in run(*arguments, "--luma", 60, "--chroma", 60.0)[1]
    assert "1 restored in" in run(*arguments, "--strength", 60, "--chroma", 61)[1]
    assert "1 restored in" in run(*arguments)[1]


def test_the_self_ensemble_is_that_of_python(tmp_path: Path, run: Any, photo: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    write_image(tmp_path / "a.png", image)
    asked = (tmp_path / "a.png", "-o", tmp_path / "out.png", "--self-ensemble")
    assert run(*asked, model=photo)[0] == 0
    expected = Restorer(photo, "cpu").restore(image, self_ensemble=True)
    np.testing.assert_array_equal(read_image(tmp_path / "out.png"), expected)


@pytest.fixture(scope="session")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An untrained model of the task without a level."""
    torch.manual_seed(0)
    net = build_network(
        {"type": "VHeatIRUNet", "channels": [8, 8], "depths": [1, 1], "mixers": ["conv", "conv"]}
    )
    for parameter in net.parameters():
        parameter.data += 0.02 * torch.randn_like(parameter)
    path = tmp_path_factory.mktemp("weights") / "photo_tiny.safetensors"
    save_weights(path, net, {"task": "photo", "level": None, "name": "photo_tiny"})
    return str(path)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_photographs_have_no_level(tmp_path: Path, run: Any, photo: str, dtype: str) -> None:
    gray, colour = noisy(GRAY, 10, dtype), noisy(CLEAN, 10, dtype)
    alpha = gray[::-1].copy()
    images = {
        "gray": gray,
        "gray_as_rgb": np.dstack([gray] * 3),
        "gray_as_rgba": np.dstack([gray, gray, gray, alpha]),
        "rgb": colour,
        "rgba": np.dstack([colour, alpha]),
    }
    for name, image in images.items():
        write_image(tmp_path / "in" / f"{name}.png", image)
    status, said = run(tmp_path / "in", "-o", tmp_path / "out", "--task", "photo", model=photo)
    assert status == 0 and said.count(".png: restored -> photo_tiny, ") == len(images)
    plain = read_image(tmp_path / "out/gray.png")
    for name, image in images.items():
        after = read_image(tmp_path / "out" / f"{name}.png")
        assert (after.shape, after.dtype) == (image.shape, image.dtype)
        assert not np.array_equal(after[..., :3], image[..., :3])
        if name.endswith("a"):
            np.testing.assert_array_equal(after[..., 3], image[..., 3])
        if name.startswith("gray_as"):
            for channel in range(3):
                np.testing.assert_array_equal(after[..., channel], plain)
    status, said = run(tmp_path / "in", "-o", tmp_path / "out", "--level", 20, model=photo)
    assert status == 2 and "photo takes no level" in said and said.count("\n") == 1


def test_gray_and_alpha_through_the_photo_model(tmp_path: Path, run: Any, photo: str) -> None:
    image = np.dstack([GRAY, GRAY[::-1]])
    Image.fromarray(image).save(tmp_path / "a.png")
    assert run(tmp_path / "a.png", "-o", tmp_path / "out.png", model=photo)[0] == 0
    with Image.open(tmp_path / "out.png") as result:
        assert result.mode == "LA"
        after = np.asarray(result)
    np.testing.assert_array_equal(after[..., 1], image[..., 1])
    np.testing.assert_array_equal(after[..., 0], Restorer(photo, "cpu").restore(GRAY))


def test_the_task_photo_asks_for_one_model_gray_or_colour(tmp_path: Path, photo: str) -> None:
    asked = []

    def load(name: str) -> Restorer:
        asked.append(name)
        return Restorer(photo, "cpu")

    runner = Runner(Settings(task="photo", device="cpu"), load)
    for index, image in enumerate((GRAY, CLEAN)):
        write_image(tmp_path / f"{index}.png", image)
        message = runner.run(Job(tmp_path / f"{index}.png", tmp_path / f"out{index}.png"))
        assert message.startswith("restored -> photo_tiny, ")
    assert asked == ["photo"]
