"""Photographs in other colours: what a network should restore need not have natural ones.

Photographs are mostly pale, and most were once stored with chroma at half resolution, so that
their fine detail is gray: above a quarter of the sampling frequency, chroma has 1 to 8 per cent of
luma's energy in the usual training sets. Film scans, paintings and screens are neither; where
colours are saturated, what light and shadow draw on them is as fine in chroma as in luma (42 per
cent in McMaster). A gain for each channel, as of coloured light, makes the one from the other; what
that brings is in docs/studies.md.
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

#: Largest factor of the saturation; its inverse is the smallest.
LARGEST_SATURATION = 2.0
#: Smallest gain of a channel; the largest of the three is 1.
SMALLEST_GAIN = 0.2
#: Random numbers that a sample needs.
DRAWS = 6

_LUMA = torch.tensor([0.299, 0.587, 0.114])  # BT.601
_ORDERS = torch.tensor(list(permutations(range(3))))


def color_matrices(share: float, uniform: Tensor) -> Tensor:
    """Return random colour transforms: saturation times 0.5 to 2, channels' order and gains.

    Args:
        share: probability of a transform; the others are the identity.
        uniform: (6, B) random numbers in [0, 1): whether, how saturated, in which order, and how
            much of each channel.

    Returns:
        (B, 3, 3) float32: new = M old for RGB columns.
    """
    device = uniform.device
    saturation = LARGEST_SATURATION ** (2 * uniform[1].float() - 1)
    identity = torch.eye(3, device=device)
    # s I + (1 - s) [luma, luma, luma]^T: colours move away from the gray of the same luma
    vivid = saturation[:, None, None] * identity
    vivid = vivid + (1 - saturation)[:, None, None] * _LUMA.to(device).expand(3, 3)
    orders = _ORDERS.to(device)
    order = orders[(uniform[2] * len(orders)).long().clamp(max=len(orders) - 1)]
    changed = vivid.gather(1, order[:, :, None].expand(-1, -1, 3))
    gains = SMALLEST_GAIN ** uniform[3:6].float()
    changed = changed * (gains / gains.amax(dim=0)).T[:, :, None]
    return torch.where((uniform[0] < share)[:, None, None], changed, identity)


def recolor(image: Tensor, matrices: Tensor) -> Tensor:
    """Transform the colours of (B, 3, H, W) in [0, 1] by matrices (B, 3, 3); clipped to [0, 1]."""
    return torch.einsum("bij,bjhw->bihw", matrices, image).clamp_(0, 1)


def recolor_array(
    image: NDArray[np.uint8], share: float, rng: np.random.Generator
) -> NDArray[np.uint8]:
    """Transform the colours of (H, W, 3) at random, as :func:`color_matrices`; gray is returned."""
    uniform = torch.from_numpy(rng.random((DRAWS, 1)))
    if image.ndim == 2 or float(uniform[0, 0]) >= share:
        return image
    matrix = color_matrices(share, uniform)[0].numpy()
    changed = np.clip(image @ matrix.T, 0, 255)
    return np.rint(changed).astype(np.uint8)
