"""Colour modes: agreement with OpenCV and MATLAB."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from vheatir.bundled import heldout_photographs
from vheatir.colors import to_color_mode
from vheatir.errors import VHeatIRError


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    return np.ascontiguousarray(heldout_photographs()["coffee"][100:229, 200:375])


def test_gray_is_opencvs_and_luma_is_matlabs(photo: NDArray[np.uint8]) -> None:
    bgr = np.ascontiguousarray(photo[..., ::-1])
    np.testing.assert_array_equal(
        to_color_mode(photo, "gray"), cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    )
    # MATLAB's rgb2ycbcr for white, black, red, green and blue.
    colours = np.array([[[255] * 3, [0] * 3, [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(to_color_mode(colours, "luma"), [[235, 16, 81, 145, 41]])


def test_gray_images_in_colour_modes() -> None:
    gray = np.arange(64, dtype=np.uint8).reshape(8, 8)
    for mode in ("gray", "luma"):
        np.testing.assert_array_equal(to_color_mode(gray, mode), gray)
    rgb = to_color_mode(gray, "rgb")
    assert rgb.shape == (8, 8, 3)
    np.testing.assert_array_equal(rgb[..., 2], gray)


def test_alpha_is_dropped_and_sixteen_bits_become_eight(photo: NDArray[np.uint8]) -> None:
    alpha = np.full((*photo.shape[:2], 1), 7, np.uint8)
    for mode in ("gray", "luma", "rgb"):
        np.testing.assert_array_equal(
            to_color_mode(np.concatenate([photo, alpha], axis=2), mode),
            to_color_mode(photo, mode),
        )
    np.testing.assert_array_equal(to_color_mode(photo.astype(np.uint16) * 257, "rgb"), photo)
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    np.testing.assert_array_equal(to_color_mode(every, "gray"), np.rint(every / 257.0))


@pytest.mark.parametrize(
    ("image", "mode", "message"),
    [
        (np.zeros((4, 4), np.float32), "gray", "float32"),
        (np.zeros((4, 4, 2), np.uint8), "gray", "shape"),
        (np.zeros((4, 4), np.uint8), "lumma", "did you mean 'luma'"),
    ],
)
def test_invalid_images_are_refused(image, mode, message: str) -> None:
    with pytest.raises(VHeatIRError, match=message):
        to_color_mode(image, mode)
