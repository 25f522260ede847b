"""The browser demo: a Gradio page that restores uploaded images. ``main`` is its entry point."""

from __future__ import annotations

import argparse
import os
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from vheatir import _paths
from vheatir.cli import positive_number, run_entry_point
from vheatir.errors import VHeatIRError


@dataclass(frozen=True)
class Settings:
    """Settings of the demo, from its command-line flags.

    Attributes:
        host: address to listen on; ``127.0.0.1`` for this machine only.
        port: TCP port; None for the first free one, from 7860.
        share: also open a public tunnel through Gradio's servers.
        browser: open the page in a browser.
        weights: additional weight files to offer.
        device: torch device, or ``"auto"``.
        max_pixels: largest image, in pixels; checked in the file's header before decoding.
        max_upload_mb: largest upload, in megabytes.
        max_results_mb: memory for the results that visitors can still adjust, in megabytes; the
            least recently used are dropped first.
        queue: maximum number of waiting requests.
        keep: seconds after which uploads and results are deleted.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    share: bool = False
    browser: bool = True
    weights: tuple[Path, ...] = ()
    device: str = "auto"
    max_pixels: int = 25_000_000
    max_upload_mb: int = 64
    max_results_mb: int = 512
    queue: int = 20
    keep: int = 3600


def parse_arguments(argv: Sequence[str] | None = None) -> Settings:
    """Parse the flags; argparse exits with status 2 on an invalid one."""
    parser = argparse.ArgumentParser(
        prog="vheatir demo", description="Restore images in the browser with vHeatIR."
    )
    parser.set_defaults(**asdict(Settings()))
    add = parser.add_argument
    add("--host", help="address to listen on (%(default)s: this machine only)")
    add("--port", type=int, help="TCP port (default: first free one from 7860)")
    add("--share", action="store_true", help="open a public link through Gradio")
    add("--no-browser", dest="browser", action="store_false", help="do not open a browser")
    add(
        "--weights", type=Path, nargs="+", action="extend", default=[], metavar="FILE",
        help="additional weight files (.safetensors) to offer",
    )  # fmt: skip
    add("--device", help="auto, cpu, cuda, mps")
    for flag, metavar, about in (
        ("max-pixels", None, "largest image in pixels"),
        ("max-upload-mb", None, "largest upload in megabytes"),
        ("max-results-mb", None,
         "memory for results whose strength can still be adjusted, in megabytes"),
        ("queue", None, "maximum number of waiting requests"),
        ("keep", "SECONDS", "delete uploads and results after this time"),
    ):  # fmt: skip
        add(f"--{flag}", type=positive_number, metavar=metavar, help=f"{about} (%(default)s)")
    given = vars(parser.parse_args(argv))
    return Settings(**{**given, "weights": tuple(given["weights"])})


def check_port(host: str, port: int | None) -> None:
    """Raise VHeatIRError if a port was given and cannot be listened on."""
    if port is None:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.create_server((host.strip("[]"), port), family=family):
            pass
    except (OSError, OverflowError):  # OverflowError: not a port number
        raise cannot_listen(host, port) from None


def cannot_listen(host: str, port: int | None) -> VHeatIRError:
    """Return the error for an address that the demo cannot listen on."""
    return VHeatIRError(
        f"cannot listen on {host}, port {port or '7860 to 7959'}: "
        "it is in use or not an address of this machine; give another --port or --host"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Serve the demo until interrupted.

    Args:
        argv: flags; those of the process by default.

    Returns:
        Exit status: 0, or 2 after an error the user can fix (reported in one line on stderr).
    """
    settings = parse_arguments(argv)
    _paths.hide_own_folders()
    # Before gradio is imported: no telemetry.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    # The browser keeps no history of restored images.
    os.environ["GRADIO_RUN_HISTORY"] = "False"

    def command() -> None:
        # Before gradio is imported, which takes seconds.
        check_port(settings.host, settings.port)
        from vheatir.demo.models import Catalogue

        catalogue = Catalogue(settings.weights, settings.device)
        from vheatir.demo.page import serve

        serve(settings, catalogue)

    return run_entry_point(command, "the demo was not running yet", extra="app")
