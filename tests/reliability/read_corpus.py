"""Read every file of a folder with both readers; print each outcome and the memory growth.

The outcome of a file is ``{"shape", "sum"}``, ``{"error": text}`` or ``{"crash": text}``.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

from vheatir.errors import VHeatIRError
from vheatir.image_io import read_image
from vheatir.inference.files import read_photograph


def main(folder: Path, max_pixels: int) -> None:
    base = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for path in sorted(folder.iterdir()):
        for way in ("photograph", "image"):
            began = time.perf_counter()
            try:
                if way == "photograph":
                    pixels = read_photograph(path.read_bytes(), path.name, max_pixels).pixels
                else:
                    pixels = read_image(path)
                outcome = {"shape": pixels.shape, "sum": int(pixels.sum(dtype="int64"))}
            except VHeatIRError as error:
                outcome = {"error": str(error)}
            except BaseException as error:
                outcome = {"crash": f"{type(error).__name__}: {error}"}
            outcome |= {"file": path.name, "way": way, "seconds": time.perf_counter() - began}
            sys.stdout.write(json.dumps(outcome) + "\n")
            sys.stdout.flush()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - base
    sys.stdout.write(json.dumps({"grown_mb": grown / 1024}) + "\n")


main(Path(sys.argv[1]), int(sys.argv[2]))
