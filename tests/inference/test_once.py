"""What is costly is done once: an image is read and measured, a model read, hashed and built."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vheatir import restore, weights, zoo
from vheatir.bundled import heldout_photographs
from vheatir.image_io import write_image
from vheatir.inference import choose, restorer

CLEAN = heldout_photographs()["chelsea"][60:124, 90:186].astype(np.float64)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the calls of the real functions, and the opened files by name."""
    seen: Counter[str] = Counter()

    def count(module: Any, function: str, named: Callable[..., str] | None = None) -> None:
        real = getattr(module, function)

        def counted(*args: Any, **kwargs: Any) -> Any:
            result = real(*args, **kwargs)
            seen[named(result, *args) if named else function] += 1
            return result

        monkeypatch.setattr(module, function, counted)

    count(restorer, "choose_model")
    count(choose, "estimate_noise")
    count(choose, "estimate_sigma")
    count(restorer, "estimate_sigma")
    count(weights, "build_model")
    count(weights.safetensors.torch, "load")
    # Also built on the meta device, without memory, to see whether the weights fit it.
    count(weights, "build_network", lambda network, _: f"on {next(network.parameters()).device}")
    count(hashlib, "sha256", lambda digest, *_: digest.hexdigest())
    count(Path, "open", lambda _, path, *__: path.name)
    return seen


def restore_folder(tmp_path: Path, sigmas: dict[str, float]) -> None:
    """Restore noisy images, one for each name, with Automatic."""
    rng = np.random.default_rng(0)
    for name, sigma in sigmas.items():
        noisy = CLEAN + rng.normal(0, sigma, CLEAN.shape)
        write_image(tmp_path / "in" / name, np.rint(noisy).clip(0, 255).astype(np.uint8))
    assert restore.main([str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--device", "cpu"]) == 0
    assert len(list((tmp_path / "out").iterdir())) == len(sigmas)


def model_for(task: str) -> zoo.ModelEntry:
    return zoo.list_models(task)[0]


def test_two_photographs_and_one_model(tmp_path: Path, counts: Counter[str]) -> None:
    restore_folder(tmp_path, {"a.jpg": 12, "b.jpg": 12})
    assert counts["choose_model"] == counts["estimate_noise"] == 2
    # A JPEG with noise: its model is blind, and nothing else is estimated.
    assert counts["estimate_sigma"] == 0
    assert counts["a.jpg"] == counts["b.jpg"] == 1
    model = model_for("photo")
    assert counts[model.path.name] == counts[model.sha256] == 1
    assert counts["build_model"] == counts["load"] == counts["on cpu"] == counts["on meta"] == 1


def test_an_estimated_level_is_handed_on_to_the_model(
    tmp_path: Path, counts: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[tuple[int, ...]] = []
    real = choose.estimate_sigma

    def keep(image: np.ndarray[Any, Any]) -> float:
        measured.append(image.shape)
        return real(image)

    monkeypatch.setattr(choose, "estimate_sigma", keep)
    restore_folder(tmp_path, {"a.png": 25, "b.png": 25, "c.jpg": 12})
    assert counts["choose_model"] == counts["estimate_noise"] == 3
    # Once for each image with white noise, and none by the restorer.
    assert measured == [CLEAN.shape] * 2
    assert counts["estimate_sigma"] == 2
    for task in ("denoise_color", "photo"):
        model = model_for(task)
        assert counts[model.path.name] == counts[model.sha256] == 1
    assert counts["build_model"] == counts["load"] == counts["on cpu"] == counts["on meta"] == 2
