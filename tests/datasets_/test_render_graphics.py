from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import render_graphics
from PIL import Image, ImageDraw

from vheatir.image_io import list_images, read_image
from vheatir.inference import choose_model

SCRIPT = Path(__file__).parents[2] / "datasets" / "render_graphics.py"


def test_the_same_seed_gives_the_same_images_and_others_differ() -> None:
    images = [render_graphics.render(np.random.default_rng([1, i % 10]), 128) for i in range(20)]
    assert all(image.shape == (128, 128, 3) and image.dtype == np.uint8 for image in images)
    for first, second in zip(images[:10], images[10:], strict=True):
        np.testing.assert_array_equal(first, second)
    assert len({image.tobytes() for image in images}) == 10


def test_drawn_images_count_as_clean() -> None:
    fonts = render_graphics.find_fonts()
    for number in range(20):
        image = np.asarray(render_graphics.draw(np.random.default_rng([2, number]), 256, fonts))
        assert image.std() > 1, number  # something is drawn
        assert choose_model(image).model is None, number


def test_scans_are_softer_darker_and_unevenly_lit() -> None:
    for number in range(10):
        rng = np.random.default_rng([3, number])
        image = Image.new("RGB", (128, 128), "white")
        ImageDraw.Draw(image).line((0, 64, 128, 64), "black", 3)
        scanned = render_graphics.scan(image, rng).astype(float)
        assert np.ptp(scanned.mean(2)) < 255 and scanned.mean() < np.asarray(image).mean()
        np.testing.assert_array_equal(scanned[..., 0], scanned[..., 1])  # grain has no colour
        corners = [scanned[y : y + 20, x : x + 20].mean() for y in (0, 108) for x in (0, 108)]
        assert max(corners) - min(corners) > 1, number


def test_some_rendered_images_are_scans() -> None:
    def colors(number: int) -> int:
        image = render_graphics.render(np.random.default_rng([4, number]), 128)
        return len(np.unique(image.reshape(-1, 3), axis=0))

    assert sum(colors(number) > 1000 for number in range(20)) in range(2, 12)


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
