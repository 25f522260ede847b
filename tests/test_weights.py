"""Weight files are self-contained; damaged, foreign and malicious files are refused."""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from vheatir.archs import build_network, network_config
from vheatir.errors import VHeatIRError
from vheatir.weights import (
    load_weights,
    read_info,
    read_state_dict,
    save_weights,
    unchanged_file,
)

ROOT = Path(__file__).resolve().parents[1]
INFO = {
    "task": "denoise_color",
    "level": [0, 55],
    "name": "tiny",
    "training": {"iterations": 7, "data": ["BSD500", "WED"]},
}
CONFIGS: dict[str, dict[str, Any]] = {
    "flat": {"type": "VHeatIR", "embed_dim": 8, "depths": [2], "level_scale": 255.0},
    "unet": {
        "type": "VHeatIRUNet",
        "channels": [8, 12],
        "depths": [1, 1],
        "mixers": ["attention", "hco_spread"],
        "level_scale": 255.0,
    },
}


def network(kind: str = "flat") -> nn.Module:
    torch.manual_seed(0)
    net = build_network(CONFIGS[kind])
    with torch.no_grad():
        for parameter in net.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    return net.eval()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return save_weights(tmp_path / "tiny.safetensors", network(), INFO)


# --- round trip ----------------------------------------------------------------------------------

READER = """
import sys
import numpy as np
import torch
from vheatir.weights import load_weights
x = torch.from_numpy(np.load("x.npy"))
for name in sys.argv[1:]:
    model = load_weights(name)
    assert not model.network.training
    with torch.no_grad():
        np.save(f"{name}.npy", model.network(x, 25.0).numpy())
"""


def test_a_fresh_process_rebuilds_the_network_from_the_file_alone(tmp_path: Path) -> None:
    x = torch.rand(1, 3, 21, 14, generator=torch.Generator().manual_seed(2))
    np.save(tmp_path / "x.npy", x.numpy())
    for kind in CONFIGS:
        save_weights(tmp_path / f"{kind}32", network(kind), INFO)
        save_weights(tmp_path / f"{kind}16", network(kind), INFO, dtype=torch.float16)
    names = [f"{kind}{bits}" for kind in CONFIGS for bits in (32, 16)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", READER, *names]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True)
    for kind in CONFIGS:
        with torch.no_grad():
            expected = network(kind)(x, 25.0).numpy()
        residual = np.sqrt(np.mean((expected - x.numpy()) ** 2))
        assert residual > 1e-3  # the network changes its input
        # Not bit-exact: kernels may differ between processes, by alignment and threads.
        np.testing.assert_allclose(np.load(tmp_path / f"{kind}32.npy"), expected, atol=1e-5)
        difference = np.load(tmp_path / f"{kind}16.npy") - expected
        assert 0 < np.sqrt(np.mean(difference**2)) < 0.01 * residual
        sizes = [(tmp_path / f"{kind}{bits}").stat().st_size for bits in (16, 32)]
        assert sizes[0] < 0.7 * sizes[1]


def test_what_is_loaded(file: Path) -> None:
    model = load_weights(str(file))
    assert model.path == file and model.info == INFO
    assert model.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert network_config(model.network) == network_config(network())
    assert not any(p.requires_grad for p in model.network.parameters())
    assert {p.dtype for p in model.network.parameters()} == {torch.float32}


def test_half_precision_is_loaded_as_float32(tmp_path: Path) -> None:
    path = save_weights(tmp_path / "h.safetensors", network(), INFO, dtype=torch.bfloat16)
    assert {p.dtype for p in load_weights(path).network.parameters()} == {torch.float32}


def test_the_same_network_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = (save_weights(tmp_path / name, network(), INFO) for name in "ab")
    assert first.read_bytes() == second.read_bytes()


def test_read_info_reads_the_header_alone(file: Path) -> None:
    info = read_info(file)
    net = network()
    assert info.pop("network") == network_config(net)
    assert info.pop("params") == sum(p.numel() for p in net.parameters())
    assert info == INFO
    # it does not read the weights: all of them are NaN in this copy
    data = bytearray(file.read_bytes())
    start = 8 + int.from_bytes(data[:8], "little")
    data[start:] = b"\xff" * (len(data) - start)
    file.write_bytes(data)
    assert read_info(file)["name"] == "tiny"
    with pytest.raises(VHeatIRError, match="infinite or NaN values"):
        load_weights(file)


def test_numbers_that_json_lacks_are_saved_as_null(tmp_path: Path) -> None:
    scores = {"val": {"psnr": float("inf"), "ssim": 1.0}}
    path = save_weights(tmp_path / "x.safetensors", network(), {**INFO, "scores": scores})
    assert read_info(path)["scores"] == {"val": {"psnr": None, "ssim": 1.0}}


def test_a_network_of_unknown_configuration_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(VHeatIRError, match="build_network"):
        save_weights(tmp_path / "x.safetensors", nn.Linear(1, 1), INFO)
    assert not list(tmp_path.iterdir())


# --- damaged files -------------------------------------------------------------------------------


def refused(function: Callable[[Path], object], path: Path, message: str = "") -> None:
    """Assert that ``function`` raises a one-line error that names the file."""
    with pytest.raises(VHeatIRError, match=message) as caught:
        function(path)
    text = str(caught.value)
    assert "\n" not in text and path.name in text and len(text) < 400


def rewritten(
    path: Path,
    weights: Callable[[dict[str, Tensor]], object] = lambda state: None,
    header: Callable[[dict[str, Any]], object] = lambda header: None,
) -> None:
    """Rewrite a weight file with modified weights or a modified ``vheatir`` metadata entry."""
    data = path.read_bytes()
    metadata = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])["__metadata__"]
    entry, state = json.loads(metadata["vheatir"]), safetensors.torch.load(data)
    weights(state)
    header(entry)
    path.write_bytes(safetensors.torch.save(state, {"vheatir": json.dumps(entry)}))


@pytest.mark.parametrize("read", [load_weights, read_info, read_state_dict])
def test_missing_and_unreadable_files(read: Callable[[Path], object], tmp_path: Path) -> None:
    refused(read, tmp_path / "none.safetensors", "does not exist")
    folder = tmp_path / "folder.safetensors"
    folder.mkdir()
    refused(read, folder, "cannot be opened")
    empty = tmp_path / "empty.safetensors"
    empty.touch()
    refused(read, empty, "damaged")


@pytest.mark.parametrize("kept", [4, 8, 100, 0.5, -1])
@pytest.mark.parametrize("read", [load_weights, read_info, read_state_dict])
def test_truncated_files(read: Callable[[Path], object], kept: float, file: Path) -> None:
    data = file.read_bytes()
    file.write_bytes(data[: int(kept * len(data)) if kept == 0.5 else int(kept)])
    refused(read, file, "damaged")


def test_bits_flipped_in_the_header_never_end_in_a_traceback(file: Path) -> None:
    data = file.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    # every bit of the length field, and a random sample of the rest
    bits = [*range(64), *random.Random(0).sample(range(64, 8 * end), 500)]
    refusals = 0
    for bit in bits:
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        file.write_bytes(damaged)
        try:
            load_weights(file)  # a flip in a name or a learning rate is harmless
        except VHeatIRError as error:
            refusals += 1
            assert "\n" not in str(error) and "tiny.safetensors" in str(error)
    assert refusals > 0.7 * len(bits)


def test_weights_that_do_not_fit_the_configuration(file: Path) -> None:
    good = file.read_bytes()
    name = "conv_first.weight"

    def transpose(state: dict[str, Tensor]) -> None:
        state[name] = state[name].transpose(0, 1).contiguous()

    def poison(state: dict[str, Tensor]) -> None:
        state[name][0, 0, 0, 0] = float("nan")

    def overflow(state: dict[str, Tensor]) -> None:
        state[name][0, 0, 0, 0] = float("inf")

    changes: list[tuple[Callable[[dict[str, Tensor]], object], str]] = [
        (transpose, f"weight {name} is wrong"),
        (lambda state: state.pop(name), f"weight {name} is wrong"),
        (lambda state: state.update(more=torch.ones(1)), "does not have: more"),
        (poison, f"infinite or NaN values in {name}"),
        (overflow, f"infinite or NaN values in {name}"),
    ]
    for change, message in changes:
        file.write_bytes(good)
        rewritten(file, weights=change)
        refused(load_weights, file, message)


def test_configurations_that_cannot_be_true(file: Path) -> None:
    good = file.read_bytes()
    changes: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda h: h["network"].update(embed_dim=16), "is wrong"),
        (lambda h: h["network"].update(embed_dim="16"), "embed_dim"),
        (lambda h: h["network"].update(type="VHeatIR2"), "needs the network type 'VHeatIR2'"),
        (lambda h: h["network"].update(gain=2), "unknown option of VHeatIR"),
        (lambda h: h["network"].pop("depths"), "is wrong"),
    ]
    for change, message in changes:
        file.write_bytes(good)
        rewritten(file, header=change)
        refused(load_weights, file, message)


def test_a_mixer_that_left_the_package_is_said_to_be_in_studies(file: Path) -> None:
    rewritten(file, header=lambda h: h["network"].update(mixer="adaptive"))
    refused(load_weights, file, r"import studies\.heat\.mixers from a checkout")


def test_headers_that_are_not_ours(file: Path) -> None:
    good = file.read_bytes()
    changes: list[tuple[Callable[[dict[str, Any]], object], str]] = [
        (lambda h: h.update(network=None), "has format"),
        (lambda h: h.update(info=[1]), "has format"),
        (lambda h: h.pop("network"), "damaged"),
        (lambda h: h.pop("info"), "damaged"),
        (lambda h: h.update(format=2), "has format 2, not 1: upgrade"),
    ]
    for change, message in changes:
        file.write_bytes(good)
        rewritten(file, header=change)
        for read in (load_weights, read_info):
            refused(read, file, message)


@pytest.mark.parametrize("entry", ["", "[]", "7", "null", "{", "[" * 100_000])
def test_entries_that_are_no_header(entry: str, file: Path) -> None:
    file.write_bytes(safetensors.torch.save({"a": torch.ones(1)}, {"vheatir": entry}))
    for read in (load_weights, read_info):
        refused(read, file, "damaged")


def test_other_peoples_safetensors(tmp_path: Path) -> None:
    path = tmp_path / "theirs.safetensors"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    for read in (load_weights, read_info):
        refused(read, path, "contains no vHeatIR configuration: use a file exported by training")
    assert torch.equal(read_state_dict(path)["a"], torch.ones(1))  # its tensors can still be read


@pytest.mark.parametrize("suffix", [".SAFETENSORS", ".SafeTensors"])
def test_the_case_of_the_suffix_does_not_matter(file: Path, suffix: str) -> None:
    upper = file.rename(file.with_suffix(suffix))
    model = load_weights(upper)
    assert read_info(upper)["name"] == model.name == "tiny"
    assert read_state_dict(upper).keys() == model.network.state_dict().keys()
    assert unchanged_file(model) == upper.read_bytes()


# --- pickles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, "params", "params_ema"])
def test_basicsrs_files_are_read(key: str | None, tmp_path: Path) -> None:
    state = network().state_dict()
    path = tmp_path / "net_g.pth"
    torch.save(state if key is None else {key: state, "other": {}}, path)
    loaded = read_state_dict(path)
    assert all(torch.equal(loaded[name], tensor) for name, tensor in state.items())


@pytest.mark.parametrize("suffix", [".pth", ".PT", ".ckpt"])
def test_checkpoints_of_parallel_training_and_in_half_precision(
    suffix: str, tmp_path: Path
) -> None:
    net = network()
    halves = {f"module.{name}": tensor.half() for name, tensor in net.state_dict().items()}
    path = tmp_path / f"net_g{suffix}"
    torch.save({"params": halves}, path)
    loaded = load_weights(path).network.state_dict()
    for name, tensor in net.state_dict().items():
        assert loaded[name].dtype == torch.float32
        assert torch.equal(loaded[name], tensor.half().float())


@pytest.mark.parametrize("content", [[1, 2], {"params": 3}, {"a": "b"}, torch.ones(2)])
def test_pickles_without_weights(content: object, tmp_path: Path) -> None:
    path = tmp_path / "net_g.pth"
    torch.save(content, path)
    refused(read_state_dict, path, "contains no weights: it must be a dict of tensors")
