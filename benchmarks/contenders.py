"""Networks and layers to compare, by name, and the work that is timed.

A contender is a name: a network (``vheatir``, ``swinir``, ``vheatir-dense``), a layer alone
(``heat``, ``hco``, ``hco-dense``, ``heat-block``, ``window-attention``, ``swin-layer``), a
released model (``released:NAME``), any network of ours (``config:MODULE:JSON``; importing
the module registers its parts), or another method for a task (``other:NAME:TASK``, see
:mod:`benchmarks.others`).
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.swinir import HEADS, WINDOW, SwinIR, share_masks
from vheatir.archs import VHeatIR, build_network
from vheatir.archs.blocks import HeatBlock
from vheatir.basicsr_import import import_basicsr
from vheatir.errors import VHeatIRError, unknown_name
from vheatir.hardware import has_native_bf16
from vheatir.inference import restore_tensor
from vheatir.ops import HeatConduction2d

NETWORKS = ("vheatir", "swinir", "vheatir-dense")
LAYERS = ("heat", "hco", "hco-dense", "heat-block", "window-attention", "swin-layer")
RELEASED = "released:"
CONFIG = "config:"
OTHER = "other:"

SIZES = tuple(VHeatIR.SIZES)
DTYPES = ("float32", "tf32", "bfloat16")
MODES = ("infer", "train")
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune")
AUTO = "auto"

# Side of the embedding's grid. A 16x16 grid per group adds few weights to 180 channels but 6 to
# 10 % to 60: with it `light` and `mini` have 5.1 and 10.4 % more weights than SwinIR. The smaller
# grids bring them within 5 %; neither time nor memory depends on the grid.
GRID = {"base": 16, "light": 12, "mini": 10}
LARGEST_DIFFERENCE = 0.05


@dataclass(frozen=True)
class Case:
    """One contender at one image size.

    Attributes:
        method: name of the contender.
        size: key of :data:`SIZES`.
        height: of the image, pixels.
        width: of the image, pixels.
        batch: images per batch.
        mode: ``"infer"`` or ``"train"``.
        dtype: ``"float32"``, ``"tf32"`` or ``"bfloat16"`` (autocast).
        device: torch device.
        compiled: mode of ``torch.compile``; None for eager.
        tile: side of the inference tiles; None for the whole image.
    """

    method: str
    size: str
    height: int
    width: int
    batch: int = 1
    mode: str = "infer"
    dtype: str = "float32"
    device: str = "cpu"
    compiled: str | None = None
    tile: int | None = None


def training_case(
    config: dict[str, Any], module: str, side: int, batch: int, dtype: str = AUTO
) -> Case:
    """Return the case of a training iteration on a CPU.

    Args:
        config: the network, for :func:`vheatir.archs.build_network`.
        module: module to import, which registers the network.
        side: side of the crops in pixels.
        batch: crops per iteration.
        dtype: one of :data:`DTYPES`, or ``"auto"``.
    """
    method = f"{CONFIG}{module}:{json.dumps(config)}"
    dtype = choose_dtype(dtype, "cpu")
    return Case(method, "-", side, side, batch=batch, mode="train", dtype=dtype)


def build(method: str, size: str = "light") -> nn.Module:
    """Build a contender on the CPU, with random weights unless it is a released model.

    Raises:
        VHeatIRError: unknown name.
    """
    torch.manual_seed(0)
    if method.startswith(RELEASED):
        from vheatir import load_model

        return load_model(method.removeprefix(RELEASED)).network
    if method.startswith(CONFIG):
        module, config = method.removeprefix(CONFIG).split(":", 1)
        importlib.import_module(module)
        return build_network(json.loads(config))
    if method.startswith(OTHER):
        from benchmarks.others import build_other

        return build_other(*method.removeprefix(OTHER).split(":"))
    if size not in SIZES:
        raise unknown_name("size", size, SIZES)
    if method == "swinir":
        return SwinIR(**_swinir_shape(size))
    if method in ("vheatir", "vheatir-dense"):
        network = VHeatIR(**VHeatIR.SIZES[size], fve_size=GRID[size])
        return dense(network) if method == "vheatir-dense" else network
    if method in LAYERS:
        return _Layer(method, VHeatIR.SIZES[size]["embed_dim"], HEADS[size])
    raise unknown_name("method", method, (*NETWORKS, *LAYERS))


def dense(module: nn.Module) -> nn.Module:
    """Switch the operators inside to the paper's: cosine matrices, decay recomputed per call."""
    for part in module.modules():
        if isinstance(part, HeatConduction2d):
            part.backend = "matmul"
            part.cache_decay = False
    return module


def _swinir_shape(size: str) -> dict[str, Any]:
    shape = VHeatIR.SIZES[size]
    keys = ("embed_dim", "depths", "mlp_ratio")
    return {**{key: shape[key] for key in keys}, "heads": HEADS[size]}


class _Layer(nn.Module):
    """One layer alone, on tokens (B, H, W, C)."""

    def __init__(self, method: str, dim: int, heads: int) -> None:
        super().__init__()
        self.method, self.dim = method, dim
        if method in ("heat", "hco", "hco-dense"):
            self.layer: nn.Module = HeatConduction2d(dim)
        elif method == "heat-block":
            self.layer = HeatBlock(dim, "hco", 2.0, "pre", 0)
        else:
            import_basicsr()
            from basicsr.archs.swinir_arch import SwinTransformerBlock

            resolution = (64, 64)
            shift = WINDOW // 2
            self.layer = SwinTransformerBlock(dim, resolution, heads, WINDOW, shift, mlp_ratio=2.0)
            share_masks(self.layer)
            if method == "window-attention":
                self.layer.norm2, self.layer.mlp = nn.Identity(), _Zero()
        if method == "hco-dense":
            dense(self.layer)
        if method in ("heat", "hco", "hco-dense", "heat-block"):
            self.fve = nn.Parameter(0.02 * torch.randn(16, 16, dim))

    def forward(self, x: Tensor) -> Tensor:
        if self.method == "heat":
            return self.layer.conduct(x, self.layer.diffusivity(self.fve))
        if hasattr(self, "fve"):
            return self.layer(x, self.fve)
        batch, height, width, channels = x.shape
        return self.layer(x.flatten(1, 2), (height, width)).view(x.shape)


class _Zero(nn.Module):
    def forward(self, x: Tensor) -> float:
        return 0.0


def parameters(network: nn.Module) -> int:
    """Return the number of trainable weights."""
    return sum(p.numel() for p in network.parameters())


def choose_dtype(dtype: str, device: str) -> str:
    """Return ``dtype``; for ``"auto"`` bfloat16 where the device multiplies it, else float32."""
    if dtype != AUTO:
        return dtype
    return "bfloat16" if has_native_bf16(torch.device(device)) else "float32"


def check_parameters(first: nn.Module, second: nn.Module) -> None:
    """Check that the parameter counts of two networks differ by at most 5 %.

    Raises:
        VHeatIRError: they differ by more.
    """
    ours, theirs = parameters(first), parameters(second)
    if abs(ours / theirs - 1) > LARGEST_DIFFERENCE:
        raise VHeatIRError(
            f"{ours:,} and {theirs:,} parameters are not comparable: they differ by "
            f"{100 * (ours / theirs - 1):+.1f} %, more than 5 %; choose equal sizes"
        )


def example(case: Case, network: nn.Module) -> Tensor:
    """Return random input for a contender: an image, or tokens for a layer."""
    generator = torch.Generator().manual_seed(1)
    shape = (case.batch, getattr(network, "in_chans", 3), case.height, case.width)
    if isinstance(network, _Layer):
        shape = (case.batch, case.height, case.width, network.dim)
    return torch.rand(shape, generator=generator).to(case.device)


def prepare(case: Case) -> tuple[nn.Module, Callable[[], None]]:
    """Return the network on its device, and a function that runs the timed work once."""
    if case.dtype not in DTYPES:
        raise unknown_name("dtype", case.dtype, DTYPES)
    set_products(case.dtype, case.device)
    network = build(case.method, case.size).to(case.device)
    x = example(case, network)
    run: Callable[..., Tensor] = network
    if case.compiled:
        if case.method == "swinir":  # builds and caches its attention masks before compilation
            with torch.no_grad():
                network(x)
        run = torch.compile(network, mode=case.compiled)
    extra = (25.0,) if getattr(network, "takes_level", False) else ()
    device_type = torch.device(case.device).type

    def autocast() -> Any:
        if case.dtype != "bfloat16":
            return nullcontext()
        return torch.autocast(device_type, torch.bfloat16)

    if case.mode == "infer":
        network.eval()

        def infer() -> None:
            with torch.inference_mode(), autocast():
                if case.tile is None:
                    run(x, *extra)
                else:
                    restore_tensor(network, x, *extra, tile=case.tile)
            synchronise(case.device)

        return network, infer

    network.train()
    target = torch.rand_like(x)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)

    def train() -> None:
        with autocast():
            loss = F.l1_loss(run(x, *extra), target)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        synchronise(case.device)

    return network, train


def set_products(dtype: str, device: str) -> None:
    """Allow TF32 in float32 products on a GPU, unless ``dtype`` is float32; for all networks.

    On a CPU with native bfloat16 the same setting would compute float32 products in bfloat16, which
    neither training nor restoring does.
    """
    tf32 = dtype != "float32" and torch.device(device).type == "cuda"
    torch.set_float32_matmul_precision("high" if tf32 else "highest")
    torch.backends.cudnn.allow_tf32 = tf32


def synchronise(device: str) -> None:
    """Wait until a GPU has finished."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
