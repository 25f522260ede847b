"""The ``vheatir`` command, which dispatches to the subcommands; how scripts report errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from importlib import import_module

import vheatir
from vheatir.errors import VHeatIRError, unknown_name

_COMMANDS = {
    "restore": ("vheatir.restore", "restore photographs: files, folders, pipes"),
    "models": ("vheatir.zoo.listing", "list the released models and their licences"),
    "explain": ("vheatir.explain", "visualise the heat conduction of a network"),
    "train": ("vheatir.train", "train a network from an option file"),
    "test": ("vheatir.test", "print benchmark tables"),
    "export": ("vheatir.export", "write a model for other programs: ONNX, darktable, BasicSR"),
    "demo": ("vheatir.demo", "restore images in the browser"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``vheatir COMMAND ...``.

    Args:
        argv: arguments without the program name; ``sys.argv[1:]`` by default. Arguments after the
            command are passed to it unchanged.

    Returns:
        The exit status of the command: 0, or 2 for an error that the user can fix.
    """
    command, *rest = list(sys.argv[1:] if argv is None else argv) or ["--help"]
    if command in ("-h", "--help"):
        sys.stdout.write(_usage())
        return 0
    if command == "--version":
        sys.stdout.write(f"vheatir {vheatir.__version__}\n")
        return 0
    extra = {"train": "train", "demo": "app", "explain": "app"}.get(command, "all")
    return run_entry_point(lambda: _run(command, rest), "the command did not finish", extra)


def _run(command: str, arguments: Sequence[str]) -> int | None:
    if command not in _COMMANDS:
        raise unknown_name("command", command, _COMMANDS)
    return import_module(_COMMANDS[command][0]).main(arguments)


def _usage() -> str:
    commands = "".join(f"  {name:8}{about}\n" for name, (_, about) in _COMMANDS.items())
    return (
        "usage: vheatir COMMAND [ARGUMENTS]\n\n"
        f"commands (each takes --help):\n{commands}\n"
        "options:\n  --version  print the version\n  --help     print this help\n"
    )


def positive_number(text: str) -> int:
    """Parse a whole number of at least 1, also as ``50e6``; a type for argparse."""
    try:
        number = int(float(text))
    except (ValueError, OverflowError):
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of at least 1, such as 50e6")
    return number


def add_import_option(parser: argparse.ArgumentParser, about: str) -> None:
    """Add ``--import MODULE``, repeatable, as ``imports``.

    Args:
        parser: parser of a script.
        about: the rest of the help text after "import a module that registers".
    """
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help=f"import a module that registers {about}",
    )


def report_error(message: object) -> int:
    """Print an error in one line on stderr; return the exit status of user errors, 2."""
    sys.stderr.write(f"error: {message}\n")
    return 2


def run_entry_point(
    function: Callable[[], int | None], interrupted: str, extra: str | None = None
) -> int:
    """Run the main function of a script; report user errors in one line on stderr.

    Args:
        function: main function; returns the exit status, None for 0.
        interrupted: message after Ctrl-C.
        extra: extra of the package with the dependencies of the script, such as ``"train"``.

    Returns:
        The status returned by ``function``; 2 after a VHeatIRError, if a file cannot be read or
        written, or if a dependency is not installed, 130 after Ctrl-C.
    """
    try:
        return function() or 0
    except VHeatIRError as error:
        return report_error(error)
    except KeyboardInterrupt:
        sys.stderr.write(f"interrupted: {interrupted}\n")
        return 130
    except OSError as error:  # a file in place of a folder, or no permission
        if error.filename is None:
            raise
        return report_error(
            f"{error.filename} cannot be read or written ({error.strerror}): "
            "give another path, or change its permissions"
        )
    except ModuleNotFoundError as error:
        if extra is None or error.name is None or error.name.split(".")[0] == "vheatir":
            raise  # no package that the user could install
        remedy = f"pip install 'vheatir[{extra}]'"
        return report_error(f"the package {error.name!r} is not installed: {remedy}")


if __name__ == "__main__":
    sys.exit(main())
