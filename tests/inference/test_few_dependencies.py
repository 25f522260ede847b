"""Arrays are restored with torch, NumPy, SciPy, Pillow, safetensors and PyYAML alone.

Hosts of plug-ins have these; ``pip install --no-deps`` adds nothing to them.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vheatir.bundled import heldout_photographs
from vheatir.image_io import write_image
from vheatir.inference import Restorer

FORBIDDEN = ("cv2", "skimage", "pywt", "rich", "tifffile", "pydantic", "basicsr")

# Arguments: the folder with noisy.npy and deep.png, for the results.
PROGRAM = f"""
import sys
from importlib.abc import MetaPathFinder
from pathlib import Path

class Forbid(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {FORBIDDEN}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Forbid())

import numpy as np
import torch
from vheatir import Restorer, load_model
from vheatir.errors import VHeatIRError
from vheatir.inference import choose_model

folder = Path(sys.argv[1])
noisy = np.load(folder / "noisy.npy")
assert choose_model(noisy).model == "denoise_color"
auto = Restorer("auto", device="cpu")
result = auto.restore_detailed(noisy, strength=80)
np.save(folder / "restored.npy", result.image)
tensor = torch.from_numpy(noisy).permute(2, 0, 1)
turned = auto.restore(tensor, strength=80)
assert np.array_equal(turned.permute(1, 2, 0).numpy(), result.image)
assert np.array_equal(auto.restore(noisy, strength=0), noisy)
assert load_model("photo").name.startswith("photo")
# Pillow decodes 8 bits; files of 16 bits need OpenCV, and say so.
assert auto.restore(folder / "noisy.png", strength=0).shape == noisy.shape
try:
    auto.restore(folder / "deep.png")
except VHeatIRError as error:
    print(error)
assert not [name for name in {FORBIDDEN} if name in sys.modules]
"""


def test_arrays_are_restored_with_few_packages(tmp_path: Path) -> None:
    clean = heldout_photographs()["chelsea"][100:164, 100:196]
    noise = np.random.default_rng(0).normal(0, 25, clean.shape)
    noisy: NDArray[np.uint8] = (clean + noise).clip(0, 255).round().astype(np.uint8)
    np.save(tmp_path / "noisy.npy", noisy)
    write_image(tmp_path / "noisy.png", noisy)
    write_image(tmp_path / "deep.png", noisy.astype(np.uint16) * 257)
    command = [sys.executable, "-c", PROGRAM, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "needs OpenCV" in done.stdout and len(done.stdout.splitlines()) == 1
    restored = np.load(tmp_path / "restored.npy").astype(float)
    expected = Restorer("auto", device="cpu").restore(noisy, strength=80)
    np.testing.assert_allclose(restored, expected, atol=1)
    assert np.square(restored - clean).mean() < np.square(noisy - 1.0 * clean).mean() / 3
