"""The forms for ``torch.export`` compute what the definitions do."""

from __future__ import annotations

import pytest
import scipy.fft
import torch

from vheatir.archs.base import pad_to_multiple
from vheatir.export.forms import (
    float32_cosine_matrix,
    gather_to_multiple,
    matmul_transform,
    shared_matrices,
)
from vheatir.ops.dct import cosine_matrix, dct2, idct2


@pytest.mark.parametrize("size", [1, 2, 7, 16, 211, 1500])
def test_the_cosine_matrix_is_accurate_in_float32(size: int) -> None:
    exact = cosine_matrix(size, torch.float64, "cpu")
    for inverse, expected in ((False, exact), (True, exact.T)):
        difference = float32_cosine_matrix(size, inverse).double() - expected
        assert difference.abs().max() < 6e-7 * (2 / size) ** 0.5


@pytest.mark.parametrize("shape", [(1, 1, 1, 2), (2, 7, 30, 3), (1, 64, 33, 4)])
def test_products_with_cosine_matrices_are_the_dct(shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    transformed = matmul_transform(x, (1, 2))
    assert torch.allclose(transformed, dct2(x.double(), (1, 2)).float(), atol=1e-5)
    back = matmul_transform(transformed, (-3, -2), inverse=True)
    assert torch.allclose(back, idct2(transformed, (1, 2)), atol=1e-5)
    assert torch.allclose(back, x, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "dims"), [((1, 3, 8, 8), (-2, -1)), ((2, 5, 7), (0, 2)), ((4, 6), (1,))]
)
def test_other_dimensions_are_transformed(shape: tuple[int, ...], dims: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    expected = torch.from_numpy(scipy.fft.dctn(x.double().numpy(), axes=dims, norm="ortho")).float()
    assert torch.allclose(matmul_transform(x, dims), expected, atol=1e-5)
    assert torch.allclose(matmul_transform(expected, dims, inverse=True), x, atol=1e-5)


def test_transforms_of_equal_sizes_share_a_matrix_within_one_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = []

    def counted(size: int, inverse: bool) -> torch.Tensor:
        made.append(size)
        return float32_cosine_matrix(size, inverse)

    monkeypatch.setattr("vheatir.export.forms.float32_cosine_matrix", counted)
    x = torch.rand(1, 8, 9, 2)
    for _ in range(2):
        with shared_matrices():
            for _ in range(3):
                back = matmul_transform(matmul_transform(x, (1, 2)), (1, 2), inverse=True)
        assert torch.allclose(back, x, atol=1e-6)
    assert made == [8, 9, 8, 9]
    matmul_transform(x, (1,))
    assert made == [8, 9, 8, 9, 8]


@pytest.mark.parametrize("multiple", [1, 2, 4, 8])
def test_gathering_pads_as_the_definition(multiple: int) -> None:
    sides = range(1, 19)
    for height in sides:
        for width in sides:
            x = torch.rand(2, 1, height, width)
            assert torch.equal(gather_to_multiple(x, multiple), pad_to_multiple(x, multiple))
