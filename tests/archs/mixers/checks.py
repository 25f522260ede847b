"""Checks that every mixer passes, whether of the package or registered by a study."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.archs.mixers import build_mixer

SIZES = [(1, 1), (1, 5), (7, 3), (16, 16), (17, 33)]


def mixer_and_embedding(
    name: str, dim: int, inner: int | None = None, index: int = 0
) -> tuple[nn.Module, Tensor | None]:
    torch.manual_seed(0)
    mixer = build_mixer(name, dim, inner, index)
    wants = mixer.needs_frequency_embedding
    return mixer, torch.randn(4, 4, dim) if wants else None


def keeps_the_shape(name: str, inner: int | None, size: tuple[int, int]) -> None:
    mixer, fve = mixer_and_embedding(name, 6, inner, index=1)
    x = torch.randn(2, *size, 6)
    y = mixer(x, fve)
    assert y.shape == x.shape and y.dtype == x.dtype
    assert y.isfinite().all()
    torch.testing.assert_close(mixer(x[1:], fve), y[1:])  # images of a batch are independent


def is_near_float32_under_autocast(name: str) -> None:
    mixer, fve = mixer_and_embedding(name, 8)
    x = torch.randn(1, 9, 12, 8)
    expected = mixer(x, fve)
    with torch.autocast("cpu", torch.bfloat16):
        actual = mixer(x, fve)
    error = (actual.float() - expected).square().mean().sqrt()
    assert error < 2e-2 * expected.square().mean().sqrt()
    actual.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in mixer.parameters())


def passes_gradcheck(name: str) -> None:
    mixer, fve = mixer_and_embedding(name, 2, index=1)
    mixer.double()
    if hasattr(mixer, "windows"):
        # windows small enough to check every derivative
        mixer = type(mixer)(2, index=1, window=4).double()
    x = torch.randn(1, 5, 3, 2, dtype=torch.float64, requires_grad=True)
    given = None if fve is None else fve.double()
    assert torch.autograd.gradcheck(lambda x: mixer(x, given), x)
    names = list(dict(mixer.named_parameters()))

    def of_weights(*values: Tensor) -> Tensor:
        named = dict(zip(names, values, strict=True))
        return torch.func.functional_call(mixer, named, (x.detach(), given))

    weights = [p.detach().clone().requires_grad_() for p in mixer.parameters()]
    assert torch.autograd.gradcheck(of_weights, weights)


def learns_in_the_first_steps(name: str, norm: str, autocast: bool) -> None:
    """Check gradients and loss in the U (``norm="unet"``) or in the flat network."""
    torch.manual_seed(0)
    config = {"downscale": 2, "fve_size": 4}
    if norm == "unet":
        unet = {"type": "VHeatIRUNet", "channels": [8, 12], "depths": [1, 1]}
        net = build_network({**unet, "mixers": ["conv", name], **config})
    else:
        flat = {"type": "VHeatIR", "embed_dim": 8, "depths": [1, 2]}
        net = build_network({**flat, "mixer": name, "norm": norm, **config})
    x = torch.rand(2, 3, 18, 15, generator=torch.Generator().manual_seed(1))
    clean = torch.full_like(x, 0.5)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):  # initially only the last convolution has a gradient
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            y = net(x)
        loss = (y.float() - clean).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    assert losses[2] < losses[0]
    reached = [name for name, p in net.named_parameters() if p.grad is not None and p.grad.any()]
    assert {"conv_first.weight", "conv_last.weight"} <= set(reached)
