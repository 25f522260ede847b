"""Random colour transforms against the explicit formula."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import torch

from vheatir.data.recolor import DRAWS, color_matrices, recolor, recolor_array


def test_matrices_are_a_saturation_an_order_and_gains() -> None:
    uniform = torch.rand(DRAWS, 500, generator=torch.Generator().manual_seed(0))
    matrices = color_matrices(0.6, uniform)
    luma = np.array([0.299, 0.587, 0.114])
    seen = set()
    for matrix, (whether, how, which, *u) in zip(matrices.numpy(), uniform.T.tolist(), strict=True):
        if whether >= 0.6:
            assert np.array_equal(matrix, np.eye(3))
            continue
        saturation = 4**how / 2
        order = list(permutations(range(3)))[int(6 * which)]
        seen.add(order)
        color = np.array([0.2, 0.5, 0.9])
        gray = luma @ color
        gains = 0.2 ** np.array(u)
        gains /= gains.max()
        expected = (gray + saturation * (color - gray))[list(order)] * gains
        assert np.allclose(matrix @ color, expected, atol=1e-6)
        assert np.allclose(matrix @ np.full(3, 0.4), 0.4 * gains, atol=1e-6)  # as coloured light
    assert len(seen) == 6


def test_fine_detail_of_gray_gets_chroma() -> None:
    detail = torch.rand(200, 1, 8, 8, generator=torch.Generator().manual_seed(4))
    matrices = color_matrices(
        1.0, torch.rand(DRAWS, 200, generator=torch.Generator().manual_seed(5))
    )
    red, green, blue = recolor(detail.expand(-1, 3, -1, -1), matrices).unbind(dim=1)
    luma = 0.299 * red + 0.587 * green + 0.114 * blue
    chroma = (0.713 * (red - luma)).var((1, 2)) + (0.564 * (blue - luma)).var((1, 2))
    share = chroma / luma.var((1, 2))
    assert share.min() >= 0 and 0.02 < share.median() < 0.5 < share.max()


def test_result_is_an_image() -> None:
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(64, 3, 5, 7, generator=generator)
    matrices = color_matrices(1.0, torch.rand(DRAWS, 64, generator=generator))
    changed = recolor(image, matrices)
    assert changed.shape == image.shape
    assert 0 <= changed.min() < changed.max() <= 1
    pixel = matrices[5] @ image[5, :, 2, 3]
    assert torch.allclose(changed[5, :, 2, 3], pixel.clamp(0, 1), atol=1e-6)


def test_array_and_tensor_agree() -> None:
    image = np.random.default_rng(2).integers(256, size=(6, 9, 3), dtype=np.uint8)
    changed = recolor_array(image, 1.0, np.random.default_rng(3))
    uniform = torch.from_numpy(np.random.default_rng(3).random((DRAWS, 1)))
    planes = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    expected = recolor(planes, color_matrices(1.0, uniform))[0].permute(1, 2, 0) * 255
    assert np.abs(changed - expected.numpy()).max() <= 0.501
    assert recolor_array(image, 0.0, np.random.default_rng(3)) is image
    assert recolor_array(image[..., 0], 1.0, np.random.default_rng(3)).ndim == 2
