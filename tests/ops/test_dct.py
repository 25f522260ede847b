"""DCT2D, IDCT2D and their gradients against scipy.fft in float64."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import torch
from torch import Tensor

from vheatir.errors import VHeatIRError
from vheatir.ops import dct, dct2, idct2
from vheatir.ops.dct import cosine_matrix, fft_dct

SIZES = [(1, 1), (1, 7), (2, 3), (8, 8), (13, 31), (30, 17), (64, 49), (97, 20)]
DIMS = [(-2, -1), (1, 2), (2, 1), (0, 3), (3, 0), (0, 1)]
# half precision is transformed in float32 and rounded at the end
TOLERANCES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 1e-3}

Transform = Callable[[Tensor, tuple[int, int]], Tensor]


def by_torch_fft(inverse: bool) -> Transform:
    """The torch.fft path, for devices that SciPy does not support; it also runs on the CPU."""
    return lambda x, dim: fft_dct.__wrapped__(x, [d % x.ndim for d in dim], inverse)


FORWARD: dict[str, Transform] = {
    "auto": dct2,
    "matmul": lambda x, dim: dct2(x, dim, "matmul"),
    "fft": lambda x, dim: dct2(x, dim, "fft"),
    "torch_fft": by_torch_fft(inverse=False),
}
INVERSE: dict[str, Transform] = {
    "auto": idct2,
    "matmul": lambda x, dim: idct2(x, dim, "matmul"),
    "fft": lambda x, dim: idct2(x, dim, "fft"),
    "torch_fft": by_torch_fft(inverse=True),
}


def cases(dtype: torch.dtype) -> list[str]:
    """Backends to test with ``dtype``: calling torch.fft directly skips the cast from half."""
    half = dtype in (torch.float16, torch.bfloat16)
    return [name for name in FORWARD if not (half and name == "torch_fft")]


def relative_error(actual: Tensor, expected: np.ndarray) -> float:
    difference = actual.detach().cpu().double().numpy() - expected
    return float(np.linalg.norm(difference) / np.linalg.norm(expected))


def noise(*shape: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    # noise plus a mean, as in images: one large DC coefficient
    return (0.5 + torch.randn(shape, generator=generator, dtype=torch.float64)).to(device, dtype)


def exact(x: Tensor) -> np.ndarray:
    return x.detach().cpu().double().numpy()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(
    ("dtype", "name"), [(dtype, name) for dtype in TOLERANCES for name in cases(dtype)], ids=str
)
def test_agrees_with_scipy(
    dtype: torch.dtype, name: str, size: tuple[int, int], device: torch.device
) -> None:
    x = noise(2, 3, *size, dtype=dtype, device=device)
    for transforms, reference in ((FORWARD, scipy.fft.dctn), (INVERSE, scipy.fft.idctn)):
        actual = transforms[name](x, (-2, -1))
        assert actual.dtype == dtype and actual.shape == x.shape and actual.device == x.device
        expected = reference(exact(x), type=2, axes=(-2, -1), norm="ortho")
        assert relative_error(actual, expected) < TOLERANCES[dtype]


@pytest.mark.parametrize("dim", DIMS, ids=str)
@pytest.mark.parametrize("name", FORWARD)
def test_any_two_dimensions_in_any_order(name: str, dim: tuple[int, int]) -> None:
    x = noise(5, 6, 7, 4, dtype=torch.float32)
    for view in (x, x.permute(0, 3, 1, 2), x.flip(2).mT):  # any memory layout
        for transforms, reference in ((FORWARD, scipy.fft.dctn), (INVERSE, scipy.fft.idctn)):
            expected = reference(exact(view), type=2, axes=dim, norm="ortho")
            assert relative_error(transforms[name](view, dim), expected) < 1e-5


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("shape", [(9, 12), (3, 9, 12), (2, 4, 4, 4, 3)])
def test_any_number_of_dimensions(name: str, shape: tuple[int, ...]) -> None:
    x = noise(*shape, dtype=torch.float64)
    expected = scipy.fft.dctn(exact(x), type=2, axes=(0, 1), norm="ortho")
    assert relative_error(FORWARD[name](x, (0, 1)), expected) < 1e-12


@pytest.mark.parametrize(
    ("dtype", "name"), [(dtype, name) for dtype in TOLERANCES for name in cases(dtype)], ids=str
)
def test_gradients_agree_with_the_adjoint_of_scipys(
    dtype: torch.dtype, name: str, device: torch.device
) -> None:
    x = noise(2, 13, 31, 3, dtype=dtype, device=device).requires_grad_()
    weight = noise(2, 13, 31, 3, dtype=dtype, device=device) - 0.25
    for transforms, adjoint in ((FORWARD, scipy.fft.idctn), (INVERSE, scipy.fft.dctn)):
        (grad,) = torch.autograd.grad((transforms[name](x, (1, 2)) * weight).sum(), x)
        assert grad.dtype == dtype
        expected = adjoint(exact(weight), type=2, axes=(1, 2), norm="ortho")
        assert relative_error(grad, expected) < TOLERANCES[dtype]


@pytest.mark.parametrize(("size", "alone", "several"), [
    (64, "matmul", "matmul"), (96, "fft", "matmul"), (128, "fft", "matmul"), (160, "fft", "fft"),
    (127, "matmul", "matmul"), (2 * 127, "matmul", "matmul"), (13 * 37, "fft", "fft"),
    (509, "matmul", "matmul"), (521, "fft", "fft"),
])  # fmt: skip
def test_the_cpus_backend_goes_by_size_largest_prime_factor_and_threads(
    size: int, alone: str, several: str, restored_threads: None
) -> None:
    for number, expected in ((1, alone), (2, several)):
        torch.set_num_threads(number)
        assert dct.choose_backend(torch.empty(1, size), [1], "auto") == expected


@pytest.mark.parametrize("inverse", [False, True])
def test_each_side_has_a_backend_of_its_own(inverse: bool) -> None:
    x = torch.randn(2, 254, 200, 3, dtype=torch.float64, requires_grad=True)
    assert dct.choose_backend(x, [1, 2], "auto") == "auto"
    y = (idct2 if inverse else dct2)(x, (1, 2))
    reference, adjoint = scipy.fft.dctn, scipy.fft.idctn
    if inverse:
        reference, adjoint = adjoint, reference
    options = {"axes": (1, 2), "norm": "ortho"}
    torch.testing.assert_close(
        y.detach(), torch.from_numpy(reference(x.detach().numpy(), **options))
    )
    weights = torch.randn_like(y)
    (y * weights).sum().backward()
    torch.testing.assert_close(x.grad, torch.from_numpy(adjoint(weights.numpy(), **options)))


@pytest.mark.parametrize("name", FORWARD)
@pytest.mark.parametrize("transforms", [FORWARD, INVERSE], ids=["dct2", "idct2"])
def test_gradcheck(transforms: dict[str, Transform], name: str) -> None:
    x = noise(2, 5, 4, dtype=torch.float64).requires_grad_()

    def function(x: Tensor) -> Tensor:
        return transforms[name](x, (1, 2)).square()  # squared, for a second derivative

    assert torch.autograd.gradcheck(function, x)
    assert torch.autograd.gradgradcheck(function, x)


@pytest.mark.parametrize("name", FORWARD)
def test_the_inverse_inverts_and_energy_is_conserved(name: str) -> None:
    x = noise(3, 29, 18, dtype=torch.float64)
    spectrum = FORWARD[name](x, (1, 2))
    torch.testing.assert_close(INVERSE[name](spectrum, (1, 2)), x)
    torch.testing.assert_close(spectrum.square().sum(), x.square().sum())


def test_large_sizes_lose_no_digits() -> None:
    matrix = cosine_matrix(4096, torch.float64, "cpu")
    identity = torch.eye(4, dtype=torch.float64)
    torch.testing.assert_close(matrix[-4:] @ matrix[-4:].T, identity, atol=1e-12, rtol=0)


def test_autocast_leaves_the_transform_in_float32(device: torch.device) -> None:
    x = noise(1, 24, 24, dtype=torch.float32, device=device)
    for backend in ("matmul", "fft"):
        with torch.autocast(device.type, torch.bfloat16):
            actual = dct2(x, (1, 2), backend)
        assert actual.dtype == torch.float32
        expected = scipy.fft.dctn(exact(x), axes=(1, 2), norm="ortho")
        assert relative_error(actual, expected) < 1e-5


@pytest.mark.parametrize("backend", ["matmul", "fft"])
def test_compiles_into_one_graph(backend: str) -> None:
    def function(x: Tensor) -> Tensor:
        return idct2(dct2(x, (1, 2), backend) * 0.5, (1, 2), backend)

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    x = noise(2, 12, 10, 3, dtype=torch.float32).requires_grad_()
    y = compiled(x)
    torch.testing.assert_close(y, 0.5 * x)
    (grad,) = torch.autograd.grad(y.square().sum(), x)
    torch.testing.assert_close(grad, 0.5 * x)


def test_an_unknown_backend_names_the_nearest() -> None:
    with pytest.raises(VHeatIRError, match="unknown DCT backend 'matmull': did you mean 'matmul'"):
        dct2(torch.ones(2, 2), backend="matmull")  # type: ignore[arg-type]


def test_gradients_after_inference_of_the_same_size() -> None:
    dct._cached_cosine_matrix.cache_clear()
    x = torch.randn(1, 1, 23, 29, dtype=torch.float64)
    with torch.inference_mode():
        expected = dct2(x, backend="matmul")
    leaf = x.clone().requires_grad_()
    result = dct2(leaf, backend="matmul")
    result.square().sum().backward()
    torch.testing.assert_close(result.detach(), expected.clone())
    torch.testing.assert_close(leaf.grad, 2 * x)
