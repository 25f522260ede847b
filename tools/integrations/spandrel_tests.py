"""Run spandrel's own checks on the package's networks and files.

``python tools/integrations/spandrel_tests.py CLONE``, with CLONE a checkout of
github.com/chaiNNer-org/spandrel. spandrel itself, with its extra architectures, is that of the
checkout; needs einops, and what its ``tests/util.py`` imports: pytest, syrupy, requests,
beautifulsoup4.

- ``assert_loads_correctly`` and ``assert_size_requirements`` of ``tests/util.py``, on networks of
  both kinds with many arguments and on the released models;
- each released model, from its ``.safetensors`` file and from an exported ``.pth`` file, against
  :class:`vheatir.Restorer`, and in float16 and bfloat16 against float32;
- all detectors of spandrel on these networks, and ours on all networks that spandrel's own tests
  build.

Prints Markdown; the exit status is 1 if anything disagrees.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
import tempfile
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tools.integrations.clones import commit_of
from vheatir import Restorer, build_network
from vheatir.archs import network_config
from vheatir.bundled import heldout_photographs
from vheatir.cli import report_error
from vheatir.export import export_model
from vheatir.tasks import TASKS
from vheatir.zoo import ModelEntry, list_models, load_model

_SIGMA = 25.0
# Low precision is supported where it changes the image less than rounding to 8 bits does.
_LEAST_PSNR = 50.0


def flat(**arguments: Any) -> nn.Module:
    """Build a flat network with ``hyperparameters``, as spandrel's networks have them."""
    tiny = {} if "size" in arguments else {"embed_dim": 12, "depths": [1, 2]}
    return _comparable({"type": "VHeatIR", **tiny, **arguments})


def unet(**arguments: Any) -> nn.Module:
    """Build a U-shaped network with ``hyperparameters``."""
    tiny = {} if "size" in arguments else {"channels": [16, 16, 24]}
    return _comparable({"type": "VHeatIRUNet", **tiny, **arguments})


def _comparable(config: Mapping[str, Any]) -> nn.Module:
    network = build_network(config)
    parameters = {**network_config(network), "out_chans": network.out_chans}
    # two names of one network, with other initial weights
    if parameters.get("mixer") == "hco_spread":
        parameters["mixer"] = "hco"
    if "mixers" in parameters:
        parameters["mixers"] = [m.replace("hco_spread", "hco") for m in parameters["mixers"]]
    network.hyperparameters = parameters  # type: ignore[assignment]
    return network


#: Arguments of each kind that the weights show.
CASES: dict[str, tuple[Callable[[], nn.Module], ...]] = {
    "VHeatIR": (
        lambda: flat(),
        lambda: flat(in_chans=1),
        lambda: flat(out_chans=1),
        lambda: flat(embed_dim=20, depths=[3], mlp_ratio=1.5),
        lambda: flat(fve_size=8),
        lambda: flat(downscale=2),
        lambda: flat(level_scale=255.0),
        lambda: flat(in_chans=1, level_scale=255.0, downscale=2),
        lambda: flat(mixer="attention", embed_dim=24),
        lambda: flat(mixer="none", fve_size=16),
        lambda: flat(size="light"),
    ),
    "VHeatIRUNet": (
        lambda: unet(),
        lambda: unet(in_chans=1),
        lambda: unet(out_chans=1),
        lambda: unet(downscale=1),
        lambda: unet(channels=[16, 32], depths=[1, 3], mixers=["conv", "hco"]),
        lambda: unet(mixers=["hco", "none", "hco_spread"]),
        lambda: unet(mixers=["conv", "conv", "conv"]),
        lambda: unet(heat_ratio=0.25, channels=[32, 32, 64]),
        lambda: unet(fve_size=8, level_scale=255.0),
        lambda: unet(size="small"),
        lambda: unet(size="medium", in_chans=1, level_scale=255.0),
        lambda: unet(size="large"),
    ),
}


def main() -> int:
    """Run the command line; return the exit status: 1 if anything disagrees."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("clone", type=Path, metavar="CLONE")
    clone = parser.parse_args().clone.resolve()
    folders = [clone, clone / "libs" / "spandrel", clone / "libs" / "spandrel_extra_arches"]
    for folder in folders:
        if not folder.is_dir():
            return report_error(f"{clone} is not a checkout of spandrel: no {folder}")
    sys.path[:0] = [str(folder) for folder in folders]
    return check(clone)


def check(clone: Path) -> int:
    """Run everything, and print Markdown."""
    util = import_module("tests.util")  # installs spandrel's extra architectures
    spandrel = import_module("spandrel")
    own = import_module("vheatir.spandrel")
    own.install()
    write = sys.stdout.write
    write(
        f"spandrel {spandrel.__version__} (commit {commit_of(clone)[:7]}), "
        f"PyTorch {torch.__version__.partition('+')[0]}, CPU\n\n"
    )
    write(
        "| model | loads correctly | size requirements | largest difference from `Restorer` | "
        "float16 | bfloat16 | detected as |\n|---|---|---|---|---|---|---|\n"
    )
    agrees = True
    for entry in list_models():
        row, good = _check_model(entry, util, spandrel, own)
        agrees &= good
        write(f"| {' | '.join(row)} |\n")
    for support in own.REGISTRY:
        arch, cases = support.architecture, CASES[support.architecture.id]
        util.seed_rngs(0)
        util.assert_loads_correctly(arch, *cases)
        found = [_detected(spandrel, case().state_dict()) for case in cases]
        for case in cases:
            util.assert_size_requirements(arch.load(case().state_dict()))
        agrees &= all(ids == [arch.id] for ids in found)
        write(f"\n{arch.id}: {len(cases)} networks load correctly and meet the size requirements; ")
        write(f"{sum(ids == [arch.id] for ids in found)} are detected as {arch.id} alone.\n")
    states = list(_their_networks(clone, own))
    wrong = [f"{name}: {ids}" for name, ids in states if ids]
    names = {name for name, _ in states}
    write(f"\n{len(states)} networks of {len(names)} architectures from spandrel's tests: ")
    write(" ".join([f"{len(wrong)} are detected as ours.", *wrong]) + "\n")
    theirs = [s.architecture.id for s in spandrel.MAIN_REGISTRY if s not in list(own.REGISTRY)]
    write(f"Detectors of spandrel tried on ours: {len(theirs)}.\n")
    return 0 if agrees and not wrong else 1


def _check_model(
    entry: ModelEntry, util: ModuleType, spandrel: ModuleType, own: ModuleType
) -> tuple[list[str], bool]:
    """Return the row of a released model, and whether it passes."""
    loader = spandrel.ModelLoader()

    def released() -> nn.Module:
        network = load_model(entry.name).network
        network.hyperparameters = _comparable(network_config(network)).hyperparameters
        return network

    model = loader.load_from_file(entry.path)
    util.assert_loads_correctly(model.architecture, released)
    util.assert_size_requirements(model)
    image, level = _image(model.input_channels), None
    if TASKS[entry.task].has_level and entry.level is None:
        level = _SIGMA
    if hasattr(model, "level"):
        assert isinstance(model, own.LevelModelDescriptor) and model.level == own.DEFAULT_LEVEL
    with tempfile.TemporaryDirectory() as folder:
        exported = loader.load_from_file(export_model(entry.name, Path(folder) / "model.pth"))
    expected = Restorer(entry.name, "cpu").restore(image, level, tile=None).clamp(0, 1)
    difference = 0.0
    for each in (model, exported):
        if hasattr(each, "level"):
            each.level = _SIGMA
        difference = max(difference, float((each(image) - expected).abs().max()))
    low = [_psnr(model.to(dtype)(image.to(dtype)), expected) for dtype in _LOW]
    found = _detected(spandrel, model.model.state_dict())
    passed = difference == 0 and min(low) >= _LEAST_PSNR and found == [model.architecture.id]
    decibels = [f"{psnr:.1f} dB" for psnr in low]
    return [entry.name, "yes", "yes", f"{difference:.1e}", *decibels, ", ".join(found)], passed


_LOW = (torch.float16, torch.bfloat16)


def _image(channels: int) -> Tensor:
    """Return a noisy photograph of 197 x 153 pixels, (1, channels, H, W)."""
    clean = heldout_photographs()["coffee"][100:253, 200:397].astype(np.float32) / 255
    noise = np.random.default_rng(0).normal(0, _SIGMA / 255, clean.shape)
    image = torch.from_numpy((clean + noise).clip(0, 1).astype(np.float32)).permute(2, 0, 1)[None]
    return image if channels == 3 else image.mean(1, keepdim=True)


def _psnr(restored: Tensor, expected: Tensor) -> float:
    return float(-10 * torch.log10((restored.double() - expected.double()).square().mean()))


def _detected(spandrel: ModuleType, state: Mapping[str, Tensor]) -> list[str]:
    """Return the IDs of all architectures that take these weights for their own."""
    return [s.architecture.id for s in spandrel.MAIN_REGISTRY if s.detect(state)]


def _their_networks(clone: Path, own: ModuleType) -> Iterator[tuple[str, list[str]]]:
    """Build each network of spandrel's ``test_load``, and try our detectors on its weights.

    Yields:
        The ID of its architecture, and the IDs of ours that take it for their own.
    """
    for file in sorted((clone / "tests").glob("test_*.py")):
        module: Any = import_module(f"tests.{file.stem}")
        if not hasattr(module, "assert_loads_correctly"):
            continue
        cases: list[tuple[str, Callable[[], nn.Module]]] = []

        def collect(
            arch: Any,
            *models: Callable[[], nn.Module],
            cases: list[tuple[str, Callable[[], nn.Module]]] = cases,
            **_: Any,
        ) -> None:
            cases += [(arch.id, model) for model in models]

        module.assert_loads_correctly = collect
        for name, test in vars(module).items():
            if name.startswith("test_load"):
                test()
        for arch, build in cases:
            state = _weights(build)
            yield arch, [s.architecture.id for s in own.REGISTRY if s.detect(state)]


def _weights(build: Callable[[], nn.Module]) -> dict[str, Tensor]:
    """Return the weights of a network, without values, which our detectors do not read."""
    try:
        with torch.device("meta"):
            return build().state_dict()
    except Exception:  # reads values of tensors while it is built
        return build().state_dict()


if __name__ == "__main__":
    sys.exit(main())
