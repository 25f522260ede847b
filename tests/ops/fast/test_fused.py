"""The Triton kernels against plain PyTorch: in Triton's interpreter, and on a GPU if available."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from vheatir.archs import VHeatIR
from vheatir.hardware import tf32_products
from vheatir.ops import HeatConduction2d, dct
from vheatir.ops.fast import fused
from vheatir.ops.layer_norm import LayerNorm

ROOT = Path(__file__).resolve().parents[3]

CHECK = """
import torch
from torch import nn
from torch.nn import functional as F
from vheatir.ops.fast import triton_kernels
from vheatir.ops.fast.decay import decay_strips

torch.manual_seed(0)
for channels in (1, 13, 60, 180):
    norm = nn.LayerNorm(channels)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    x = 3 * torch.randn(2, 5, 7, channels) + 1
    y = torch.randn(2, 7, 5, channels).transpose(1, 2)  # rows without a uniform stride
    gate = torch.randn(2, 5, 7, 2 * channels).chunk(2, dim=-1)[1]
    rest = (norm.weight, norm.bias, norm.eps, x.dtype)
    near = dict(rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(triton_kernels.layer_norm(x, *rest), norm(x), **near)
        gated = triton_kernels.layer_norm(x, *rest, gate=gate)
        torch.testing.assert_close(gated, norm(x) * F.silu(gate), **near)
        total = x.clone()
        normed = triton_kernels.layer_norm(total, *rest, add=y)
        torch.testing.assert_close(total, x + y)
        torch.testing.assert_close(normed, norm(x + y), **near)
        for grid in ((6, 5), (1, 1), (16, 16)):
            k = 5 * torch.rand(*grid, channels)
            decay = decay_strips(k, 5, 7)(0, 7)
            for left, right in ((0, 7), (0, 1), (3, 7)):
                spectrum = x[:, :, left:right].clone()
                triton_kernels.decay_(spectrum, k, left, 7)
                expected = x[:, :, left:right] * decay[:, left:right]
                torch.testing.assert_close(spectrum, expected, **near)
print("agrees")
"""

# Kernels between layers whose weights are in half precision, without autocast: spandrel's way.
CHECK_HALF = """
import torch
from vheatir.archs import VHeatIR, VHeatIRUNet
from vheatir.ops.fast import fused

torch.manual_seed(0)
sizes = dict(channels=[8, 16], depths=[1, 1], mixers=["conv", "hco"])
for network in (VHeatIR(embed_dim=12, depths=[1, 1]), VHeatIRUNet(**sizes)):
    torch.nn.init.normal_(network.conv_last.weight, std=0.2)
    network.half().eval()
    x = torch.rand(1, 3, 12, 10).half()
    with torch.inference_mode():
        fused.can_fuse = lambda x: False
        expected = network(x)
        fused.can_fuse = lambda x: x.is_contiguous()
        torch.testing.assert_close(network(x), expected, rtol=1e-2, atol=1e-2)
print("agrees")
"""


@pytest.mark.parametrize("check", [CHECK, CHECK_HALF], ids=["float32", "half"])
def test_kernels_agree_with_pytorch(check: str) -> None:
    if find_spec("triton") is None:
        pytest.skip("Triton is not installed: PyTorch brings it in its builds for CUDA")
    environ = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", check], env=environ, capture_output=True, text=True
    )
    assert done.stdout.strip() == "agrees", done.stderr


def _tensor(*shape: int, device: torch.device) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(device)


def test_normalise_is_layer_norm_and_gate(device: torch.device) -> None:
    norm = LayerNorm(12).to(device)
    plain = partial(F.layer_norm, normalized_shape=(12,), weight=norm.weight, bias=norm.bias)
    x, gate = _tensor(2, 4, 6, 12, device=device), _tensor(2, 4, 6, 12, device=device)
    with torch.inference_mode():
        torch.testing.assert_close(norm(x), plain(x))
        torch.testing.assert_close(norm(x, gate), plain(x) * F.silu(gate))
        total = x.clone()
        normed = fused.add_and_normalise_(norm, total, gate)
        torch.testing.assert_close(total, x + gate)
        torch.testing.assert_close(normed, plain(x + gate))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_is_the_same_with_and_without_kernels(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    network = VHeatIR(**VHeatIR.SIZES["mini"]).cuda().eval()
    nn.init.normal_(network.conv_last.weight, std=0.02)
    x = torch.rand(2, 3, 61, 90, device="cuda")
    half = torch.autocast("cuda", dtype, enabled=dtype != torch.float32)
    with torch.inference_mode(), half:
        fast = network(x).float()
        monkeypatch.setattr(fused, "TRITON", False)
        plain = network(x).float()
    bound = 1e-5 if dtype == torch.float32 else 2e-2
    assert (fast - plain).norm() < bound * (plain - x).norm()


def test_tf32_is_for_half_precision_on_a_gpu_alone() -> None:
    before = torch.get_float32_matmul_precision()
    for device, dtype, inside in (
        ("cpu", torch.bfloat16, before),
        ("cuda", torch.float32, before),
        ("cuda", None, before),
        ("cuda", torch.bfloat16, "high"),
    ):
        with tf32_products(torch.device(device), dtype):
            assert torch.get_float32_matmul_precision() == inside
        assert torch.get_float32_matmul_precision() == before
    with pytest.raises(ValueError), tf32_products(torch.device("cuda"), torch.float16):
        raise ValueError
    assert torch.get_float32_matmul_precision() == before


@pytest.mark.parametrize(("precision", "side", "backend"), [
    ("highest", 1024, "matmul"), ("highest", 1025, "fft"),
    ("high", 4096, "matmul"), ("high", 4097, "fft"),
])  # fmt: skip
def test_on_a_gpu_tf32_decides_between_matrices_and_fft(
    precision: str, side: int, backend: str
) -> None:
    class OnGpu:  # the attributes that the choice reads
        device, shape = torch.device("cuda"), (1, 8, side, 3)

    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        assert dct.choose_backend(OnGpu(), [2], "auto") == backend  # type: ignore[arg-type]
    finally:
        torch.set_float32_matmul_precision(before)


def test_the_choice_by_tf32_leaves_the_graph_whole() -> None:
    operator = HeatConduction2d(8).eval()
    x, fve = torch.rand(1, 16, 12, 8), torch.rand(4, 4, 8)
    compiled = torch.compile(operator, fullgraph=True, backend="eager")
    with torch.inference_mode():
        torch.testing.assert_close(compiled(x, fve), operator(x, fve), rtol=1e-4, atol=1e-5)
