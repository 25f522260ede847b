"""Photographs bundled in the scikit-image wheel: real images without a download.

The quickstart trains on :func:`training_photographs` and is evaluated on
:func:`heldout_photographs`; the benchmark script falls back to the latter if no test set is found.
The two sets share no image or scene: the motorcycle images are a stereo pair, and both are in the
training set. Only colour images inside the scikit-image wheel are used, never those that it
downloads on first use. They come from NASA (astronaut), SpaceX (rocket), the Middlebury stereo set
(motorcycle), and R. Michel, S. van der Walt and others; see ``skimage.data`` for sources and
licences.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vheatir.errors import VHeatIRError
from vheatir.image_io import read_image

TRAINING_FILES = {
    "astronaut": "astronaut.png",
    "motorcycle_left": "motorcycle_left.png",
    "motorcycle_right": "motorcycle_right.png",
    "rocket": "rocket.jpg",
    "tissue": "ihc.png",
}
# Lossless files with low noise, suitable as references.
HELDOUT_FILES = {"chelsea": "chelsea.png", "coffee": "coffee.png"}


def training_photographs() -> dict[str, NDArray[np.uint8]]:
    """Return the training photographs.

    Returns:
        Mapping from name to ``uint8`` array of shape (H, W, 3), RGB.

    Raises:
        VHeatIRError: the installed scikit-image does not contain them.
    """
    return {name: _read(file) for name, file in TRAINING_FILES.items()}


def heldout_photographs() -> dict[str, NDArray[np.uint8]]:
    """Return the held-out photographs for evaluation.

    Returns:
        Mapping from name to ``uint8`` array of shape (H, W, 3), RGB.

    Raises:
        VHeatIRError: the installed scikit-image does not contain them.
    """
    return {name: _read(file) for name, file in HELDOUT_FILES.items()}


def photograph_folder() -> Path:
    """Return the data folder of the installed scikit-image."""
    import skimage

    return Path(skimage.__file__).parent / "data"


def _read(file: str) -> NDArray[np.uint8]:
    path = photograph_folder() / file
    if not path.is_file():
        raise VHeatIRError(
            f"the installed scikit-image does not contain {file}: "
            "install scikit-image 0.22 or newer from its wheel, or give a folder of images"
        )
    return np.ascontiguousarray(read_image(path)[..., :3], dtype=np.uint8)
