"""ICC profiles made from code points, checked with LittleCMS and published matrices."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from vheatir.inference.profiles import icc_transfer, make_icc

# Linear RGB to linear sRGB; both have the white of D65 (ITU-R BT.2087; CSS Color 4, for P3).
TO_SRGB = {
    12: [[1.2249, -0.2249, 0.0], [-0.0421, 1.0421, 0.0], [-0.0196, -0.0786, 1.0983]],
    9: [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
}


def decode_srgb(x: np.ndarray) -> np.ndarray:
    return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)


def encode_srgb(x: np.ndarray) -> np.ndarray:
    x = x.clip(0, 1)
    return np.where(x <= 0.0031308, x * 12.92, 1.055 * x ** (1 / 2.4) - 0.055)


def to_srgb(pixels: np.ndarray, icc: bytes) -> np.ndarray:
    srgb = ImageCms.createProfile("sRGB")
    image = Image.fromarray(pixels)
    converted = ImageCms.profileToProfile(image, ImageCms.ImageCmsProfile(io.BytesIO(icc)), srgb)
    assert converted is not None
    return np.asarray(converted).astype(float)


# Muted colours inside sRGB: clipping differs between programs.
PIXELS = np.random.default_rng(0).integers(90, 170, (16, 16, 3), dtype=np.uint8)


@pytest.mark.parametrize("primaries", TO_SRGB)
def test_wide_gamuts_are_what_others_take_them_for(primaries: int) -> None:
    icc = make_icc(primaries, 13)
    assert icc is not None
    linear = decode_srgb(PIXELS / 255) @ np.array(TO_SRGB[primaries]).T
    np.testing.assert_allclose(to_srgb(PIXELS, icc), 255 * encode_srgb(linear), atol=1.5)
    assert np.abs(to_srgb(PIXELS, icc) - PIXELS).max() > 10  # what it would be off without


@pytest.mark.parametrize(("transfer", "gamma"), [(4, 2.2), (5, 2.8), (8, 1.0), (17, 2.6)])
def test_gammas(transfer: int, gamma: float) -> None:
    icc = make_icc(1, transfer)
    assert icc is not None
    expected = 255 * encode_srgb((PIXELS / 255) ** gamma)
    np.testing.assert_allclose(to_srgb(PIXELS, icc), expected, atol=1.5)


def test_what_is_srgb_needs_no_profile() -> None:
    for primaries in (1, 2):
        for transfer in (1, 2, 6, 13, 14, 15):
            assert make_icc(primaries, transfer) is None
    assert make_icc(200, 13) is None


@pytest.mark.parametrize("primaries", [4, 5, 6, 7, 9, 11, 12, 22])
def test_white_stays_white(primaries: int) -> None:
    icc = make_icc(primaries, 13)
    assert icc is not None
    white = np.full((2, 2, 3), 255, np.uint8)
    assert to_srgb(white, icc).min() >= 254
    assert icc_transfer(icc) is None


def test_code_points_inside_a_profile_are_found() -> None:
    tag = b"cicp" + bytes(4) + bytes([9, 16, 0, 1])
    head = bytes(128) + (1).to_bytes(4, "big") + b"cicp"
    icc = head + (144).to_bytes(4, "big") + (12).to_bytes(4, "big") + tag
    assert icc_transfer(icc) == 16
    for end in range(len(icc) - 2):
        assert icc_transfer(icc[:end]) is None
