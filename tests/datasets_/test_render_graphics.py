from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import render_graphics

from vheatir.image_io import list_images, read_image
from vheatir.inference import choose_model

SCRIPT = Path(__file__).parents[2] / "datasets" / "render_graphics.py"


def test_the_same_seed_gives_the_same_images_and_others_differ() -> None:
    images = [render_graphics.render(np.random.default_rng([1, i % 10]), 128) for i in range(20)]
    assert all(image.shape == (128, 128, 3) and image.dtype == np.uint8 for image in images)
    for first, second in zip(images[:10], images[10:], strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({image.tobytes() for image in images}) == 10


def test_they_count_as_clean() -> None:
    fonts = render_graphics.find_fonts()
    for number in range(20):
        image = render_graphics.render(np.random.default_rng([2, number]), 256, fonts)
        assert image.std() > 1, number  # something is drawn
        assert choose_model(image).model is None, number


def test_the_command_continues_where_it_was_interrupted(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "images", "--size", "128", "--count"]
    for count in ("2", "4"):
        done = subprocess.run([*command, count], cwd=tmp_path, capture_output=True, text=True)
        assert (done.returncode, done.stdout) == (0, f"{count} images in images\n"), done.stderr
        if count == "2":
            (tmp_path / "images" / "graphics_1_0000.png").write_bytes(b"kept")
    assert (tmp_path / "images" / "graphics_1_0000.png").read_bytes() == b"kept"
    (tmp_path / "images" / "graphics_1_0000.png").unlink()
    shapes = [read_image(path).shape for path in list_images(tmp_path / "images")]
    assert shapes == 3 * [(128, 128, 3)]


def test_a_small_size_is_one_clear_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert render_graphics.main([str(tmp_path / "images"), "--size", "64"]) == 2
    assert "--size 64: give at least 128 pixels" in capsys.readouterr().err
    assert not (tmp_path / "images").exists()
