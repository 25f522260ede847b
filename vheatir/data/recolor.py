"""Colour augmentation: random saturation, channel order and channel gains.

Photographs mostly have low saturation, and most were once stored with chroma at half resolution, so
that their fine detail is gray: above a quarter of the sampling frequency, chroma has 1 to 8 % of
the energy of luma in the usual training sets. Film scans, paintings and screenshots differ: where
colours are saturated, shading has as much fine detail in chroma as in luma (42 % in McMaster). A
random gain per channel, as of coloured light, simulates this. docs/studies.md has the ablation.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vheatir.colors import BT601_LUMA

#: Largest saturation factor; the smallest is its inverse.
LARGEST_SATURATION = 2.0
#: Smallest gain of a channel; the largest of the three is 1.
SMALLEST_GAIN = 0.2
#: Random numbers per sample.
DRAWS = 6

_LUMA = torch.tensor(BT601_LUMA)
_ORDERS = torch.tensor(list(permutations(range(3))))


def color_matrices(share: float, uniform: Tensor) -> Tensor:
    """Return random colour transforms: saturation factor of 0.5 to 2, channel order and gains.

    Args:
        share: probability of a transform; otherwise the identity.
        uniform: (6, B) random numbers in [0, 1): whether to transform, saturation, channel order,
            and three gains.

    Returns:
        (B, 3, 3) float32: new = M old for RGB column vectors.
    """
    device = uniform.device
    saturation = LARGEST_SATURATION ** (2 * uniform[1].float() - 1)
    identity = torch.eye(3, device=device)
    # s I + (1 - s) [luma, luma, luma]^T: scales the distance from the gray of equal luma
    vivid = saturation[:, None, None] * identity
    vivid = vivid + (1 - saturation)[:, None, None] * _LUMA.to(device).expand(3, 3)
    orders = _ORDERS.to(device)
    order = orders[(uniform[2] * len(orders)).long().clamp(max=len(orders) - 1)]
    changed = vivid.gather(1, order[:, :, None].expand(-1, -1, 3))
    gains = SMALLEST_GAIN ** uniform[3:6].float()
    changed = changed * (gains / gains.amax(dim=0)).T[:, :, None]
    return torch.where((uniform[0] < share)[:, None, None], changed, identity)


def recolor(image: Tensor, matrices: Tensor) -> Tensor:
    """Apply colour matrices (B, 3, 3) to images (B, 3, H, W) in [0, 1]; clips to [0, 1]."""
    return torch.einsum("bij,bjhw->bihw", matrices, image).clamp_(0, 1)


def recolor_array(
    image: NDArray[np.uint8], share: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Apply a random transform of :func:`color_matrices` to (H, W, 3); gray is unchanged."""
    uniform = torch.from_numpy(rng.random((DRAWS, 1)))
    if image.ndim == 2 or float(uniform[0, 0]) >= share:
        return image
    matrix = color_matrices(share, uniform)[0].numpy()
    return np.rint(np.clip(image @ matrix.T, 0, 255)).astype(np.uint8)
