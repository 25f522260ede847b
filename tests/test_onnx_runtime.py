"""Exported files restore without PyTorch what ``Restorer`` restores with it."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from tests.export.conftest import ONNX
from tests.export.networks import CONVOLUTIONS, tiny_model
from vheatir import onnx_runtime
from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.errors import VHeatIRError
from vheatir.image_io import write_image
from vheatir.inference import Restorer
from vheatir.onnx_runtime import open_session, restore

onnx = pytest.importorskip("onnx", reason=ONNX)
for package in ("onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason=ONNX)

from vheatir.export import export_model  # noqa: E402

PHOTOGRAPH = np.ascontiguousarray(heldout_photographs()["chelsea"][100:148, 100:164])
GRAY = to_color_mode(PHOTOGRAPH, "gray")
ALPHA = np.arange(GRAY.size, dtype=np.uint8).reshape(*GRAY.shape, 1)

CONFIGS: dict[str, dict[str, Any]] = {
    "denoise_color": {**CONVOLUTIONS, "level_scale": 255.0},
    "jpeg_gray": {**CONVOLUTIONS, "in_chans": 1},
}


class Pair:
    """One model twice: as a session and as a restorer."""

    def __init__(self, task: str, folder: Path) -> None:
        model = tiny_model(CONFIGS[task], task, (5, 95) if task == "jpeg_gray" else (0, 55))
        self.file = export_model(model, folder / f"{task}.onnx")
        self.session = open_session(self.file)
        self.restorer = Restorer(model, "cpu")

    def compare(self, image: NDArray[Any], level: float | None, tile: int | None = None) -> None:
        result = restore(self.session, image, level, tile)
        assert result.dtype == image.dtype and result.shape == image.shape
        expected = self.restorer.restore(image, level, tile=tile).astype(int)
        white = np.iinfo(image.dtype).max
        np.testing.assert_allclose(result, expected, rtol=0, atol=max(1, white / 10_000))
        assert np.abs(result - expected.mean()).max() > 1  # not flat
        assert not np.array_equal(result, image)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    folder = tmp_path_factory.mktemp("onnx")
    return {task: Pair(task, folder) for task in CONFIGS}


@pytest.mark.parametrize(
    "image",
    [
        PHOTOGRAPH,
        PHOTOGRAPH.astype(np.uint16) * 257,
        GRAY,
        np.repeat(GRAY[..., None], 3, axis=2),
        np.concatenate([PHOTOGRAPH, ALPHA], axis=2),
        np.concatenate([GRAY[..., None], ALPHA], axis=2),
    ],
    ids=["RGB", "16 bits", "gray", "gray as RGB", "RGBA", "gray and alpha"],
)
def test_images_of_every_kind(pairs: dict[str, Pair], image: NDArray[Any]) -> None:
    pairs["denoise_color"].compare(image, 20)
    if image.ndim == 3 and image.shape[2] in (2, 4):
        result = restore(pairs["denoise_color"].session, image, 20)
        np.testing.assert_array_equal(result[..., -1], image[..., -1])


def test_tiles_and_an_estimated_level(pairs: dict[str, Pair]) -> None:
    pairs["denoise_color"].compare(PHOTOGRAPH, None, tile=32)
    pairs["denoise_color"].compare(GRAY, None)


def test_a_luma_model_keeps_the_chroma(pairs: dict[str, Pair]) -> None:
    pairs["jpeg_gray"].compare(PHOTOGRAPH, None)


def test_a_file_stays_upright_with_its_profile_and_transparency(
    pairs: dict[str, Pair], tmp_path: Path
) -> None:
    rgba = np.concatenate([PHOTOGRAPH, ALPHA], axis=2)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored rotated
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(np.ascontiguousarray(np.rot90(rgba))).save(
        source, exif=exif, icc_profile=b"profile" * 20
    )
    arguments = [str(pairs["denoise_color"].file), str(source), "-o", str(target), "--level", "20"]
    assert onnx_runtime.main(arguments) == 0
    with Image.open(target) as image:
        assert image.info["icc_profile"] == b"profile" * 20 and 0x0112 not in image.getexif()
        expected = restore(pairs["denoise_color"].session, rgba, 20)
        np.testing.assert_array_equal(np.asarray(image), expected)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ("{gray} {image} -o {out}.png", "restores gray images"),
        ("{color} {image} -o {out}.png --level 80", "trained for sigma 0 to 55"),
        ("{luma} {image} -o {out}.png --level 30", "omit the level"),
        ("{color} {image} -o {out}.png --tile 8", "give at least 16"),
        ("{color} {image} -o {out}.gif", "unknown suffix '.gif'"),
        ("{color} {image} -o {image}", "--overwrite"),
        ("{image} {image} -o {out}.png", "is not an ONNX file"),
        ("{out} {image} -o {out}.png", "cannot be opened"),
        ("{color} {color} -o {out}.png", "is not an image"),
        ("{foreign} {image} -o {out}.png", "not a model of this package"),
        ("{color} {clear} -o {out}.jpg", "write PNG"),
    ],
)
def test_mistakes_get_one_line(
    pairs: dict[str, Pair],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arguments: str,
    message: str,
) -> None:
    image = tmp_path / "in.png"
    Image.fromarray(PHOTOGRAPH).save(image)
    color, luma = (pairs[task].file for task in ("denoise_color", "jpeg_gray"))
    gray = tmp_path / "gray.onnx"  # another task by its metadata alone
    model = onnx.load(luma)
    fields = {each.key: each.value for each in model.metadata_props}
    onnx.helper.set_model_props(model, {**fields, "task": "denoise_gray"})
    onnx.save(model, gray)
    foreign = tmp_path / "foreign.onnx"  # a graph of another program, with the same input
    onnx.helper.set_model_props(model, {"task": "denoise_gray"})
    onnx.save(model, foreign)
    clear = tmp_path / "clear.png"
    Image.fromarray(np.concatenate([PHOTOGRAPH, ALPHA], axis=2)).save(clear)
    files = [gray, foreign, image, clear]
    names = ("gray", "foreign", "image", "clear")
    paths = dict(zip(names, files, strict=True))
    paths |= {"color": color, "luma": luma, "out": tmp_path / "out"}
    assert onnx_runtime.main(arguments.format(**paths).split()) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message in error
    assert sorted(tmp_path.iterdir()) == sorted(files)


def test_a_deep_tiff_without_tifffile_gets_one_line(
    pairs: dict[str, Pair],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source, target = tmp_path / "in.png", tmp_path / "out.tiff"
    write_image(source, PHOTOGRAPH.astype(np.uint16) * 257)
    arguments = [str(pairs["denoise_color"].file), str(source), "-o", str(target), "--level", "20"]
    monkeypatch.setitem(sys.modules, "tifffile", None)  # import fails
    assert onnx_runtime.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert "pip install tifffile" in error and "write PNG" in error
    assert not target.exists()


@pytest.mark.parametrize("shape", [(3, 40, 50), (8, 8, 5), (8,), (0, 8)])
def test_other_arrays_are_refused(pairs: dict[str, Pair], shape: tuple[int, ...]) -> None:
    with pytest.raises(VHeatIRError, match="cannot be restored: give uint8"):
        restore(pairs["denoise_color"].session, np.zeros(shape, np.uint8))


def test_a_luma_model_trained_on_pairs_keeps_the_chroma(tmp_path: Path) -> None:
    model = tiny_model({**CONVOLUTIONS, "in_chans": 1}, None, None)
    model.info["color"] = "luma"
    session = open_session(export_model(model, tmp_path / "luma.onnx"))
    expected = Restorer(model, "cpu").restore(PHOTOGRAPH).astype(int)
    np.testing.assert_allclose(restore(session, PHOTOGRAPH), expected, rtol=0, atol=1)


def test_a_quality_is_not_estimated(tmp_path: Path) -> None:
    model = tiny_model({**CONVOLUTIONS, "level_scale": 100.0}, "jpeg_color", (5, 95))
    session = open_session(export_model(model, tmp_path / "jpeg.onnx"))
    with pytest.raises(VHeatIRError, match="needs the JPEG quality"):
        restore(session, PHOTOGRAPH)
    with pytest.raises(VHeatIRError, match="quality 3: this model is trained for quality 5 to 95"):
        restore(session, PHOTOGRAPH, 3)
    assert restore(session, PHOTOGRAPH, 40).shape == PHOTOGRAPH.shape


def test_the_small_distribution_holds_all_that_it_imports() -> None:
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    root = Path(onnx_runtime.__file__).parents[1]
    project = root / "packaging" / "onnx" / "pyproject.toml"
    if not project.is_file():
        pytest.skip("needs the checkout")
    wheel = tomllib.loads(project.read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    modules = wheel["hooks"]["custom"]["modules"]
    packages = {"numpy", "PIL"}
    for module in modules:
        path = root.joinpath("vheatir", *module.split(".")).with_suffix(".py")
        for node in ast.parse(path.read_text()).body:
            names = [each.name for each in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                top, _, rest = name.partition(".")
                known = rest in modules if top == "vheatir" else top in packages
                assert known or top in sys.stdlib_module_names, f"{module} imports {name}"
