"""A training iteration against explicit formulas."""

from __future__ import annotations

import copy
import importlib.util
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)

from vheatir.archs import adopt
from vheatir.hardware import has_native_bf16
from vheatir.training.distributed import Processes
from vheatir.training.model import RestorationModel, autocast_dtype
from vheatir.training.schema import Options
from vheatir.weights import load_weights, save_weights

CPU = torch.device("cpu")


SMALL = {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "downscale": 2}


def build(
    task: str = "denoise_color", level: Any = 25, network: Any = None, **sections: Any
) -> RestorationModel:
    train = {"total_iter": 10, "ema_decay": 0.9, "optim_g": {"type": "Adam", "lr": 1e-3}}
    options = Options.model_validate({
        "name": "x", "task": task, "level": level, "device": "cpu",
        "network_g": network or SMALL,
        "datasets": {"train": {"dataroot_gt": "bundled"}},
        **sections, "train": {**train, **sections.get("train", {})},
    })  # fmt: skip
    torch.manual_seed(0)
    return RestorationModel(options, CPU, Processes())


def batch(count: int = 8, size: int = 16, channels: int = 3) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(1)
    gt = torch.rand(count, channels, size, size, generator=generator)
    lq = gt + 0.1 * torch.randn(gt.shape, generator=generator)
    return {"lq": lq, "gt": gt, "level": torch.full((count,), 25.0)}


def part(data: dict[str, Any], where: slice) -> dict[str, Any]:
    return {key: value[where] for key, value in data.items()}


def gradients(model: RestorationModel) -> list[torch.Tensor]:
    return [p.grad for p in model.net_g.parameters() if p.grad is not None]


@pytest.mark.parametrize("loss", ["L1Loss", "MSELoss", "CharbonnierLoss"])
def test_accumulated_halves_equal_the_whole_batch(loss: str) -> None:
    sections = {"train": {"pixel_opt": {"type": loss}}}
    whole, halves = build(**sections), build(**sections)
    data = batch()
    value = whole.accumulate_gradients(data)
    values = []
    for where in (slice(0, 4), slice(4, 8)):
        last = where.stop == 8
        values.append(halves.accumulate_gradients(part(data, where), 1 / 2, last))
    assert torch.allclose(torch.stack(values).mean(), value, rtol=1e-5)
    for one, other in zip(gradients(whole), gradients(halves), strict=True):
        assert torch.allclose(one, other, rtol=1e-3, atol=1e-7)


def test_charbonnier_is_the_formula() -> None:
    model = build(train={"pixel_opt": {"type": "CharbonnierLoss", "eps": 1e-3}})
    data = batch()
    with torch.no_grad():
        output = model.net_g(data["lq"])
    expected = ((output - data["gt"]) ** 2 + 1e-3).sqrt().mean()
    assert torch.allclose(model.accumulate_gradients(data), expected, rtol=1e-5)


def test_step_is_adam_with_clipping_and_the_average_follows() -> None:
    model = build(train={"grad_clip": 0.01})
    reference = copy.deepcopy(model.net_g)
    adam = torch.optim.Adam(reference.parameters(), lr=5e-4)
    average = {k: v.clone() for k, v in reference.state_dict().items()}
    data = batch()
    for iteration in range(4):
        model.accumulate_gradients(data)
        model.step(5e-4, iteration)
        (reference(data["lq"]) - data["gt"]).abs().mean().backward()
        grads = [p.grad for p in reference.parameters() if p.grad is not None]
        norm = torch.stack([g.square().sum() for g in grads]).sum().sqrt()
        assert norm > 0.01
        for grad in grads:
            grad.mul_(0.01 / (norm + 1e-6))
        adam.step()
        adam.zero_grad()
        decay = min(0.9, (1 + iteration) / (10 + iteration))
        for name, parameter in reference.named_parameters():
            average[name] = decay * average[name] + (1 - decay) * parameter.detach()
    for name, parameter in reference.named_parameters():
        assert torch.allclose(model.net_g.get_parameter(name), parameter, atol=1e-6), name
        assert torch.allclose(model.net_g_ema.get_parameter(name), average[name], atol=1e-6), name


def test_average_switched_off_is_the_network() -> None:
    model = build(train={"ema_decay": 0})
    model.accumulate_gradients(batch())
    model.step(1e-3, 100)
    for one, other in zip(model.net_g.parameters(), model.net_g_ema.parameters(), strict=True):
        assert torch.equal(one, other)


def test_weight_decay_spares_biases_norms_and_frequencies() -> None:
    model = build(train={"optim_g": {"type": "AdamW", "lr": 1e-3, "weight_decay": 0.1}})
    decayed, spared = model.optimizer.param_groups
    assert decayed["weight_decay"] == 0.1 and spared["weight_decay"] == 0
    ids = {id(p) for p in decayed["params"]}
    names = {name for name, p in model.net_g.named_parameters() if id(p) in ids}
    assert names and all(name.endswith("weight") for name in names)
    assert len(decayed["params"]) + len(spared["params"]) == len(list(model.net_g.parameters()))


def test_bytes_and_floats_are_the_same_image() -> None:
    model = build("jpeg_color", 40)
    image = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    data = {"lq": image, "gt": image.float() / 255, "level": torch.zeros(2)}
    lq, gt, _ = model.to_device(data)
    assert torch.equal(lq, gt) and lq.dtype == torch.float32


def test_unsound_weights_are_named() -> None:
    model = build()
    model.accumulate_gradients(batch())
    model.step(1e-3, 0)
    assert model.unsound() is None
    name, parameter = next(iter(model.net_g.named_parameters()))
    model.optimizer.state[parameter]["exp_avg"].view(-1)[3] = torch.inf
    assert model.unsound() == f"exp_avg of {name}"
    with torch.no_grad():
        parameter.view(-1)[0] = torch.nan
    assert model.unsound() == name


class Normed(nn.Module):
    """A foreign network with running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


@pytest.mark.usefixtures("only_own_networks")
def test_dropped_gradients_leave_no_trace_in_running_statistics() -> None:
    adopt("Normed", Normed)
    model = build(network={"type": "Normed"})
    model.accumulate_gradients(batch())
    model.step(1e-3, 0)
    before = copy.deepcopy(model.net_g.state_dict())
    bad = batch()
    bad["lq"] = torch.full_like(bad["lq"], 3e38)
    model.accumulate_gradients(bad)
    assert "running_" in (model.unsound() or "")
    model.drop_gradients()
    assert model.unsound() is None
    after = model.net_g.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_step_count_lies_where_the_options_of_this_run_want_it() -> None:
    """A fused optimiser needs it on the device of the weights, whatever the run before used."""
    saved = build()
    saved.accumulate_gradients(batch())
    saved.step(1e-3, 0)
    model = build()
    groups = [
        {"params": [torch.nn.Parameter(p.to("meta")) for p in group["params"]]}
        for group in model.optimizer.param_groups
    ]
    model.optimizer = torch.optim.Adam(groups, lr=1e-3, fused=True)
    model.load_state_dict(saved.state_dict())
    steps = [state["step"] for state in model.optimizer.state.values()]
    assert steps and all(step.device.type == "meta" for step in steps)


def test_bf16_computes_in_bf16_and_learns() -> None:
    data = batch()
    plain, half = build(), build(train={"precision": "bf16"})
    losses = [float(m.accumulate_gradients(data)) for m in (plain, half)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02)
    assert all(g.dtype == torch.float32 for g in gradients(half))
    assert any(
        not torch.equal(a, b) for a, b in zip(gradients(plain), gradients(half), strict=True)
    )
    for iteration in range(30):
        half.step(2e-3, iteration)
        loss = float(half.accumulate_gradients(data))
    assert loss < 0.9 * losses[1]


def test_auto_precision_asks_the_hardware() -> None:
    assert autocast_dtype("auto", CPU) == (torch.bfloat16 if has_native_bf16(CPU) else None)
    assert autocast_dtype("bf16", CPU) == torch.bfloat16
    assert autocast_dtype("float32", CPU) is None


@pytest.mark.parametrize(
    ("features", "native"),
    [
        ("avx2 fma", False),
        ("avx2 avx512f avx512_bf16", True),
        ("amx_bf16 amx_tile", True),
        ("avx512f avx512_bf16x", False),
    ],
)
def test_native_bf16_is_read_off_the_processor(
    monkeypatch: pytest.MonkeyPatch, features: str, native: bool
) -> None:
    monkeypatch.setattr(Path, "is_file", lambda self: True)
    monkeypatch.setattr(Path, "read_text", lambda self: f"flags\t\t: {features}\n")
    assert has_native_bf16(CPU) == native


@pytest.mark.parametrize("kind", ["safetensors", "pth of BasicSR", "bare pth"])
def test_pretrained_weights_are_those_of_the_file(tmp_path: Path, kind: str) -> None:
    other = build()
    with torch.no_grad():
        for parameter in other.net_g.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    state = other.net_g.state_dict()
    if kind == "safetensors":
        path = save_weights(
            tmp_path / "w.safetensors", other.net_g, {"task": "denoise_color", "level": 25}
        )
        assert load_weights(path).info["level"] == 25
    else:
        path = tmp_path / "w.pth"
        old = {name: torch.zeros_like(value) for name, value in state.items()}
        torch.save({"params": old, "params_ema": state} if "Basic" in kind else state, path)
    model = build(path={"pretrain_network_g": str(path)})
    for net in (model.net_g, model.net_g_ema):
        for name, value in net.state_dict().items():
            assert torch.equal(value, state[name]), name


def test_what_fits_is_taken_where_not_everything_must(tmp_path: Path) -> None:
    gray = build("denoise_gray").net_g.state_dict()
    torch.save(gray, tmp_path / "gray.pth")
    path = {"pretrain_network_g": str(tmp_path / "gray.pth"), "strict_load_g": False}
    own = build(path=path).net_g.state_dict()
    fitting = [name for name in own if own[name].shape == gray[name].shape]
    assert 0 < len(fitting) < len(own)
    assert all(torch.equal(own[name], gray[name]) for name in fitting)


def test_deeper_network_starts_as_good_as_the_shallower(tmp_path: Path) -> None:
    shape = {"type": "VHeatIRUNet", "channels": [8, 8], "mixers": ["conv", "hco"]}
    shallow = build(network={**shape, "depths": [1, 1]}).net_g
    torch.nn.init.normal_(
        shallow.conv_last.weight
    )  # initialised to zero, which would hide a difference
    torch.save(shallow.state_dict(), tmp_path / "shallow.pth")
    path = {"pretrain_network_g": str(tmp_path / "shallow.pth"), "strict_load_g": False}
    deep = build(path=path, network={**shape, "depths": [3, 2]}).net_g
    assert sum(p.numel() for p in deep.parameters()) > sum(p.numel() for p in shallow.parameters())
    x = torch.rand(2, shallow.in_chans, 16, 24)
    level = torch.tensor([10.0, 40.0]) if shallow.takes_level else None
    with torch.no_grad():
        assert torch.equal(deep(x, level), shallow(x, level))
    # and the new blocks learn
    deep(x, level).square().mean().backward()
    new = [p.grad for n, p in deep.named_parameters() if "blocks.2.conv2" in n]
    assert new
    assert all(grad is not None and grad.any() for grad in new)


@pytest.mark.skipif(
    shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler"
)
@pytest.mark.filterwarnings("ignore")
def test_compiled_network_gives_the_same_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # kernels in a shared cache may be of another instruction set
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    # few kernels, because each takes seconds to compile
    simple = {"type": "VHeatIRUNet", "channels": [8], "depths": [1], "mixers": ["conv"]}
    plain, compiled = build(network=simple), build(network=simple, train={"compile": True})
    assert list(compiled.net_g.state_dict()) == list(plain.net_g.state_dict())
    losses = [float(model.accumulate_gradients(batch(2))) for model in (plain, compiled)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
    for one, other in zip(gradients(plain), gradients(compiled), strict=True):
        assert torch.allclose(one, other, rtol=1e-2, atol=1e-5)
