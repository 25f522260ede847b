"""Restore a photograph where only vheatir-onnx is installed, and compare it with PyTorch.

``python tools/integrations/onnx_only.py [MODEL ...]`` builds the wheel of packaging/onnx and
installs it with its dependencies, which pip downloads, in a fresh environment. There it restores a
noisy bundled photograph, stored sideways with a colour profile, by exported files of the models.
Prints the size of what was installed and, per model, the largest difference from ``Restorer`` in
steps of 8 bits. Exit status 1 if that is more than 1, or something large was installed too.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)

import argparse
import os
import subprocess
import tempfile
import venv

import numpy as np
from PIL import Image, ImageCms

from vheatir.bundled import heldout_photographs
from vheatir.export import export_model
from vheatir.inference import Restorer
from vheatir.tiles import AUTO_TILE

MODELS = ("photo_small_clean", "denoise_color_small", "jpeg_gray_small")
#: Modules of the full distribution that must be missing.
ABSENT = ("cv2", "scipy", "skimage", "torch", "vheatir")
_ROTATED = 6  # EXIF orientation: the first row of the file is the right side of the photograph
_ORIENTATION = 0x0112
_SIGMA = 15.0


def install(folder: Path) -> Path:
    """Build the wheel, install it in a fresh environment, and return its folder of programs."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder)]
    _run([*pip, str(ROOT / "packaging" / "onnx")])
    environment = folder / "environment"
    venv.create(environment, with_pip=True)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    _run([programs / "python", "-m", "pip", "install", "--quiet", *folder.glob("*.whl")])
    return programs


def installed_megabytes(programs: Path) -> float:
    """Return the size of the installed packages, without pip and compiled Python files."""
    code = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(_run([programs / "python", "-c", code]).strip())
    return sum(
        path.stat().st_size
        for path in packages.rglob("*")
        if path.is_file()
        and path.suffix != ".pyc"
        and not path.relative_to(packages).parts[0].startswith(("pip", "setuptools"))
    ) / 1e6  # fmt: skip


def write_photograph(path: Path) -> np.ndarray:
    """Write a noisy photograph as a rotated PNG file with a profile; return its upright pixels."""
    clean = heldout_photographs()["chelsea"]
    noise = np.random.default_rng(0).normal(0, _SIGMA, clean.shape)
    noisy = (clean + noise).clip(0, 255).round().astype(np.uint8)
    exif = Image.Exif()
    exif[_ORIENTATION] = _ROTATED
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.rot90(noisy)).save(path, exif=exif, icc_profile=profile)
    return noisy


def _run(command: list[str | Path]) -> str:
    """Run a program outside the repository, without its modules; return what it printed."""
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tempfile.gettempdir(), env=bare
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="*", metavar="MODEL", help=f"default: {', '.join(MODELS)}")
    names = parser.parse_args().models or MODELS
    write = sys.stdout.write
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = install(folder)
        code = "import importlib.util as u, sys; print([n for n in sys.argv[1:] if u.find_spec(n)])"
        found = _run([programs / "python", "-c", code, *ABSENT]).strip()
        write(f"installed: {installed_megabytes(programs):.0f} MB; of {ABSENT}: {found}\n\n")
        noisy = write_photograph(folder / "in.png")
        write("| model | largest difference | pixels that differ |\n|---|---|---|\n")
        largest = 0
        for model in names:
            file, out = folder / f"{model}.onnx", folder / f"{model}.png"
            export_model(model, file)
            _run([programs / "vheatir-onnx", file, folder / "in.png", "-o", out])
            expected = Restorer(model, "cpu").restore(noisy, tile=AUTO_TILE)
            with Image.open(out) as image:
                assert image.info["icc_profile"] and _ORIENTATION not in image.getexif()
                steps = np.abs(np.asarray(image).astype(int) - expected)
            largest = max(largest, int(steps.max()))
            write(f"| {model} | {steps.max()} of 255 | {(steps > 0).mean():.2%} |\n")
    return int(largest > 1 or found != "[]")


if __name__ == "__main__":
    sys.exit(main())
