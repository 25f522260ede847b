"""Photographs that come inside the scikit-image wheel: real images without a download.

The quickstart trains on :func:`training_photographs` and is measured on
:func:`heldout_photographs`; the benchmark script falls back to the latter where no test set is
found. The two share no image (nor scene: the two motorcycle pictures are a stereo pair and stay
together). Only colour pictures that scikit-image keeps inside its wheel are used, never those it
would fetch on first use. They come from NASA (astronaut), SpaceX (rocket), the Middlebury stereo
set (motorcycle), and R. Michel, S. van der Walt and others; see ``skimage.data`` for each one's
source and licence.
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
# Lossless files with little noise of their own, so that they can serve as references.
HELDOUT_FILES = {
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
}


def training_photographs() -> dict[str, NDArray[np.uint8]]:
    """Return the photographs to train on.

    Returns:
        Name to ``uint8`` array of shape (H, W, 3), RGB.

    Raises:
        VHeatIRError: the installed scikit-image lacks them.
    """
    return {name: _read(file) for name, file in TRAINING_FILES.items()}


def heldout_photographs() -> dict[str, NDArray[np.uint8]]:
    """Return the photographs to test on, none of which is trained on.

    Returns:
        Name to ``uint8`` array of shape (H, W, 3), RGB.

    Raises:
        VHeatIRError: the installed scikit-image lacks them.
    """
    return {name: _read(file) for name, file in HELDOUT_FILES.items()}


def photograph_folder() -> Path:
    """Return the folder inside the installed scikit-image that holds the files."""
    import skimage

    return Path(skimage.__file__).parent / "data"


def _read(file: str) -> NDArray[np.uint8]:
    path = photograph_folder() / file
    if not path.is_file():
        raise VHeatIRError(
            f"the installed scikit-image does not contain {file}: "
            "install scikit-image 0.22 or newer from its wheel, or give a folder of images"
        )
    image = read_image(path)
    return np.ascontiguousarray(image[..., :3], dtype=np.uint8)
