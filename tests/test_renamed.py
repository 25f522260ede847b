"""Names of release 0.1 still work, each with one notice."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from vheatir import renamed
from vheatir.archs import build_network, network_config
from vheatir.inference import Restorer
from vheatir.weights import load_weights
from vheatir.zoo import FOLDER, list_models, load_model

OPTIONS = Path(__file__).resolve().parents[1] / "options"


@pytest.fixture(autouse=True)
def notices_anew() -> Iterator[None]:
    renamed._warn_renamed.cache_clear()
    yield
    renamed._warn_renamed.cache_clear()


def test_every_old_name_stands_for_a_released_model() -> None:
    assert set(renamed.MODELS.values()) <= {entry.name for entry in list_models()}
    assert not set(renamed.MODELS) & {entry.name for entry in list_models()}


def test_models_by_old_name_with_one_notice(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        old, new = load_model("jpeg_gray_fast"), load_model("jpeg_gray_small")
        assert Restorer("jpeg_gray_fast", "cpu").info == new.info
    assert (old.info, old.sha256) == (new.info, new.sha256)
    assert new.info["name"] == "jpeg_gray_small"
    assert [record.getMessage() for record in caplog.records] == [
        "jpeg_gray_fast is now called jpeg_gray_small; "
        "the old name will stop working in the next release"
    ]


def test_files_by_old_name(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    with caplog.at_level(logging.WARNING):
        model = load_weights(FOLDER / "jpeg_gray_fast.safetensors")
    assert model.info["name"] == "jpeg_gray_small"
    assert len(caplog.records) == 1
    # A file of that name is itself, wherever it lies.
    own = tmp_path / "jpeg_gray_fast.safetensors"
    own.write_bytes((FOLDER / "denoise_gray_small.safetensors").read_bytes())
    assert load_weights(own).info["name"] == "denoise_gray_small"


def test_sizes_by_old_name(caplog: pytest.LogCaptureFixture) -> None:
    old, new = (build_network({"type": "VHeatIR", "size": size}) for size in ("fast", "mini"))
    assert network_config(old) == network_config(new)
    assert len(caplog.records) == 1


def test_labels_of_the_demo_by_old_name() -> None:
    pytest.importorskip("gradio")
    from vheatir.demo.models import Catalogue

    catalogue = Catalogue(device="cpu")
    former = catalogue.former_labels()
    assert len(former) == len(renamed.MODELS)
    for old, new in former.items():
        assert old != new and catalogue.entry(old) == catalogue.entry(new)


@pytest.mark.skipif(importlib.util.find_spec("basicsr") is None, reason="training needs basicsr")
def test_option_files_by_old_name() -> None:
    from vheatir.training.options import load_options

    folder = OPTIONS / "all_levels"
    sizes = {"fast": "small", "light": "medium", "base": "large"}
    stubs = [path for path in folder.glob("*.yml") if path.stem.rsplit("_", 1)[1] in sizes]
    assert len(stubs) == 12
    for path in stubs:
        task, size = path.stem.rsplit("_", 1)
        assert load_options(path) == load_options(folder / f"{task}_{sizes[size]}.yml")
