"""The handler of the batch tab, without a browser."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vheatir.image_io import decode_image, write_image
from vheatir.inference import Restorer

gr = pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

from vheatir.demo.batch import BatchTab  # noqa: E402
from vheatir.demo.models import Catalogue  # noqa: E402


def restore_batch(tab: BatchTab, file: Path, **options: Any) -> np.ndarray[Any, Any]:
    archive, report = tab.run([str(file)], "Noise", **options)
    assert archive is not None and "1 of 1 restored" in report
    with zipfile.ZipFile(archive) as opened:
        return decode_image(opened.read(opened.namelist()[0]))


def test_strength_of_a_batch(
    tmp_path: Path, weights: dict[str, Path], photograph: np.ndarray[Any, Any]
) -> None:
    image = photograph[:40, :48]
    write_image(tmp_path / "a.png", image)
    tab = BatchTab(Catalogue([weights["all_levels"]], "cpu"), 10**6)
    restorer = Restorer(weights["all_levels"], "cpu")
    np.testing.assert_array_equal(restore_batch(tab, tmp_path / "a.png"), restorer.restore(image))
    np.testing.assert_array_equal(restore_batch(tab, tmp_path / "a.png", luma=0, chroma=0), image)
    np.testing.assert_array_equal(
        restore_batch(tab, tmp_path / "a.png", luma=60, chroma=130),
        restorer.restore(image, strength=(60, 130)),
    )
    with pytest.raises(gr.Error, match="0 .*150"):
        tab.run([str(tmp_path / "a.png")], luma=151)


def test_names_in_the_archive_differ_in_more_than_case(
    tmp_path: Path, weights: dict[str, Path], photograph: np.ndarray[Any, Any]
) -> None:
    for name in ("a/IMG.png", "b/img.PNG"):
        write_image(tmp_path / "x.png", photograph[:16, :16])
        (tmp_path / name).parent.mkdir()
        (tmp_path / "x.png").rename(tmp_path / name)
    tab = BatchTab(Catalogue([weights["all_levels"]], "cpu"), 10**6)
    archive, _ = tab.run([str(tmp_path / "a/IMG.png"), str(tmp_path / "b/img.PNG")], "Noise", "PNG")
    assert archive is not None
    with zipfile.ZipFile(archive) as opened:
        assert opened.namelist() == ["IMG.png", "img_2.png"]


def test_advice_is_about_the_page(
    tmp_path: Path, weights: dict[str, Path], photograph: np.ndarray[Any, Any]
) -> None:
    write_image(tmp_path / "a.png", np.dstack([photograph, photograph[..., 0]])[:16, :16])
    tab = BatchTab(Catalogue([weights["all_levels"]], "cpu"), 10**6)
    archive, report = tab.run([str(tmp_path / "a.png")], "Noise", "JPEG")
    assert archive is None and "write PNG" in report
