"""Promise 4: every hostile weight file is rejected in one line, and no code in it runs."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import resource
import struct
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from vheatir.archs import ARCHS, build_network
from vheatir.errors import VHeatIRError
from vheatir.weights import load_weights, read_info, read_state_dict, save_weights

READERS = (load_weights, read_info, read_state_dict)
CONFIG = {"type": "VHeatIR", "embed_dim": 8, "depths": [1], "level_scale": 255.0}
INFO = {"task": "denoise_color", "level": [0, 55], "name": "tiny"}


@pytest.fixture
def good(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    return save_weights(tmp_path / "good.safetensors", build_network(CONFIG), INFO)


def answer(read: Callable[[Path], Any], path: Path) -> str | None:
    """Return the error message, or None if the file was accepted."""
    try:
        read(path)
    except VHeatIRError as error:
        return str(error)
    return None


def refused(row: Any, path: Path, readers: Any = READERS) -> None:
    """Count a case: each reader rejects the file in one line that names it."""
    for read in readers:
        said = answer(read, path)
        fine = said is not None and "\n" not in said and path.name in said and len(said) < 400
        row.case(fine, f"{read.__name__}({path.name}): {said}")


def header_of(data: bytes) -> dict[str, Any]:
    return json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])


def with_network(good: Path, path: Path, **changes: Any) -> Path:
    """Copy a weight file with a changed network configuration."""
    data = good.read_bytes()
    entry = json.loads(header_of(data)["__metadata__"]["vheatir"])
    entry["network"].update(changes)
    path.write_bytes(
        safetensors.torch.save(safetensors.torch.load(data), {"vheatir": json.dumps(entry)})
    )
    return path


def test_damage(good: Path, tmp_path: Path, ledger: Any, full: bool) -> None:
    rng, data = random.Random(0), good.read_bytes()
    path = tmp_path / "damaged.safetensors"
    end = 8 + int.from_bytes(data[:8], "little")
    with ledger(4, "weight files cut off") as row:
        for _ in range(300 if full else 20):
            path.write_bytes(data[: rng.randrange(len(data))])
            refused(row, path)
    with ledger(4, "weight files with flipped bits: refused or whole numbers") as row:
        for number in range(1000 if full else 50):
            flipped = bytearray(data)
            bit = rng.randrange(8 * (end if number % 2 else len(data)))
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            for read in READERS:
                said = answer(read, path)
                row.case(said is None or "\n" not in said, f"bit {bit}: {said}")
            if answer(load_weights, path) is None:
                network = load_weights(path).network
                sound = all(value.isfinite().all() for value in network.state_dict().values())
                row.case(sound, f"bit {bit}: not finite")


def test_networks_that_no_machine_could_hold(good: Path, tmp_path: Path, ledger: Any) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ledger(4, "a few bytes that describe a network without end") as row:
        for number, change in enumerate(
            (
                {"embed_dim": 10**6}, {"embed_dim": 10**9}, {"embed_dim": 10**30},
                {"depths": [10**9]}, {"depths": [1] * 10**5}, {"depths": [[1]]},
                {"depths": "9" * 99}, {"depths": [60]},
                {"fve_size": 10**5}, {"fve_size": 10**9}, {"mlp_ratio": 1e12}, {"mlp_ratio": 1e308},
                {"downscale": 10**5}, {"in_chans": 10**8}, {"out_chans": -1}, {"embed_dim": -8},
                {"embed_dim": 1.5}, {"depths": [-1]}, {"level_scale": "x"}, {"img_range": 0},
                {"mixer": "../../etc/passwd"}, {"norm": {"a": 1}}, {"embed_dim": True},
            )
        ):  # fmt: skip
            path = with_network(good, tmp_path / f"endless{number}.safetensors", **change)
            refused(row, path, (load_weights,))
        for width, depth, mixer in (
            (8, 10**9, "conv"),
            (8, 4000, "conv"),
            (10**8, 1, "hco_spread"),
        ):
            shape = {"channels": [width], "depths": [depth], "mixers": [mixer]}
            unet = {"type": "VHeatIRUNet", **shape}
            data = safetensors.torch.load(good.read_bytes())
            entry = {"format": 1, "network": unet, "info": INFO}
            path = tmp_path / f"unet{depth}.safetensors"
            path.write_bytes(safetensors.torch.save(data, {"vheatir": json.dumps(entry)}))
            refused(row, path, (load_weights,))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        row.case(grown < 300, f"memory grew by {grown:.0f} MB")


def test_lying_safetensors(good: Path, tmp_path: Path, ledger: Any) -> None:
    data = good.read_bytes()
    header, rest = header_of(data), data[8 + int.from_bytes(data[:8], "little") :]
    name = "conv_first.weight"
    entries: list[tuple[str, Any]] = [
        ("data_offsets", [0, 2**62]), ("data_offsets", [2**63, 2**63 + 4]), ("shape", [2**62]),
        ("data_offsets", [4, 0]), ("dtype", "F128"), ("shape", [-1]), ("shape", [2**31, 2**31]),
        ("dtype", "U8"),
    ]  # fmt: skip
    with ledger(4, "safetensors whose header lies") as row:
        for key, value in entries:
            lying = json.loads(json.dumps(header))
            lying[name][key] = value
            text = json.dumps(lying).encode()
            path = tmp_path / "lying.safetensors"
            path.write_bytes(struct.pack("<Q", len(text)) + text + rest)
            refused(row, path)
        for length in (2**63, 2**40, 100_000_001, 0):
            path.write_bytes(struct.pack("<Q", length) + data[8:])
            refused(row, path)


MODULE = """
from pathlib import Path
Path({bait!r}).mkdir()

from torch import nn
from vheatir.archs import ARCHS

ARCHS["Planted"] = lambda **_: nn.Conv2d(3, 3, 1)
"""


@pytest.mark.usefixtures("only_own_networks")
def test_files_that_name_networks_and_modules(
    good: Path, tmp_path: Path, ledger: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A weight file names a foreign network, or modules: nothing is imported."""
    bait = tmp_path / "planted"
    (tmp_path / "planted_module.py").write_text(MODULE.format(bait=str(bait)))
    monkeypatch.chdir(tmp_path)
    imported = set(sys.modules)
    entry = json.loads(header_of(good.read_bytes())["__metadata__"]["vheatir"])
    state = safetensors.torch.load(good.read_bytes())
    kinds = ("Planted", "SwinIR", "planted_module", "planted_module.Planted", "os.system", "Linear",
             "torch.nn.Linear", "__import__", "../planted_module", "", "\n\n", "x" * 10**5, None, 7,
             ["SwinIR"], {"type": "SwinIR"})  # fmt: skip
    module = {"imports": ["planted_module"], "import": "planted_module"}
    with ledger(4, "weight files that name other networks, or modules to import") as row:
        for number, kind in enumerate(kinds):
            for where in ("network", "info", "top"):
                header = {**entry, "network": {"type": kind, "width": 8}, "info": INFO}
                if where == "top":
                    header.update(module)
                else:
                    header[where] = {**header[where], **module}
                path = tmp_path / f"kind{number}.safetensors"
                path.write_bytes(safetensors.torch.save(state, {"vheatir": json.dumps(header)}))
                refused(row, path, (load_weights,))
                said = answer(load_weights, path)
                named = said is not None and "--import MODULE" in said
                row.case(named, f"{where} {str(kind)[:40]!r}: {said}")
        for name, content in {
            "state": {"options": module, "params": {"imports": torch.zeros(1)}},
            "weights": {"params": {"conv_first.weight": torch.zeros(2, 3, 3, 3)}, **module},
        }.items():
            torch.save(content, tmp_path / f"{name}.pth")
            refused(row, tmp_path / f"{name}.pth", (load_weights,))
        new = {name.split(".")[0] for name in set(sys.modules) - imported}
        row.case(not new & {"planted_module", "basicsr"}, f"imported: {new}")
        row.case(not bait.exists(), "the planted module ran")
    # with the import that the user gives, it does run
    try:
        load = partial(load_weights, imports=["planted_module"])
        said = answer(load, with_network(good, tmp_path / "own.safetensors", type="Planted"))
        assert said is not None and "does not match its own configuration" in said
        assert bait.exists()
    finally:
        ARCHS.pop("Planted", None)
        sys.modules.pop("planted_module", None)


def test_checkpoints_that_lie_about_their_network(tmp_path: Path, ledger: Any) -> None:
    state = build_network({"type": "VHeatIR", "embed_dim": 8, "depths": [1]}).state_dict()
    lies: dict[str, dict[str, torch.Tensor]] = {
        "empty": {}, "other": {"a": torch.ones(1)},
        "scalar": {**state, "conv_first.weight": torch.zeros(())},
        "flat": {**state, "conv_first.weight": torch.zeros(8)},
        "hollow": {**state, "conv_first.weight": torch.zeros(0, 3, 3, 3)},
        "wide": {**state, "conv_first.weight": torch.zeros(0, 10**12, 3, 3)},
        "endless": {**state, **{f"groups.{i}.blocks.{10**9 * i}.x": torch.zeros(0)
                                for i in range(2_000)}},
        "deep": {**state, "groups." + "0.0." * 20_000 + "x": torch.zeros(0)},
        "embedding": {**state, "groups.0.fve": torch.zeros(10**9, 0)},
        "nan": {**state, "conv_last.bias": torch.full((3,), float("nan"))},
        "missing": {key: value for key, value in state.items() if "conv_last" not in key},
        "more": {**state, "more": torch.zeros(1)},
    }  # fmt: skip
    with ledger(4, "checkpoints of BasicSR whose weights are not those of a network") as row:
        for name, tensors in lies.items():
            for suffix in (".pth", ".pt"):
                torch.save({"params": tensors}, tmp_path / f"{name}{suffix}")
                refused(row, tmp_path / f"{name}{suffix}", (load_weights,))
        torch.save({"params": state}, tmp_path / "good.pth")
        row.case(answer(load_weights, tmp_path / "good.pth") is None, "a good one is refused")


class Planted:
    """Calls a function when it is unpickled."""

    def __init__(self, how: Callable[..., Any], *arguments: Any) -> None:
        self.how, self.arguments = how, arguments

    def __reduce__(self) -> tuple[Any, ...]:
        return self.how, self.arguments


def test_code_in_pickles(tmp_path: Path, ledger: Any) -> None:
    bait = tmp_path / "planted"
    code = f"__import__('os').mkdir({str(bait)!r})"
    plants = {
        "mkdir": Planted(os.mkdir, str(bait)), "system": Planted(os.system, f"mkdir {bait}"),
        "eval": Planted(eval, code), "exec": Planted(exec, code),
        "import": Planted(__import__, "antigravity"), "load": Planted(torch.load, str(bait)),
        "list": Planted(os.listdir, "/"), "open": Planted(open, str(bait), "w"),
    }  # fmt: skip
    with ledger(4, "pickles with code inside, six wrappings") as row:
        for name, plant in plants.items():
            new, old, stream = io.BytesIO(), io.BytesIO(), io.BytesIO()
            torch.save({"params": {"a": torch.ones(1), "b": plant}}, new)
            torch.save({"params": plant}, old, _use_new_zipfile_serialization=False)
            with zipfile.ZipFile(stream, "w") as archive:
                archive.writestr("archive/data.pkl", pickle.dumps(plant))
                archive.writestr("archive/version", "3\n")
            wrapped = [new.getvalue(), old.getvalue(), stream.getvalue(), pickle.dumps(plant),
                       pickle.dumps(plant, 0), pickle.dumps({"params": {"a": plant}})]  # fmt: skip
            for number, data in enumerate(wrapped):
                for suffix in (".pth", ".safetensors", ".pt"):
                    path = tmp_path / f"{name}{number}{suffix}"
                    path.write_bytes(data)
                    refused(row, path)
                    row.case(not bait.exists(), f"{path.name}: the planted code ran")
    pickle.loads(pickle.dumps(plants["mkdir"]))
    assert bait.exists()  # the planted code does work


def test_bombs_and_odd_tensors(good: Path, tmp_path: Path, ledger: Any, full: bool) -> None:
    def zipped(name: str, size: int) -> Path:
        path = tmp_path / name
        torch.save({"params": {"a": torch.zeros(4)}}, path)
        with zipfile.ZipFile(path) as archive:
            files = {entry.filename: archive.read(entry) for entry in archive.infolist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, data in files.items():
                if member.endswith("data/0"):
                    with archive.open(member, "w", force_zip64=True) as stream:
                        for _ in range(size >> 20):
                            stream.write(bytes(1 << 20))
                else:
                    archive.writestr(member, data)
        return path

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ledger(4, "zip bombs, and tensors that are none") as row:
        refused(row, zipped("bomb.pth", (2048 if full else 64) << 20))
        odd = {
            "expanded": torch.zeros(1).expand(10**12), "meta": torch.zeros(3, device="meta"),
            "sparse": torch.zeros(3, 3).to_sparse(), "complex": torch.zeros(3, dtype=torch.cfloat),
            "overlapping": torch.zeros(4).as_strided((10**6, 10**6), (0, 0)),
        }  # fmt: skip
        for name, tensor in odd.items():
            torch.save({"params": {"a": tensor}}, tmp_path / f"{name}.pth")
            refused(row, tmp_path / f"{name}.pth", (read_state_dict,))
        for number, content in enumerate(([1], {"a": "b"}, {1: torch.ones(1)}, 7, None, {"a": {}})):
            torch.save(content, tmp_path / f"content{number}.pth")
            refused(row, tmp_path / f"content{number}.pth", (read_state_dict,))
        state = safetensors.torch.load(good.read_bytes())
        metadata = header_of(good.read_bytes())["__metadata__"]
        for value in (float("nan"), float("inf"), -float("inf")):
            for name in state:
                wrong = {key: tensor.clone() for key, tensor in state.items()}
                wrong[name].view(-1)[-1] = value
                path = tmp_path / "wrong.safetensors"
                path.write_bytes(safetensors.torch.save(wrong, metadata))
                refused(row, path, (load_weights,))
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        row.case(grown < 300, f"memory grew by {grown:.0f} MB")
