"""The decay cache of HeatConduction2d at inference: changed weights, its limit, copies."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from tests.ops.modules import module_and_embedding
from vheatir.ops import HeatConduction2d
from vheatir.ops.fast import decay


def replaced(module: HeatConduction2d, name: str, factor: float) -> dict[str, Tensor]:
    return {k: v * factor if k == name else v for k, v in module.state_dict().items()}


CHANGES: dict[str, Callable[[HeatConduction2d], object]] = {
    "in place": lambda m: m.to_k.weight.mul_(3),
    "through .data": lambda m: m.to_k.weight.data.mul_(3),
    "a new tensor in .data": lambda m: setattr(m.to_k.weight, "data", m.to_k.weight.data * 3),
    "load_state_dict": lambda m: m.load_state_dict(replaced(m, "to_k.weight", 3)),
    "to(dtype)": lambda m: m.double(),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_changed_weights_change_the_output(
    change: str, mode: type[torch.no_grad], device: torch.device
) -> None:
    module, fve = module_and_embedding()
    module, fve = module.float().eval().to(device), fve.float().to(device)
    x = torch.rand(1, 10, 8, 6, device=device)
    with mode():
        before = module(x, fve)
        assert module in decay.maps
        torch.testing.assert_close(module(x, fve), before, rtol=0, atol=0)  # from the cache
    with torch.no_grad():
        CHANGES[change](module)
    fve, x = fve.to(module.to_k.weight.dtype), x.to(module.to_k.weight.dtype)
    expected = module(x, fve)  # with gradients: nothing is cached
    with mode():
        after = module(x, fve)
    assert after.dtype == expected.dtype
    torch.testing.assert_close(after, expected.detach())
    assert change == "to(dtype)" or not torch.allclose(after, before, atol=1e-3)


def test_another_size_or_embedding_changes_the_output() -> None:
    module, fve = module_and_embedding()
    module.eval()
    for scale, (height, width) in [(1, (10, 8)), (1, (8, 10)), (2, (8, 10)), (1, (10, 8))]:
        x = torch.rand(1, height, width, 6, dtype=torch.float64)
        expected = module(x, scale * fve).detach()
        with torch.no_grad():
            torch.testing.assert_close(module(x, scale * fve), expected)


def test_a_diffusivity_changed_by_the_caller_is_noticed() -> None:
    module, _ = module_and_embedding()
    module.eval()
    u = torch.rand(1, 10, 8, 6, dtype=torch.float64)
    k = torch.rand(4, 4, 6, dtype=torch.float64)
    with torch.no_grad():
        before = module.conduct(u, k)
        k.mul_(5)
        after = module.conduct(u, k)
    torch.testing.assert_close(after, module.conduct(u, k))
    assert not torch.allclose(after, before, atol=1e-3)


@pytest.mark.parametrize("budget", [0, 500, 3000])
def test_strips_beyond_the_budget_equal_the_whole_map(
    budget: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, fve = module_and_embedding()
    module.eval()
    x = torch.rand(2, 13, 9, 6, dtype=torch.float64)  # a map of 5616 bytes
    with torch.no_grad():
        whole = module(x, fve)
        assert module in decay.maps
        monkeypatch.setattr(decay, "DECAY_CACHE_BYTES", budget)
        torch.testing.assert_close(module(x, fve), whole)
    assert module not in decay.maps  # the old map is freed


def test_copies_leave_the_cache_behind() -> None:
    module, fve = module_and_embedding()
    module.eval()
    x = torch.rand(1, 10, 8, 6, dtype=torch.float64)
    with torch.no_grad():
        expected = module(x, fve)
        copies = [copy.deepcopy(module), pickle.loads(pickle.dumps(module))]
        assert module in decay.maps
        for other in copies:
            assert other not in decay.maps
            torch.testing.assert_close(other(x, fve), expected)
    assert not any("cache" in name for name in module.state_dict())


def test_training_keeps_nothing() -> None:
    module, fve = module_and_embedding()
    module(torch.rand(1, 10, 8, 6, dtype=torch.float64), fve)
    assert module not in decay.maps
