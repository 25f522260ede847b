"""Write the browser demo as a folder for a Hugging Face Space: ``python tools/space.py OUT``.

The folder holds the package, ``app.py``, ``README.md`` with the Space's metadata,
``requirements.txt`` and ``packages.txt``. ``pip install -r requirements.txt && python app.py``
starts the demo in it, on 0.0.0.0:7860. docs/hub.md says what was tried.
"""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[0] = str(ROOT)

import argparse
import shutil

import tomllib
import yaml

from vheatir.cli import report_error
from vheatir.errors import VHeatIRError, first_line
from vheatir.image_io import write_bytes_atomically
from vheatir.zoo import list_models

#: The version of gradio that docs/hub.md reports on; the Space installs it.
GRADIO = "6.31.0"
PYTHON = "3.11"
#: For OpenCV, on Debian.
PACKAGES = ("libgl1", "libglib2.0-0")
EXTRAS = ("app", "heif")

APP = '''\
"""The vHeatIR demo on a Hugging Face Space."""

import sys

from vheatir.demo import main

FLAGS = [
    "--host", "0.0.0.0", "--port", "7860", "--no-browser",
    # The limits: docs/reliability.md of the project.
    "--max-pixels", "12e6", "--max-upload-mb", "32", "--max-results-mb", "512", "--queue", "20",
    "--keep", "600",
]  # fmt: skip

if __name__ == "__main__":
    sys.exit(main(FLAGS))
'''

README = """\
# vHeatIR

Removes noise and JPEG artifacts from photographs. Written by `python tools/space.py`.

- The package is in `vheatir/`, since it has no address to install it from.
- `requirements.txt` has its dependencies, `packages.txt` the libraries of Debian that OpenCV needs.
- `app.py` serves the demo on port 7860 of all addresses. Images have at most 12 megapixels and 32
  MB; 20 requests may wait; files are deleted after ten minutes.

To run it elsewhere: `pip install -r requirements.txt`, then `python app.py`.

The code is under Apache-2.0. The card of each model, in `vheatir/zoo/`, says what it was trained
on. All models but {free} have seen images that are for non-commercial use only.
"""


def main() -> int:
    """Run the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; must not exist")
    try:
        write_space(parser.parse_args().out)
    except VHeatIRError as error:
        return report_error(error)
    return 0


def write_space(out: Path) -> None:
    """Write the folder.

    Raises:
        VHeatIRError: it exists, or cannot be written.
    """
    if out.exists():
        raise VHeatIRError(f"{out} exists: give a folder that does not")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    files = {
        "app.py": APP,
        "README.md": readme(),
        "requirements.txt": "\n".join(requirements(project["project"])) + "\n",
        "packages.txt": "\n".join(PACKAGES) + "\n",
        "LICENSE": (ROOT / "LICENSE").read_text(encoding="utf-8"),
        "NOTICE": (ROOT / "NOTICE").read_text(encoding="utf-8"),
    }
    try:
        # the same files as in the wheel: the package, and what belongs into it
        for source, target in {"vheatir": "vheatir", **wheel["force-include"]}.items():
            copy(ROOT / source, out / target)
        for name, text in files.items():
            write_bytes_atomically(out / name, text.encode())
    except OSError as error:
        shutil.rmtree(out, ignore_errors=True)
        raise VHeatIRError(
            f"{out} cannot be written: {error.strerror or first_line(error)}: give another"
        ) from None


def copy(source: Path, target: Path) -> None:
    """Copy a file or a folder, without caches and hidden files."""
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    else:
        shutil.copy(source, target)


def readme() -> str:
    """Return the page of the Space, with its metadata in front."""
    metadata = {
        "title": "vHeatIR",
        "emoji": "\N{FIRE}",
        "colorFrom": "yellow",
        "colorTo": "red",
        "sdk": "gradio",
        "sdk_version": GRADIO,
        "python_version": PYTHON,
        "app_file": "app.py",
        "pinned": False,
        "license": "apache-2.0",
        "short_description": "Image restoration by heat conduction",
        "tags": ["image-restoration", "denoising", "jpeg-artifact-removal"],
    }
    names = [f"`{each.name}`" for each in list_models() if each.commercial_use]
    front = yaml.safe_dump(metadata, sort_keys=False, allow_unicode=True)
    return f"---\n{front}---\n\n{README.format(free=', '.join(names))}"


def requirements(project: dict[str, object]) -> list[str]:
    """Return the dependencies of the package and of its extras for the demo."""
    extras = project["optional-dependencies"]
    lines = [*project["dependencies"], *(line for name in EXTRAS for line in extras[name])]
    return list(dict.fromkeys(lines))


if __name__ == "__main__":
    sys.exit(main())
