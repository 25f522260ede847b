"""The trial tab: camera noise, which has no level, and what Automatic makes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio

from vheatir.bundled import heldout_photographs
from vheatir.degradations import degrade_for_benchmark
from vheatir.image_io import read_image, write_image
from vheatir.inference import AutoRestorer, Restorer
from vheatir.metrics import to_uint8
from vheatir.tasks import TASKS

gradio = pytest.importorskip("gradio", reason="the demo needs gradio: pip install 'vheatir[app]'")

from vheatir.demo.models import Catalogue  # noqa: E402
from vheatir.demo.samples import DAMAGED, camera_noise  # noqa: E402
from vheatir.demo.trial import TrialTab  # noqa: E402
from vheatir.inference.estimate import jpeg_quality  # noqa: E402


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


@pytest.mark.parametrize(
    ("damage", "level", "message", "runs"),
    [
        ("Noise", 25, r"found white noise of sigma 2\d\.\d -> all_levels\.", 2),
        # Both models restore crops, to be compared, before the image is restored.
        (
            "JPEG",
            10,
            r"found JPEG blocks \(\d\.\d\d\) -> \d\d % jpeg_color_medium \+ .* photo_small_clean\.",
            4,
        ),
        ("JPEG", 20, r"found JPEG blocks \(\d\.\d\d\) -> jpeg_color_medium, as above\.", 3),
        ("Camera noise", 0, r"found noise \(luma .*, correlated\) -> photo_test, as above\.", 1),
        # The JPEG model restores crops, in which compression is looked for.
        ("Noise", 1, r"found no damage: left unchanged\.", 2),
    ],
)
def test_the_table_shows_what_automatic_makes_of_the_degraded_image(
    tmp_path: Path,
    weights: dict[str, Path],
    photo_weights: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: str,
    level: float,
    message: str,
    runs: int,
) -> None:
    rows, columns = np.mgrid[:128, :160].astype(np.uint8)
    smooth = np.stack([columns, rows + 20, 255 - columns], axis=2)
    clean = smooth if level == 1 else heldout_photographs()["coffee"][100:228, 200:360]
    write_image(tmp_path / "clean.png", clean)
    given = [weights["all_levels"]] + [photo_weights] * (damage != "JPEG")
    catalogue = Catalogue(given, "cpu")
    restored: list[str] = []
    real = Restorer.restore_detailed

    def counted(self: Restorer, *arguments: Any, **options: Any) -> Any:
        restored.append(self.name)
        return real(self, *arguments, **options)

    monkeypatch.setattr(Restorer, "restore_detailed", counted)
    (_, after), text, *_ = TrialTab(catalogue, 100_000).run(
        str(tmp_path / "clean.png"), damage=damage, level=level
    )
    monkeypatch.undo()
    assert len(restored) == runs
    assert re.search(f"^Automatic: {message}$", text, re.MULTILINE), text
    cells = {line.split("|")[1].strip(): line.split("|")[2:4] for line in text.split("\n")[2:6]}
    if damage == "Camera noise":
        degraded = camera_noise(clean) / np.float32(255)
    else:
        task = TASKS["jpeg_color" if damage == "JPEG" else "denoise_color"]
        degraded = degrade_for_benchmark(clean, task, level)
    # The choice of the Restore and Batch tabs and of the command line.
    automatic = AutoRestorer(load=catalogue.for_task).restore_detailed(degraded)
    assert automatic.choice.message in text
    expected = peak_signal_noise_ratio(clean, to_uint8(automatic.image))
    assert float(cells["Automatic"][0]) == pytest.approx(expected, abs=0.006)
    if "unchanged" in message:
        assert cells["Automatic"] == cells["degraded"]
    if "as above" in message:
        np.testing.assert_array_equal(read_image(after), to_uint8(automatic.image))


def test_automatic_without_a_model_for_what_it_finds(
    tmp_path: Path, weights: dict[str, Path]
) -> None:
    write_image(tmp_path / "clean.png", heldout_photographs()["coffee"][100:228, 200:360])
    catalogue = Catalogue(weights.values(), "cpu")
    catalogue.entries = {k: e for k, e in catalogue.entries.items() if e.task.name != "photo"}
    text = TrialTab(catalogue, 100_000).run(str(tmp_path / "clean.png"), damage="Camera noise")[1]
    assert "Automatic: no model for real photographs (blind) available" in text
    assert "| Automatic |" not in text


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


@pytest.mark.parametrize("shape", [(1, 1, 3), (1, 64, 3), (5, 5)])
def test_a_very_small_image_is_one_line(
    tmp_path: Path, weights: dict[str, Path], shape: tuple[int, ...]
) -> None:
    write_image(tmp_path / "small.png", np.full(shape, 90, np.uint8))
    tab = TrialTab(Catalogue(weights.values(), "cpu"), 10_000)
    with pytest.raises(gradio.Error, match="too small to compare methods: give 8 × 8 pixels"):
        tab.run(str(tmp_path / "small.png"))
