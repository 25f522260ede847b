"""Foreign networks and losses: from BasicSR's registries and from the user's own modules."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from skimage.metrics import peak_signal_noise_ratio
from torch.nn import functional as F

import vheatir.test
from tests.training import helpers
from vheatir import Restorer, build_network, load_weights, save_weights
from vheatir.archs import ARCHS, FOREIGN, adopt
from vheatir.errors import VHeatIRError
from vheatir.image_io import read_image
from vheatir.restore import main as restore
from vheatir.test import main as measure

MY_ARCHS = """
import torch
from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY
from torch import nn


@ARCH_REGISTRY.register()
class MyNet(nn.Module):
    def __init__(self, width=4, norm_layer=nn.BatchNorm2d, *, drop=0.1):
        super().__init__()
        self.config = {"not": "ours"}
        self.downscale = nn.Identity()
        self.body = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1), norm_layer(width), nn.ReLU(), nn.Dropout(drop),
            nn.Conv2d(width, 3, 3, padding=1),
        )

    def forward(self, x):
        assert self.config == {"not": "ours"}
        return x - self.body(x)


@ARCH_REGISTRY.register()
class Doubling(nn.Upsample):
    def __init__(self):
        super().__init__(scale_factor=2)
        self.weight = nn.Parameter(torch.ones(1))


@ARCH_REGISTRY.register()
class Halving(nn.Conv2d):  # and doubling, as a U-net without padding
    def __init__(self):
        super().__init__(3, 3, 1)

    def forward(self, x):
        return x + super().forward(x)[..., ::2, ::2].repeat_interleave(2, 2).repeat_interleave(2, 3)


@ARCH_REGISTRY.register()
class Broken(nn.Module):
    def __init__(self):
        raise KeyError("no such table")


@ARCH_REGISTRY.register()
class Untrainable(nn.Identity):
    pass


@ARCH_REGISTRY.register()
class Pyramid(nn.Conv2d):
    def __init__(self):
        super().__init__(3, 3, 1)

    def forward(self, x):
        return [super().forward(x)] if self.training else super().forward(x)


@ARCH_REGISTRY.register()
class OnlyTests(Pyramid):
    def forward(self, x):
        assert not self.training, "not yet"
        return x


@LOSS_REGISTRY.register()
class Ternary(nn.Module):
    def forward(self, pred, target, mask):
        return (mask * (pred - target)).abs().mean()


@LOSS_REGISTRY.register()
class Detached(nn.L1Loss):
    def forward(self, pred, target):
        return super().forward(pred, target).detach()


@LOSS_REGISTRY.register()
class MyLoss(nn.Module):
    def __init__(self, power=1.0, loss_weight=0.5):
        super().__init__()
        self.power, self.loss_weight = power, loss_weight

    def forward(self, pred, target):
        return self.loss_weight * (pred - target).abs().pow(self.power).mean()


@LOSS_REGISTRY.register()
class TwoLosses(nn.Module):
    def forward(self, pred, target):
        return (pred - target).abs().mean(), None
"""
SWINIR = {
    "type": "SwinIR", "img_size": 32, "in_chans": 3, "upscale": 1, "upsampler": "",
    "window_size": 8, "embed_dim": 8, "depths": [2], "num_heads": [2], "mlp_ratio": 2,
    "resi_connection": "1conv", "img_range": 1.0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_stays_registered(tiny: Any) -> Iterator[None]:
    """Undo what option files and imports register in this process."""
    from vheatir.basicsr_import import import_basicsr

    import_basicsr()
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

    registries = [ARCH_REGISTRY._obj_map, LOSS_REGISTRY._obj_map]
    before = [dict(registry) for registry in registries]
    sys.modules.pop("my_archs", None)  # of another module of tests
    yield
    for registry, content in zip(registries, before, strict=True):
        registry.clear()
        registry.update(content)
    sys.modules.pop("my_archs", None)


@pytest.fixture
def mine(tiny: Any) -> Any:
    """The tiny experiment, of the user's own network and loss, beside its option file."""
    (tiny.folder / "my_archs.py").write_text(MY_ARCHS)
    change(tiny, imports=["my_archs"], network_g={"type": "MyNet", "width": 6})
    change(tiny, train={"pixel_opt": {"type": "MyLoss", "power": 1.5}})
    return tiny


def change(tiny: Any, **sections: Any) -> None:
    options = yaml.safe_load(tiny.file.read_text())
    for key, value in sections.items():
        merged = key == "train" or key == "datasets"
        options[key] = {**options[key], **value} if merged else value
    tiny.file.write_text(yaml.safe_dump(options))


def forget() -> None:
    """Be as a new process, in which nothing is adopted."""
    for name in FOREIGN:
        del ARCHS[name]
    FOREIGN.clear()


def test_a_validation_that_fails_costs_no_iteration(mine: Any, capfd: Any) -> None:
    change(mine, network_g={"type": "Halving"})  # validation images have 45 x 55 pixels
    assert mine.run("val:val_freq=3", "logger:save_checkpoint_freq=100") == 2
    error = capfd.readouterr().err.splitlines()[-1]
    assert "network_g Halving cannot restore a validation image: " in error
    assert "window_size" in error and "--auto_resume" in error
    assert mine.state(3)["scores"] == []


def test_basicsrs_swinir_trains_and_is_restored_exactly(
    tiny: Any, tmp_path: Path, capfd: Any
) -> None:
    change(tiny, network_g=SWINIR, level=25)
    assert tiny.run("val:save_img=true", "val:val_freq=6") == 0
    weights = tiny.experiment() / "models" / "tiny.safetensors"
    forget()
    # without an import, one line
    noisy, out = str(tiny.folder / "clean" / "a.png"), tmp_path / "out.png"
    command = [noisy, "-o", str(out), "--device", "cpu", "--model", str(weights)]
    capfd.readouterr()
    assert restore(command) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "needs the network type 'SwinIR', which is not part of vHeatIR: give --import" in line
    assert not out.exists()

    assert restore([*command, "--import", "basicsr.archs.swinir_arch"]) == 0
    from basicsr.archs.swinir_arch import SwinIR

    independent = SwinIR(**{k: v for k, v in SWINIR.items() if k != "type"}).eval()
    independent.load_state_dict(tiny.state(6)["model"]["ema"])
    image = torch.from_numpy(read_image(noisy)).permute(2, 0, 1)[None].float() / 255
    assert image.shape[2:] == (45, 55)  # off the windows of 8
    with torch.no_grad():
        expected = independent(F.pad(image, (0, 1, 0, 3), mode="reflect"))[..., :45, :55]
    pixels = (expected.clamp(0, 1) * 255).round()[0].permute(1, 2, 0).numpy()
    assert np.array_equal(read_image(out), pixels)
    forget()
    restorer = Restorer(weights, "cpu", imports=["basicsr.archs.swinir_arch"])
    assert np.array_equal(restorer.restore(read_image(noisy)), pixels)
    assert restorer.task is not None and restorer.task.name == "denoise_color"
    # the validation during training padded in the same way
    (saved,) = (tiny.experiment() / "visualization" / "6").rglob("*.png")
    from vheatir.degradations import degrade_for_benchmark

    clean = read_image(tiny.folder / "clean" / f"{saved.stem.partition('_')[0]}.png")
    degraded = degrade_for_benchmark(clean, restorer.task, 25.0)
    padded = np.pad(degraded, ((0, 3), (0, 1), (0, 0)), mode="reflect").transpose(2, 0, 1)
    with torch.no_grad():
        expected = independent(torch.from_numpy(padded.copy())[None])[0, :, :45, :55]
    pixels = (expected.clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(read_image(saved), pixels)


def test_a_network_that_shares_weights_between_modules_is_saved(tmp_path: Path) -> None:
    class Shares(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = torch.nn.Conv2d(3, 3, 1)
            self.second = self.first

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.second(self.first(x))

    adopt("Shares", Shares)
    network = build_network({"type": "Shares"})
    info = {"task": "photo", "level": None}
    again = load_weights(save_weights(tmp_path / "shares.safetensors", network, info)).network
    x = torch.rand(1, 3, 4, 5)
    assert torch.equal(again(x), network(x))


def test_a_foreign_network_restores_in_tiles_too(tiny: Any) -> None:
    change(tiny, network_g=SWINIR)
    assert tiny.run("train:total_iter=1", "datasets:val=null") == 0
    weights = tiny.experiment() / "models" / "tiny.safetensors"
    restorer = Restorer(weights, "cpu")
    image = read_image(tiny.folder / "clean" / "a.png")
    for options in ({"tile": 20}, {"self_ensemble": True}):
        assert restorer.restore(image, **options).shape == image.shape
    assert restorer.restore(image[:3, :5]).shape == (3, 5, 3)  # too small to reflect


def test_the_users_own_network_and_loss_resume_exactly(mine: Any) -> None:
    assert mine.run("train:total_iter=4", root="straight") == 0
    assert mine.run("train:total_iter=4", "logger:save_checkpoint_freq=2", root="halves") == 0
    (mine.experiment("halves") / "training_states" / "4.state").unlink()
    assert mine.run("train:total_iter=4", root="halves", resume=True) == 0
    a, b = mine.state(4, "straight"), mine.state(4, "halves")
    assert helpers.difference(a, b) is None
    ema, network = a["model"]["ema"], a["model"]["network"]
    assert not torch.equal(ema["body.0.weight"], network["body.0.weight"])
    # running statistics are not averaged but those of the network
    assert torch.equal(ema["body.1.running_mean"], network["body.1.running_mean"])
    assert ema["body.1.running_mean"].any()

    weights = mine.experiment("straight") / "models" / "tiny.safetensors"
    from vheatir.weights import read_info

    config = read_info(weights)["network"]
    assert config == {"type": "MyNet", "width": 6, "drop": 0.1}
    loaded = load_weights(weights).network
    assert loaded.state_dict().keys() == ema.keys()
    assert all(torch.equal(value, ema[key]) for key, value in loaded.state_dict().items())
    # the resolved options name the module, and name it once
    resolved = yaml.safe_load((mine.experiment("straight") / "tiny.yml").read_text())
    assert resolved["imports"] == ["my_archs"]


def test_the_command_line_imports_from_the_working_directory(
    mine: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> None:
    change(mine, imports=None)
    command = mine.command("train:total_iter=2", "datasets:val=null")
    result = helpers.finish([*command, "--import", "my_archs"], mine.folder)
    assert result.returncode == 0, result.stderr
    monkeypatch.chdir(mine.folder)
    weights = str(mine.experiment() / "models" / "tiny.safetensors")
    test = ["--data", "clean", "--level", "25", "--out", "results", "--limit", "1"]
    assert mine.run() == 2
    assert "unknown network type 'MyNet'" in capfd.readouterr().err
    assert measure([*test, "--weights", weights]) == 2
    assert "give --import MODULE" in capfd.readouterr().err
    assert measure([*test, "--weights", weights, "--import", "my_archs"]) == 0
    forget()
    root = ["--force_yml", f"path:experiments_root={mine.folder / 'runs'}"]
    assert measure([*test, "-opt", str(mine.file), *root, "--import", "my_archs"]) == 0
    # also from another folder: the module lies beside the option file
    (mine.folder / "results2").mkdir()
    test[1] = str(mine.folder / "clean")
    script = [sys.executable, vheatir.test.__file__, *test, "-opt", str(mine.file), *root]
    result = helpers.finish([*script, "--import", "my_archs"], mine.folder / "results2")
    assert result.returncode == 0, result.stderr


def test_the_resume_command_names_the_imports(tiny: Any) -> None:
    from vheatir.train import parse_arguments, resume_command

    given = ["-opt", "x.yml", "--import", "my_archs", "--import", "more.of.it"]
    again = resume_command(parse_arguments(given))
    assert "--import my_archs --import more.of.it" in again


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"imports": ["not_there"]}, "module 'not_there' to import does not exist"),
        ({"imports": "my archs"}, "'my archs' is not the name of a module"),
        ({"imports": ["my_archs.py"]}, "is the name of a file: give that of the module, 'my_arc"),
        ({"imports": ["./my_archs.py"]}, "is the name of a file: give that of the module, 'my_ar"),
        ({"imports": ["raises"]}, "module 'raises' cannot be imported: ZeroDivisionError"),
        ({"imports": ["leaves"]}, "module 'leaves' cannot be imported: SystemExit"),
        ({"imports": ["needs"]}, "module 'needs' needs the package 'nobody_has_this'"),
        ({"imports": {"a": 1}}, "option 'imports' is"),
        ({"network_g": {"type": "SwinIRR"}}, "did you mean 'SwinIR'"),
        ({"network_g": {"type": "NAFNet"}}, "unknown network type 'NAFNet': allowed: "),
        ({"network_g": {"type": "Untrainable"}}, "Untrainable has no weights to train"),
        ({"network_g": {"type": "Pyramid"}}, "\\(2, 3, 32, 32\\) into list in training: it must"),
        ({"network_g": {"type": "OnlyTests"}}, "OnlyTests cannot restore .* in training: not yet"),
        ({"network_g": {"type": "MyNet", "widht": 3}}, "unknown option of MyNet 'widht': did you"),
        ({"network_g": {"type": "Broken"}}, "network Broken cannot be built: 'no such table'"),
        ({"network_g": {"type": "Doubling"}}, "into \\(1, 3, 64, 64\\): it must return one image"),
        ({"network_g": {**SWINIR, "in_chans": 1}}, "SwinIR cannot restore an image of shape"),
        (
            {"network_g": {**SWINIR, "window_size": 7, "img_size": 28}},
            "gt_size 32 is no multiple of 7",
        ),
        ({"train": {"checkpointing": True}}, "checkpointing is for the networks of vHeatIR"),
        ({"train": {"pixel_opt": {"type": "MyLos"}}}, "unknown loss type 'MyLos': did you mean 'M"),
        ({"train": {"pixel_opt": {"type": "MyLoss", "eps": 1}}}, "unknown option of MyLoss 'eps'"),
        ({"train": {"pixel_opt": {"type": "L1Loss", "a": 1}}}, "unknown option 'a'"),
        ({"train": {"pixel_opt": {"type": "TwoLosses"}}}, "TwoLosses cannot be used .*tuple"),
        (
            {"train": {"pixel_opt": {"type": "Ternary"}}},
            "Ternary cannot be used .*argument: 'mask'",
        ),
        ({"train": {"pixel_opt": {"type": "Detached"}}}, "Detached cannot be used .*a gradient"),
        ({"train": {"pixel_opt": {"type": "GANLoss", "gan_type": "vanilla"}}}, "GANLoss cannot be"),
        ({"train": {"pixel_opt": {"type": "GANLoss", "gan_type": "hinge"}}}, "GANLoss cannot be"),
        ({"train": {"pixel_opt": {"type": "WeightedTVLoss"}}}, "does not compare two images"),
        ({"train": {"pixel_opt": {"type": "PSNRLoss", "reduction": "sum"}}}, "only 'mean'"),
    ],
)
def test_invalid_networks_and_losses_are_reported_in_one_line(
    mine: Any, capfd: Any, sections: dict[str, Any], message: str
) -> None:
    (mine.folder / "raises.py").write_text("1 / 0")
    (mine.folder / "leaves.py").write_text("raise SystemExit('no')")
    (mine.folder / "needs.py").write_text("import nobody_has_this")
    change(mine, **sections)
    capfd.readouterr()
    path = list(sys.path)
    assert mine.run() == 2
    assert sys.path == path
    errors = [line for line in capfd.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(errors[0])
    assert not mine.experiment().exists()


@pytest.mark.parametrize("luma", [False, True])
def test_psnr_loss_is_the_negative_psnr(luma: bool) -> None:
    from vheatir.training.losses import build_pixel_loss

    rng = np.random.default_rng(0)
    pred, target = rng.random((2, 3, 3, 9, 7))
    options = {"type": "PSNRLoss", "loss_weight": 2.0, "toY": luma}
    loss = build_pixel_loss(options, 3, 16)
    value = float(loss(torch.from_numpy(pred), torch.from_numpy(target)))

    def y(image: Any) -> Any:  # MATLAB's rgb2ycbcr, of 0..1 to 16..235 on the scale 0..255
        r, g, b = image
        return (16 + 65.481 * r + 128.553 * g + 24.966 * b) / 255

    view = y if luma else lambda image: image
    psnrs = [
        peak_signal_noise_ratio(view(t), view(p), data_range=1.0)
        for p, t in zip(pred, target, strict=True)
    ]
    assert value == pytest.approx(-2 * np.mean(psnrs), abs=1e-4)
    same = torch.from_numpy(pred).requires_grad_()
    loss(same, torch.from_numpy(pred)).backward()
    assert same.grad is not None and bool(same.grad.isfinite().all())


@pytest.mark.filterwarnings("error:Converting a tensor with requires_grad")
def test_training_with_psnr_loss(tiny: Any) -> None:
    change(tiny, train={"pixel_opt": {"type": "PSNRLoss", "loss_weight": 1, "toY": False}})
    assert tiny.run("train:total_iter=2", "datasets:val=null") == 0
    losses = tiny.state(2)["losses"]
    assert all(-60 < row[2] < 0 for row in losses)


def test_unknown_weights_are_deduced_only_for_our_networks(tiny: Any, tmp_path: Path) -> None:
    from basicsr.archs.swinir_arch import SwinIR

    network = SwinIR(**{k: v for k, v in SWINIR.items() if k != "type"})
    torch.save({"params": network.state_dict()}, tmp_path / "net_g.pth")
    with pytest.raises(VHeatIRError, match=r"net_g\.pth does not say what its network is") as error:
        load_weights(tmp_path / "net_g.pth")
    assert "\n" not in str(error.value)


def test_a_module_registers_a_network_without_basicsr(tiny: Any, tmp_path: Path) -> None:
    # an installation without BasicSR: modules may register in ARCHS itself
    (tmp_path / "plain.py").write_text(
        "from torch import nn\nfrom vheatir.archs import ARCHS\n"
        "ARCHS['Plain'] = lambda: nn.Conv2d(3, 3, 1)\n"
    )
    code = (
        "import sys; sys.modules['basicsr'] = None\n"
        "import importlib.util; importlib.util.find_spec = lambda name, *a, _f="
        "importlib.util.find_spec: None if name == 'basicsr' else _f(name, *a)\n"
        "from vheatir.plugins import import_modules; import_modules(['plain'])\n"
        "from vheatir.archs import build_network\n"
        "print(build_network({'type': 'Plain'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True,
                            text=True, timeout=300)  # fmt: skip
    assert result.returncode == 0 and "Conv2d" in result.stdout, result.stderr
