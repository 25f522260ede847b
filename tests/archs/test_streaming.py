"""Inference, which runs strip by strip, computes the same as training."""

from __future__ import annotations

import pytest
import torch

from vheatir.archs import VHeatIR
from vheatir.archs.blocks import HeatBlock
from vheatir.ops import HeatConduction2d
from vheatir.ops.dct import Backend
from vheatir.ops.fast import decay, strips


def network(norm: str = "pre") -> VHeatIR:
    torch.manual_seed(0)
    net = VHeatIR(embed_dim=6, depths=[2, 1], fve_size=4, norm=norm)  # type: ignore[arg-type]
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return net.double().eval()


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("height", [1, 3, 4, 5, 13, 70])  # strips of four rows, or the whole image
@pytest.mark.parametrize("tokens", [1, 4096])
def test_strips_equal_the_whole(
    norm: str, height: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strips, "_STRIP_TOKENS", tokens)
    net = network(norm)
    x = torch.rand(2, 3, height, 11, dtype=torch.float64)
    before = x.clone()
    expected = net(x).detach()  # with gradients: full feature maps, nothing in place
    for mode in (torch.no_grad, torch.inference_mode):
        with mode():
            torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)
    assert torch.equal(x, before)


@pytest.mark.parametrize("backend", ["matmul", "fft"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("tokens", [1, 50, 1000])  # one row; some rows; all five images together
def test_strips_as_on_a_gpu(
    backend: Backend, norm: str, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the Triton kernels, which tests/ops/fast/test_fused.py covers."""
    monkeypatch.setattr(strips, "on_cpu", lambda _: False)
    monkeypatch.setattr(strips, "_GPU_STRIP_TOKENS", tokens)
    net = network(norm)
    for module in net.modules():
        if isinstance(module, HeatConduction2d):
            module.backend = backend
    x = torch.rand(5, 3, 14, 11, dtype=torch.float64)
    expected = net(x).detach()
    with torch.inference_mode():
        torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)


def test_a_block_overwrites_its_input_only_when_told() -> None:
    block = HeatBlock(6, "hco", 2.0, "pre", 0).eval()
    x, fve = torch.rand(1, 9, 7, 6), torch.rand(4, 4, 6)
    before = x.clone()
    with torch.no_grad():
        expected = block(x, fve)
        assert torch.equal(x, before)
        torch.testing.assert_close(block(x, fve, overwrite=True), expected)
    assert not torch.equal(x, before)


def test_under_autocast_and_in_half_precision() -> None:
    net = network().float()
    x = torch.rand(1, 3, 21, 10)
    with torch.no_grad():
        expected = net(x)
        with torch.autocast("cpu", torch.bfloat16):
            low = net(x)
    with torch.autocast("cpu", torch.bfloat16):
        whole = net(x).detach()
    scale = expected.std()
    # as close to float32 as the same network without strips
    error, reference = (low - expected).std() / scale, (whole - expected).std() / scale
    assert error < 1.5 * reference + 1e-3


def test_maps_of_all_modules_share_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decay, "DECAY_CACHE_BYTES", 2 * 12 * 10 * 6 * 8)  # two of three maps
    net = network()
    heat = [m for m in net.modules() if isinstance(m, HeatConduction2d)]
    for height, width in ((12, 10), (10, 12), (12, 10)):
        x = torch.rand(1, 3, height, width, dtype=torch.float64)
        expected = net(x).detach()
        with torch.no_grad():
            torch.testing.assert_close(net(x), expected, rtol=1e-9, atol=1e-9)
        cached = [decay.maps[m].decay for m in heat if m in decay.maps]
        assert len(cached) == 2 and all(d.shape[:2] == (height, width) for d in cached)
