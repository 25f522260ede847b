"""Noise and JPEG: determinism, statistics, agreement with OpenCV and published input PSNR."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.degradations import add_noise, benchmark_noise, jpeg_bytes, jpeg_compress
from vheatir.errors import VHeatIRError
from vheatir.image_io import list_images, read_image
from vheatir.metrics import psnr, psnrb, to_uint8


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    return np.ascontiguousarray(heldout_photographs()["coffee"][100:229, 200:375])


def test_noise_has_its_level_and_is_a_function_of_its_generator() -> None:
    image = np.full((256, 256, 3), 0.5, np.float32)
    noisy = add_noise(image, 25, np.random.default_rng(3))
    assert noisy.dtype == np.float32
    assert (noisy - image).std() * 255 == pytest.approx(25, rel=0.01)
    assert abs((noisy - image).mean()) * 255 < 0.2
    np.testing.assert_array_equal(noisy, add_noise(image, 25, np.random.default_rng(3)))
    assert not np.array_equal(noisy, add_noise(image, 25, np.random.default_rng(4)))
    np.testing.assert_array_equal(add_noise(image, 0, np.random.default_rng(3)), image)
    assert (image == 0.5).all(), "the input was overwritten"


def test_noise_is_neither_clipped_nor_negative_in_level() -> None:
    white = np.ones((64, 64), np.float32)
    assert add_noise(white, 50, np.random.default_rng(0)).max() > 1.2
    assert benchmark_noise(white, 50).max() > 1.2
    with pytest.raises(VHeatIRError, match="at least 0"):
        add_noise(white, -1, np.random.default_rng(0))
    with pytest.raises(VHeatIRError, match="at least 0"):
        benchmark_noise(white, float("nan"))


def test_benchmark_noise_is_swinirs(photo: NDArray[np.uint8]) -> None:
    bgr = photo[..., ::-1].astype(np.float32) / 255
    saved = np.random.get_state()
    np.random.seed(seed=0)
    expected = (bgr + np.random.normal(0, 25 / 255.0, bgr.shape)).astype(np.float32)[..., ::-1]
    np.random.set_state(saved)
    before = np.random.get_state()[1].copy()
    for _ in range(2):
        np.testing.assert_array_equal(benchmark_noise(photo.astype(np.float32) / 255, 25), expected)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("quality", [10, 75])
def test_jpeg_is_opencvs_default(photo: NDArray[np.uint8], quality: int) -> None:
    _, data = cv2.imencode(
        ".jpg", np.ascontiguousarray(photo[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    assert jpeg_bytes(photo, quality) == data.tobytes()
    np.testing.assert_array_equal(
        jpeg_compress(photo, quality), cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1]
    )
    gray = to_color_mode(photo, "luma")
    _, data = cv2.imencode(".jpg", gray, [cv2.IMWRITE_JPEG_QUALITY, quality])
    np.testing.assert_array_equal(jpeg_compress(gray, quality), cv2.imdecode(data, 0))


def test_jpeg_grid_starts_at_the_first_pixel() -> None:
    gray = to_color_mode(heldout_photographs()["coffee"][:240, :320], "gray")
    steps = np.abs(np.diff(jpeg_compress(gray, 5).astype(float), axis=1)).mean(axis=0)
    phases = [steps[phase::8].mean() for phase in range(8)]
    assert int(np.argmax(phases)) == 7
    assert phases[7] > 1.5 * max(phases[:7])


def test_less_subsampling_keeps_more_colour(photo: NDArray[np.uint8]) -> None:
    values = [psnr(jpeg_compress(photo, 60, s), photo) for s in ("4:2:0", "4:2:2", "4:4:4")]
    assert values == sorted(values) and values[0] < values[2] - 0.3


def test_jpeg_refuses_invalid_settings(photo: NDArray[np.uint8]) -> None:
    for quality in (0, 101, 10.5):
        with pytest.raises(VHeatIRError, match="1 to 100"):
            jpeg_compress(photo, quality)  # type: ignore[arg-type]
    with pytest.raises(VHeatIRError, match="4:2:0, 4:2:2, 4:4:4"):
        jpeg_compress(photo, 50, "4:2:1")  # type: ignore[arg-type]
    with pytest.raises(VHeatIRError, match="float32"):
        jpeg_compress(photo.astype(np.float32), 50)  # type: ignore[arg-type]


def _test_set(name: str) -> list[Path]:
    root = os.environ.get("VHEATIR_DATA")
    if not root or not (Path(root) / "test" / name).is_dir():
        pytest.skip(f"needs the test set {name} under $VHEATIR_DATA/test")
    return list_images(Path(root) / "test" / name)


@pytest.mark.parametrize(
    ("name", "published"),
    [("LIVE1", (27.77, 30.07, 31.41, 32.35)), ("classic5", (27.82, 30.12, 31.48, 32.43))],
)
def test_compressed_test_sets_have_the_published_psnr(
    name: str, published: tuple[float, ...]
) -> None:
    luma = [to_color_mode(read_image(path), "luma") for path in _test_set(name)]
    for quality, expected in zip((10, 20, 30, 40), published, strict=True):
        mean = np.mean([psnr(jpeg_compress(image, quality), image) for image in luma])
        assert mean == pytest.approx(expected, abs=0.01)


def test_compressed_live1_has_the_published_psnrb() -> None:
    """As published for the JPEG input in the tables of QGAC and FBCNN."""
    luma = [to_color_mode(read_image(path), "luma") for path in _test_set("LIVE1")]
    for quality, expected in zip((10, 20, 30, 40), (25.33, 27.57, 28.92, 29.96), strict=True):
        mean = np.mean([psnrb(jpeg_compress(image, quality), image) for image in luma])
        assert mean == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize(
    ("name", "mode", "published"),
    [("Set12", "gray", (24.70, 20.37, 14.79)), ("McMaster", "rgb", (25.11, 20.89, 15.37))],
)
def test_noisy_test_sets_have_the_known_psnr(name: str, mode, published: tuple[float, ...]) -> None:
    images = [to_color_mode(read_image(path), mode) for path in _test_set(name)]
    for sigma, expected in zip((15, 25, 50), published, strict=True):
        values = []
        for image in images:
            noisy = benchmark_noise(image.astype(np.float32) / 255, sigma)
            values.append(psnr(to_uint8(noisy), image))
        assert np.mean(values) == pytest.approx(expected, abs=0.01)
