"""Both networks: image sizes, levels, identity at initialisation, gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.errors import VHeatIRError

FLAT: dict[str, Any] = {"type": "VHeatIR", "embed_dim": 8, "depths": [1, 2], "fve_size": 4}
UNET: dict[str, Any] = {
    "type": "VHeatIRUNet",
    "channels": [8, 12],
    "depths": [1, 1],
    "mixers": ["conv", "hco_spread"],
    "fve_size": 4,
}
EVERY = {**UNET, "mixers": ["attention", "hco_spread"]}
BOTH = pytest.mark.parametrize(
    "config", [FLAT, UNET, EVERY], ids=["VHeatIR", "VHeatIRUNet", "VHeatIRUNet-every"]
)


def network(config: dict[str, Any], **more: Any) -> nn.Module:
    torch.manual_seed(0)
    return build_network({**config, **more})


def stirred(config: dict[str, Any], **more: Any) -> nn.Module:
    """A network with perturbed weights, so that every weight affects the output."""
    net = network(config, **more)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return net.eval()


def image(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("size", [(1, 1), (1, 6), (5, 2), (16, 16), (19, 37)], ids=str)
@pytest.mark.parametrize("downscale", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
@BOTH
def test_any_size(
    config: dict[str, Any], channels: int, downscale: int, size: tuple[int, int]
) -> None:
    net = stirred(config, in_chans=channels, downscale=downscale)
    x = image(2, channels, *size)
    with torch.no_grad():
        y = net(x)
        assert y.shape == x.shape and y.dtype == x.dtype and y.isfinite().all()
        assert not torch.equal(y, x)
        torch.testing.assert_close(net(x[1:]), y[1:])
        # the output does not depend on the memory format
        torch.testing.assert_close(net(x.contiguous(memory_format=torch.channels_last)), y)


@BOTH
def test_inference_agrees_with_training_mode(config: dict[str, Any]) -> None:
    net, x = stirred(config), image(1, 3, 21, 14)
    expected = net.train()(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(net.eval()(x), expected)


@pytest.mark.parametrize("more", [{}, {"level_scale": 255.0}, {"downscale": 2}, {"in_chans": 1}])
@BOTH
def test_a_fresh_network_returns_its_input_exactly(
    config: dict[str, Any], more: dict[str, Any]
) -> None:
    net = network(config, **more)
    x = image(2, net.in_chans, 13, 18)
    level = 25.0 if net.takes_level else None
    torch.testing.assert_close(net(x, level), x, rtol=0, atol=0)


def test_a_fresh_network_for_one_output_channel_returns_the_mean() -> None:
    net = network(FLAT, in_chans=3, out_chans=1)
    x = image(1, 3, 5, 8)
    torch.testing.assert_close(net(x), x.mean(1, keepdim=True))


@BOTH
def test_weights_and_image_in_bfloat16(config: dict[str, Any]) -> None:
    net, x = stirred(config, level_scale=255.0), image(1, 3, 9, 8)
    expected = net(x, 15.0) - x
    actual = net.bfloat16()(x.bfloat16(), 15.0)
    assert actual.dtype == torch.bfloat16
    error = (actual.float() - x - expected).square().mean().sqrt()
    assert error < 0.02 + 0.05 * expected.square().mean().sqrt()


# --- the level -----------------------------------------------------------------------------------


@BOTH
def test_a_constant_level_may_come_in_any_form(config: dict[str, Any]) -> None:
    net, x = stirred(config, level_scale=255.0), image(2, 3, 9, 12)
    assert net.takes_level
    expected = net(x, 25.0)
    for level in (
        25,
        torch.tensor(25),
        torch.tensor([25.0]),
        torch.tensor([25, 25]),
        torch.full((1, 1, 9, 12), 25.0),
        torch.full((2, 1, 9, 12), 25.0, dtype=torch.float64),
    ):
        torch.testing.assert_close(net(x, level), expected)
    assert not torch.allclose(net(x, 50.0), expected, atol=1e-5)


@BOTH
def test_each_image_and_each_pixel_may_have_its_own_level(config: dict[str, Any]) -> None:
    net, x = stirred(config, level_scale=255.0), image(2, 3, 9, 12)
    apart = torch.cat([net(x[:1], 10.0), net(x[1:], 40.0)])
    torch.testing.assert_close(net(x, torch.tensor([10.0, 40.0])), apart)
    plane = torch.full((2, 1, 9, 12), 10.0)
    plane[:, :, :, 6:] = 40
    assert not torch.allclose(net(x, plane), net(x, 10.0), atol=1e-5)


@BOTH
def test_a_level_that_does_not_fit_is_refused(config: dict[str, Any]) -> None:
    x = image(2, 3, 9, 12)
    with pytest.raises(VHeatIRError, match="takes no level"):
        network(config)(x, 25.0)
    net = network(config, level_scale=255.0)
    with pytest.raises(VHeatIRError, match="needs the level"):
        net(x)
    for shape in [(3,), (2, 1), (9, 12), (2, 9, 12), (2, 3, 9, 12), (2, 1, 12, 9), (3, 1, 9, 12)]:
        with pytest.raises(VHeatIRError, match=r"level of shape .* does not fit an image of shape"):
            net(x, torch.zeros(shape))


@BOTH
def test_input_that_does_not_fit_is_refused(config: dict[str, Any]) -> None:
    net = network(config)
    for x in (
        image(1, 1, 8, 8),
        image(1, 4, 8, 8),
        image(3, 8, 8),
        image(1, 3, 0, 8),
        image(0, 3, 8, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
    ):
        with pytest.raises(VHeatIRError, match=r"input of shape .* does not fit this model"):
            net(x)


def test_sizes_between_multiples_are_reflected_and_keep_no_stripes() -> None:
    net = stirred(UNET, downscale=2)  # needs multiples of 4
    x = image(1, 3, 21, 30)
    mirrored = torch.cat([x, x[:, :, -4:-1].flip(2)], 2)
    mirrored = torch.cat([mirrored, mirrored[..., -3:-1].flip(3)], 3)
    assert mirrored.shape[2:] == (24, 32)
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(mirrored)[..., :21, :30])
