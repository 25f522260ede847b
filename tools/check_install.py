"""Install wheel and sdist in fresh environments with oldest or newest dependencies, and test them.

    python tools/check_install.py --set newest
    python tools/check_install.py --set oldest --python python3.10

Not part of the test suite, since each environment takes gigabytes. ``oldest`` installs the first
release allowed by each lower bound in pyproject.toml, ``newest`` the latest compatible ones. In
each environment the command line restores an image, trains three iterations and reloads the
weights, and the demo's page is built. docs/reliability.md has the last results.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SHOWN = ("torch", "torchvision", "numpy", "opencv-python", "pillow", "scikit-image", "gradio")

TRY = """
import numpy as np, sys, warnings
from pathlib import Path
warnings.simplefilter("ignore")
import vheatir
from vheatir.image_io import write_image, read_image
assert "site-packages" in vheatir.__file__, vheatir.__file__
write_image("in/photo.png", np.random.default_rng(0).integers(0, 255, (40, 50, 3)).astype("uint8"))
from vheatir.cli import main
assert main(["restore", "in", "-o", "out", "--task", "denoise", "--level", "25"]) == 0
assert read_image("out/photo.png").shape == (40, 50, 3)
from vheatir import _paths
options = str(_paths.options_folder() / "quickstart.yml")
force = ["train:total_iter=3", "train:warmup_iter=0", "path:experiments_root=runs", "device=cpu",
         "datasets:train:num_worker_per_gpu=0", "logger:use_tb_logger=false"]
assert main(["train", "-opt", options, "--force_yml", *force]) == 0
(weights,) = Path("runs").glob("*/models/quickstart.safetensors")
vheatir.load_weights(weights)
from vheatir.demo import Settings
from vheatir.demo.models import Catalogue
from vheatir.demo.page import build_page
build_page(Settings(), Catalogue([weights], "cpu"))
from vheatir.demo.benchmarks import load
text, curves = load()
assert "McMaster" in text and curves, text[:80]
print("all of it works")
"""


def oldest_pins() -> list[str]:
    """Return each lower bound in pyproject.toml as a pin."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    text = text[text.index("\ndependencies = [") : text.index("\ndev = [")]
    return [f"{name}=={bound}.*" for name, bound in re.findall(r'"([\w-]+)>=([\d.]+)"', text)]


def run(*command: str | Path, cwd: Path | None = None, **variables: str) -> str:
    """Run a command and return its output; on failure, print it and exit."""
    result = subprocess.run(
        [str(part) for part in command], cwd=cwd, env={**os.environ, **variables},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    if result.returncode != 0:
        sys.stderr.write(result.stdout[-4000:])
        raise SystemExit(f"failed: {' '.join(map(str, command))}")
    return result.stdout


def build(python: str, folder: Path) -> list[Path]:
    """Build and return sdist and wheel."""
    run(python, "-m", "venv", folder / "build")
    pip = folder / "build" / "bin" / "python"
    run(pip, "-m", "pip", "install", "-q", "hatchling>=1.25")
    run(pip, "-m", "hatchling", "build", "-d", folder / "dist", cwd=ROOT)
    return sorted((folder / "dist").iterdir())


def check(python: str, artefact: Path, pins: list[str], folder: Path) -> str:
    """Install an artefact in a new environment and test it; returns the versions as text."""
    run(python, "-m", "venv", folder)
    pip = [folder / "bin" / "python", "-m", "pip"]
    constraints = folder / "constraints.txt"
    constraints.write_text("\n".join(pins))
    run(*pip, "install", "-q", "--upgrade", "pip", "setuptools>=70.1", "wheel")
    run(*pip, "install", "-q", "-c", constraints, "torch", "torchvision")
    quirks = {"PYTHONPATH": str(ROOT / "tools" / "basicsr_build")}
    flags = ("--no-build-isolation", "--no-deps", "basicsr==1.4.2")
    run(*pip, "install", "-q", *flags, **quirks)
    run(*pip, "install", "-q", "-c", constraints, f"{artefact}[train,app]")
    run(*pip, "check")
    with tempfile.TemporaryDirectory() as empty:
        # from a folder without the project, so that the installed package runs
        run(folder / "bin" / "python", "-c", TRY, cwd=Path(empty), PYTHONPATH="")
        run(folder / "bin" / "vheatir", "--version", cwd=Path(empty), PYTHONPATH="")
    found = dict(line.split("==") for line in run(*pip, "freeze").split() if "==" in line)
    version = run(folder / "bin" / "python", "-V").split()[1]
    return f"Python {version}, " + ", ".join(f"{n} {found[n]}" for n in SHOWN if n in found)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--set", choices=("oldest", "newest"), default="newest")
    parser.add_argument("--python", default=sys.executable)
    arguments = parser.parse_args()
    pins = oldest_pins() if arguments.set == "oldest" else []
    with tempfile.TemporaryDirectory(prefix="vheatir-install-") as scratch:
        for artefact in build(arguments.python, Path(scratch)):
            kind = "wheel" if artefact.suffix == ".whl" else "sdist"
            versions = check(arguments.python, artefact, pins, Path(scratch) / kind)
            day = time.strftime("%Y-%m-%d")
            sys.stdout.write(f"| {day} | {arguments.set} | {kind} | {versions} | works |\n")
            sys.stdout.flush()
            run("rm", "-rf", Path(scratch) / kind)


if __name__ == "__main__":
    main()
