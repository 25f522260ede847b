"""The bundled photographs: present, colour, and disjoint."""

from __future__ import annotations

import numpy as np
import skimage.data

from vheatir.bundled import HELDOUT_FILES, TRAINING_FILES, heldout_photographs, training_photographs


def test_photographs_are_colour_and_large_enough_for_128_pixel_patches() -> None:
    for name, image in {**training_photographs(), **heldout_photographs()}.items():
        assert image.dtype == np.uint8, name
        assert image.ndim == 3 and image.shape[2] == 3, name
        assert min(image.shape[:2]) >= 256, name
        assert np.ptp(image.reshape(-1, 3).astype(int), axis=1).mean() > 5, f"{name} is gray"


def test_channels_are_in_rgb_order() -> None:
    np.testing.assert_array_equal(heldout_photographs()["chelsea"], skimage.data.chelsea())
    np.testing.assert_array_equal(training_photographs()["astronaut"], skimage.data.astronaut())


def test_no_photograph_is_both_trained_on_and_held_out() -> None:
    assert not set(TRAINING_FILES.values()) & set(HELDOUT_FILES.values())
    trained = {image.tobytes() for image in training_photographs().values()}
    assert trained.isdisjoint(image.tobytes() for image in heldout_photographs().values())
