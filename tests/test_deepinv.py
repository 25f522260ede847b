"""Denoisers for deepinv: against the restorer, finite differences and deepinv's own solver."""

from __future__ import annotations

import importlib
import sys
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.inference import Restorer
from vheatir.weights import LoadedModel


def test_without_deepinv_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("deepinv", "deepinv.models"):  # the latter may be imported already
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "vheatir.deepinv", raising=False)
    with pytest.raises(ModuleNotFoundError) as caught:
        importlib.import_module("vheatir.deepinv")
    assert str(caught.value) == (
        "vheatir.deepinv needs the package 'deepinv', which is not installed: "
        "pip install 'vheatir[integrations]'"
    )


@pytest.fixture(scope="module")
def deepinv() -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies, while they are imported
        return pytest.importorskip("deepinv", reason="needs pip install 'vheatir[integrations]'")


def network(channels: int = 3, **options: object) -> nn.Module:
    torch.manual_seed(0)
    net = build_network(
        {"type": "VHeatIRUNet", "in_chans": channels, "channels": [8, 8], "depths": [1, 1],
         "mixers": ["conv", "hco_spread"], "level_scale": 255.0, **options}
    )  # fmt: skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return net.eval().requires_grad_(False)


def model(channels: int = 3, **options: object) -> LoadedModel:
    info = {"task": "denoise_color" if channels == 3 else "denoise_gray", "level": [0, 55]}
    return LoadedModel(network(channels, **options), info, Path("tiny"), "")


@pytest.fixture
def denoiser(deepinv: object) -> nn.Module:
    from vheatir.deepinv import HeatDenoiser

    return HeatDenoiser(model())


def image(batch: int = 2, channels: int = 3, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.rand(batch, channels, 12, 10, generator=generator, dtype=dtype)


def test_it_is_a_denoiser_of_deepinv(denoiser: nn.Module, deepinv: object) -> None:
    assert isinstance(denoiser, deepinv.models.Denoiser)  # type: ignore[attr-defined]
    assert denoiser.sigma_range == (0, 55 / 255)


@pytest.mark.parametrize("name", ["denoise_color_small", "denoise_gray_small"])
def test_it_is_the_network_of_the_restorer(deepinv: object, name: str) -> None:
    from vheatir.deepinv import HeatDenoiser

    restorer = Restorer(name, "cpu")
    x = image(1, 1 if "gray" in name else 3)
    with torch.no_grad():
        found = HeatDenoiser(name)(x, 25 / 255)
    torch.testing.assert_close(found, restorer.restore(x, 25), atol=1e-5, rtol=0)
    assert (found - x).abs().max() > 0.01


@pytest.mark.parametrize("channels", [1, 3])
def test_one_sigma_per_image(deepinv: object, channels: int) -> None:
    from vheatir.deepinv import HeatDenoiser

    denoiser = HeatDenoiser(model(channels))
    x, sigma = image(2, channels), torch.tensor([0.05, 0.2])
    alone = torch.cat([denoiser(x[:1], 0.05), denoiser(x[1:], 0.2)])
    torch.testing.assert_close(denoiser(x, sigma), alone, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(denoiser(x, sigma[:, None, None, None]), denoiser(x, sigma))
    torch.testing.assert_close(denoiser(x, torch.tensor(0.05))[:1], alone[:1], atol=1e-6, rtol=1e-5)
    assert not torch.allclose(denoiser(x, 0.05)[1], alone[1], atol=1e-3)


def test_a_map_of_sigma(denoiser: nn.Module) -> None:
    x = image()
    constant = torch.full((2, 1, 12, 10), 0.1)
    torch.testing.assert_close(denoiser(x, constant), denoiser(x, 0.1), atol=1e-6, rtol=1e-5)
    varying = torch.linspace(0, 0.2, 120).reshape(1, 1, 12, 10)
    expected = denoiser.network(x, 255 * varying)
    torch.testing.assert_close(denoiser(x, varying), expected, atol=1e-6, rtol=1e-5)


def test_gradients_are_those_of_finite_differences(denoiser: nn.Module) -> None:
    denoiser = denoiser.double()
    x = image(1, dtype=torch.float64)[..., :6, :5].contiguous().requires_grad_()
    sigma = torch.tensor([0.1], dtype=torch.float64, requires_grad=True)
    # smooth within the step, as a test at random points of a network with ReLUs is
    assert torch.autograd.gradcheck(denoiser, (x, sigma), eps=1e-7, atol=1e-5, fast_mode=True)
    assert not any(parameter.requires_grad for parameter in denoiser.parameters())


def test_sigma_out_of_range_is_clamped_with_one_warning(denoiser: nn.Module) -> None:
    x = image()
    with pytest.warns(UserWarning, match=r"sigma 0.3 is outside .*, 0 to 0.2157: the nearest"):
        found = denoiser(x, 0.3)
    torch.testing.assert_close(found, denoiser(x, 55 / 255))
    mixed = denoiser(x, torch.tensor([-0.1, 0.9]))  # a second warning would be an error
    torch.testing.assert_close(mixed, denoiser(x, torch.tensor([0.0, 55 / 255])))


def test_the_ends_of_the_range_are_within_it(denoiser: nn.Module) -> None:
    denoiser(image(), torch.tensor([0.0, 55 / 255]))  # a warning would be an error


@pytest.mark.parametrize(
    ("sigma", "message"),
    [
        (None, "sigma None: give the standard deviation"),
        (float("nan"), "sigma is not finite"),
        (torch.tensor([0.1, float("inf")]), "sigma is not finite"),
        (torch.rand(3), "does not fit an image"),
        (torch.rand(2, 1, 5, 5) / 10, "does not fit an image"),
    ],
)
def test_a_sigma_that_does_not_fit(denoiser: nn.Module, sigma: object, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(VHeatIRError, match=message):
            denoiser(image(), sigma)


def test_an_image_with_other_channels(denoiser: nn.Module) -> None:
    with pytest.raises(VHeatIRError, match="does not fit this model"):
        denoiser(image(channels=1), 0.1)


def test_models_that_are_no_denoisers_with_a_level(deepinv: object) -> None:
    from vheatir.deepinv import HeatDenoiser

    for other in ("photo_small", model(level_scale=None)):
        with pytest.raises(VHeatIRError, match="is not a denoiser that takes the level"):
            HeatDenoiser(other)


def test_deblurring_by_its_solver(deepinv: object) -> None:
    """Half-quadratic splitting with the released denoiser improves on the blurred image."""
    from deepinv.optim import DPIR
    from deepinv.physics import BlurFFT, GaussianNoise
    from deepinv.physics.functional.blur import gaussian_blur

    from vheatir.bundled import heldout_photographs
    from vheatir.data.restoration_dataset import in_unit_range, to_tensor
    from vheatir.deepinv import HeatDenoiser

    crop = heldout_photographs()["chelsea"][100:148, 120:168]
    clean = in_unit_range(to_tensor(crop.copy()))[None]
    torch.manual_seed(0)
    physics = BlurFFT((3, 48, 48), gaussian_blur((9, 9), 1.2), noise_model=GaussianNoise(0.02))
    y = physics(clean)
    solver = DPIR(sigma=0.02, denoiser=HeatDenoiser("denoise_color_small"))
    with torch.no_grad():
        restored = solver(y, physics)
    before, after = ((each - clean).square().mean() for each in (y, restored))
    assert 10 * torch.log10(before / after) > 2
