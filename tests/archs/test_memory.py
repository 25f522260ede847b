"""Peak memory at inference: few feature maps exist at once; every allocation is counted.

Tensors on the meta device have shapes but no data, so that the allocations of a network on a GPU
can be counted without one, except for those inside library kernels.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from vheatir.archs import VHeatIR
from vheatir.ops import HeatConduction2d


class Allocations(TorchDispatchMode):
    """Dispatch mode that tracks the peak size of live tensors created inside, in bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.held: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        given = {t.untyped_storage()._cdata for t in tree_leaves(args) if torch.is_tensor(t)}
        out = func(*args, **(kwargs or {}))
        self.held = {key: held for key, held in self.held.items() if not held[0].expired()}
        for tensor in tree_leaves(out):
            if torch.is_tensor(tensor):
                storage = tensor.untyped_storage()
                if storage._cdata not in given:
                    self.held[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(size for _, size in self.held.values()))
        return out


def as_on_a_gpu(network: nn.Module) -> nn.Module:
    """Use the matmul DCT and no decay cache: on a GPU, a kernel computes the decay on the fly."""
    for part in network.modules():
        if isinstance(part, HeatConduction2d):
            part.backend, part.cache_decay = "matmul", False
    return network


@pytest.fixture(autouse=True)
def no_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable autocast, which the meta device neither supports nor reports."""
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda _: False)


def peak_maps(network: nn.Module, side: int, channels: int, *, gradients: bool) -> float:
    """Return the peak memory of one call, in float32 feature maps."""
    network = as_on_a_gpu(network.to("meta").train(gradients))
    x = torch.empty(1, 3, side, side, device="meta")
    with torch.inference_mode(not gradients), Allocations() as allocations:
        network(x)
    return allocations.peak / (4 * channels * side * side)


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_few_maps_exist_at_once(norm: str) -> None:
    # x of the group, x of the block, u, the gate, and the current strip
    network = VHeatIR(embed_dim=60, depths=[2, 2], norm=norm)  # type: ignore[arg-type]
    assert 4 < peak_maps(network, 768, 60, gradients=False) < 4.8


def test_the_count_sees_what_gradients_keep() -> None:
    assert peak_maps(VHeatIR(embed_dim=60, depths=[2]), 64, 60, gradients=True) > 30
