"""The trial tab on camera noise, which has no level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from vheatir.bundled import heldout_photographs
from vheatir.image_io import read_image, write_image

pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

from vheatir.demo.models import Catalogue  # noqa: E402
from vheatir.demo.samples import DAMAGED  # noqa: E402
from vheatir.demo.trial import TrialTab  # noqa: E402
from vheatir.inference.estimate import jpeg_quality  # noqa: E402


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("gray", [False, True])
def test_a_denoiser_stands_in_for_a_missing_model_of_photographs(
    tmp_path: Path, weights: dict[str, Path], gray: bool
) -> None:
    clean = heldout_photographs()["coffee"][100:164, 200:280]
    clean = clean[:, :, 1] if gray else clean
    write_image(tmp_path / "clean.png", clean)
    catalogue = Catalogue(weights.values(), "cpu")
    catalogue.entries = {
        label: entry for label, entry in catalogue.entries.items() if entry.task.name != "photo"
    }
    (degraded, _), text, _, reference = TrialTab(catalogue, 10_000).run(
        str(tmp_path / "clean.png"), damage="Camera noise"
    )
    noisy = read_image(degraded)
    np.testing.assert_array_equal(read_image(reference), clean)
    assert noisy.shape == clean.shape
    assert 20 < peak_signal_noise_ratio(clean, noisy) < 40
    assert f"| degraded | {peak_signal_noise_ratio(clean, noisy):.2f} |" in text
    assert ("denoise_gray" if gray else "all_levels") in text
    assert text.endswith("Camera noise, 80 × 64")


def test_it_uses_a_model_of_photographs(
    tmp_path: Path, weights: dict[str, Path], photo_weights: Path
) -> None:
    write_image(tmp_path / "clean.png", heldout_photographs()["coffee"][:40, :40])
    catalogue = Catalogue([weights["all_levels"], photo_weights], "cpu")
    text: Any = TrialTab(catalogue, 10_000).run(str(tmp_path / "clean.png"), damage="Camera noise")[
        1
    ]
    assert "photo_test" in text and "all_levels" not in text


def test_the_samples_are_as_cameras_and_phones_write_them() -> None:
    from PIL import Image

    photographs = heldout_photographs()
    camera = read_image(DAMAGED["Camera noise"]())
    noise = camera.astype(float) - photographs["chelsea"]
    assert np.abs(noise.mean((0, 1))).max() < 0.5 and 3 < noise.std() < 12
    # Correlated, unlike white noise.
    flat = noise - noise.mean()
    assert (flat[:, 1:] * flat[:, :-1]).mean() / flat.var() > 0.2
    phone = DAMAGED["Phone JPEG"]()
    with Image.open(phone) as image:
        assert image.format == "JPEG" and jpeg_quality(image.quantization) == 80
        assert image.size == photographs["coffee"].shape[1::-1]
    assert DAMAGED["Phone JPEG"]() == phone  # deterministic
