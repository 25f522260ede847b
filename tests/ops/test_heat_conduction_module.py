"""HeatConduction2d: the equations of the paper, any image size."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.fft
import scipy.ndimage
import scipy.special
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from tests.ops.modules import module_and_embedding
from vheatir.ops import HeatConduction2d, dct2, heat_conduction, idct2
from vheatir.ops.heat_conduction import interpolation_matrix, squared_frequency

Array = NDArray[np.float64]


# --- the formulas --------------------------------------------------------------------------------


def paper(module: HeatConduction2d, x: Array, fve: Array) -> Array:
    """Reference implementation for one image (H, W, C), in NumPy and SciPy."""
    w = {name: value.detach().numpy() for name, value in module.state_dict().items()}
    height, width, channels = x.shape
    filtered = np.stack(
        [
            scipy.ndimage.correlate(x[..., c], w["dwconv.weight"][c, 0], mode="constant")
            + w["dwconv.bias"][c]
            for c in range(channels)
        ],
        axis=-1,
    )
    both = filtered @ w["in_proj.weight"].T + w["in_proj.bias"]
    inner = both.shape[-1] // 2
    u, z = both[..., :inner], both[..., inner:]

    # k = ReLU(Linear(FVE)) on a grid over [0, pi)^2, interpolated at n pi / H, m pi / W
    k_grid = np.maximum(fve @ w["to_k.weight"].T + w["to_k.bias"], 0)
    nodes_n = np.pi * np.arange(fve.shape[0]) / fve.shape[0]
    nodes_m = np.pi * np.arange(fve.shape[1]) / fve.shape[1]
    omega_n = np.pi * np.arange(height) / height
    omega_m = np.pi * np.arange(width) / width
    result = np.empty_like(u)
    for c in range(inner):
        rows = np.stack([np.interp(omega_n, nodes_n, column) for column in k_grid[..., c].T], 1)
        k = np.stack([np.interp(omega_m, nodes_m, row) for row in rows])
        decay = np.exp(-k * (omega_n[:, None] ** 2 + omega_m[None, :] ** 2))
        spectrum = scipy.fft.dctn(u[..., c], type=2, norm="ortho") * decay
        result[..., c] = scipy.fft.idctn(spectrum, type=2, norm="ortho")

    centred = result - result.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
    normed = normed * w["norm.weight"] + w["norm.bias"]
    return (normed * z * scipy.special.expit(z)) @ w["out_proj.weight"].T + w["out_proj.bias"]


@pytest.mark.parametrize(
    ("height", "width", "grid", "inner"),
    [(12, 9, 4, None), (5, 20, 16, 3), (1, 1, 4, None), (1, 13, 3, 8), (50, 7, 5, None)],
)
@pytest.mark.parametrize("grad", [True, False], ids=["training", "inference"])
def test_agrees_with_the_papers_formulas(
    height: int, width: int, grid: int, inner: int | None, grad: bool
) -> None:
    module, fve = module_and_embedding(inner=inner, grid=grid)
    module.train(grad)
    x = torch.randn(2, height, width, 6, dtype=torch.float64)
    with torch.set_grad_enabled(grad):
        actual = module(x, fve)
    for image, result in zip(x, actual, strict=True):
        expected = paper(module, image.numpy(), fve.numpy())
        np.testing.assert_allclose(result.detach().numpy(), expected, rtol=1e-9, atol=1e-9)


def test_gradcheck() -> None:
    module, fve = module_and_embedding(dim=2, grid=3, spread=1.0)
    x = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(module, (x, fve.requires_grad_()))
    names = list(dict(module.named_parameters()))

    def of_weights(*values: Tensor) -> Tensor:
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(module, named, (x.detach(), fve.detach()))

    values = [value.detach().clone().requires_grad_() for value in module.parameters()]
    assert torch.autograd.gradcheck(of_weights, values)


def test_an_empty_batch() -> None:
    module, fve = module_and_embedding()
    x = torch.rand(0, 5, 7, 6, dtype=torch.float64)
    assert module(x, fve).shape == x.shape
    with torch.no_grad():
        assert module.eval()(x, fve).shape == x.shape


def test_weights_in_half_precision(device: torch.device) -> None:
    module, fve = module_and_embedding()
    x = torch.rand(1, 9, 7, 6, device=device)
    module, fve = module.float().to(device), fve.float().to(device)
    expected = module(x, fve)
    actual = module.bfloat16()(x.bfloat16(), fve.bfloat16())
    assert actual.dtype == torch.bfloat16
    assert F.mse_loss(actual.float(), expected) < 1e-2 * expected.var()


# --- one physical frequency, one diffusivity -----------------------------------------------------


def impulse_response(
    decay: Callable[[int, int], Tensor] | Tensor, height: int, width: int, reach: int = 30
) -> Tensor:
    """Conduct a unit impulse at the centre; return its neighbourhood, (2 reach + 1)^2 x C."""
    channels = 8
    u = torch.zeros(1, height, width, channels, dtype=torch.float64)
    u[:, height // 2, width // 2] = 1
    if isinstance(decay, Tensor):
        module = HeatConduction2d(channels).double().eval()
        with torch.no_grad():
            result = module.conduct(u, decay)
    else:
        result = idct2(dct2(u, (1, 2)) * decay(height, width), (1, 2))
    rows = slice(height // 2 - reach, height // 2 + reach + 1)
    columns = slice(width // 2 - reach, width // 2 + reach + 1)
    return result[0, rows, columns]


def disagreement(decay: Callable[[int, int], Tensor] | Tensor) -> float:
    """Return the difference of the impulse responses in two image sizes, of the worst channel.

    Relative to their peak outside the central 3x3 pixels, where a wrong operator may leave the
    impulse itself.
    """
    responses = impulse_response(decay, 96, 160), impulse_response(decay, 256, 192)
    for response in responses:
        response[29:32, 29:32] = 0
    small, large = responses
    return float(((small - large).abs().amax((0, 1)) / large.abs().amax((0, 1))).max())


@pytest.fixture(scope="module")
def large_k() -> Tensor:
    """Random diffusivities on the default grid that spread heat by 10 to 14 pixels."""
    generator = torch.Generator().manual_seed(1)
    return 50 + 50 * torch.rand(16, 16, 8, dtype=torch.float64, generator=generator)


def test_the_impulse_response_is_the_same_in_images_of_any_size(large_k: Tensor) -> None:
    assert disagreement(large_k) < 0.01
    # the response is wide: ten pixels from the centre it exceeds a tenth of the peak
    response = impulse_response(large_k, 256, 192)
    assert (response[30, 40] > 0.1 * response[30, 30]).all()


def test_zero_padding_or_pixel_centres_would_not_be(large_k: Tensor) -> None:
    """Two naive ports of the paper fail the test above, so it is sensitive to the error."""

    def padded(height: int, width: int) -> Tensor:
        k = F.pad(large_k.permute(2, 0, 1), (0, width - 16, 0, height - 16)).permute(1, 2, 0)
        return torch.exp(-k * squared_frequency(height, width, torch.float64)[..., None])

    def resized(height: int, width: int) -> Tensor:
        k = F.interpolate(large_k.permute(2, 0, 1)[None], (height, width), mode="bilinear")
        omega = squared_frequency(height, width, torch.float64)
        return torch.exp(-k[0].permute(1, 2, 0) * omega[..., None])

    assert disagreement(padded) > 1
    assert disagreement(resized) > 0.01


@pytest.mark.parametrize("size", [1, 2, 7, 16, 33, 100])
def test_interpolation_is_linear_in_physical_frequency(size: int) -> None:
    values = torch.rand(16, dtype=torch.float64)
    nodes = np.pi * np.arange(16) / 16
    expected = np.interp(np.pi * np.arange(size) / size, nodes, values.numpy())
    actual = interpolation_matrix(size, 16, values) @ values
    np.testing.assert_allclose(actual.numpy(), expected, rtol=1e-12)


def test_constant_k_is_the_plain_operator() -> None:
    u = torch.randn(2, 11, 14, 3, dtype=torch.float64)
    module = HeatConduction2d(3)
    k = torch.full((16, 16, 3), 2.5, dtype=torch.float64)
    torch.testing.assert_close(module.conduct(u, k), heat_conduction(u, 2.5, (1, 2)))


def test_compiles_into_one_graph() -> None:
    module, fve = module_and_embedding()
    x = torch.rand(1, 10, 8, 6, dtype=torch.float64)
    compiled = torch.compile(module, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x, fve), module(x, fve))
    module.eval()
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, fve), module(x, fve))
