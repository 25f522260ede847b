"""Train a network from an option file: ``python vheatir/train.py -opt options/FILE.yml``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ in ("__main__", "__mp_main__"):
    # Run as a script from a clone, or a process spawned by it: see vheatir/_paths.py.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    from vheatir import _paths

    _paths.hide_own_folders()

import argparse
import logging
import os
import shlex
from collections.abc import Sequence

from vheatir.cli import add_import_option, run_entry_point
from vheatir.errors import VHeatIRError

log = logging.getLogger("vheatir")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir train", description="Train a restoration network from an option file."
    )
    add = parser.add_argument
    add("-opt", required=True, metavar="FILE", help="option file (YAML)")
    add("--launcher", choices=("none", "pytorch"), default="none", help="pytorch: under torchrun")
    add("--auto_resume", action="store_true", help="continue from the newest complete state")
    add(
        "--force_yml",
        nargs="+",
        default=[],
        metavar="A:B=V",
        help="options to override, such as train:total_iter=1000",
    )
    add_import_option(parser, "networks or losses, as the option 'imports' does")
    add("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Train; return the exit status."""
    arguments = parse_arguments(argv)
    advice = f"earlier training states are kept; continue with: {resume_command(arguments)}"
    return run_entry_point(lambda: train(arguments), advice, extra="train")


def train(arguments: argparse.Namespace) -> int:
    """Train from the option file given; return the exit status.

    Raises:
        VHeatIRError: any problem that the user can solve.
    """
    from vheatir.basicsr_import import import_basicsr
    from vheatir.training.options import load_options

    options = load_options(arguments.opt, arguments.force_yml, arguments.imports)
    import_basicsr()
    from vheatir.training.distributed import start_processes, stop_processes
    from vheatir.training.experiment import Experiment, log_to_console
    from vheatir.training.loop import Trainer
    from vheatir.training.report import write_report
    from vheatir.training.stopping import Interrupted

    processes = start_processes(arguments.launcher, options.dist_params.backend, options.device)
    log_to_console(processes.is_main)
    experiment = None
    resuming = arguments.auto_resume or options.path.resume_state is not None
    try:
        experiment = Experiment(options, processes.is_main)
        trainer = Trainer(options, experiment, processes)
        experiment.open(resuming)
        processes.barrier()
        if resuming:
            trainer.resume(auto=arguments.auto_resume)
        experiment.write_options()
        if trainer.validator is not None:
            trainer.validator.warn_of_training_images(trainer.feed.image_names)
        if options.ignored:
            log.info("ignored, without a meaning here: %s", ", ".join(options.ignored))
        if options.print_network:
            log.info("%s", trainer.model.net_g)
        parameters = sum(p.numel() for p in trainer.model.net_g.parameters())
        log.info(
            "%s: %s, %.2f M parameters, %d images, on %s in %s",
            options.name, options.network_g.type, parameters / 1e6, trainer.feed.images,
            trainer.device, trainer.model.autocast or "float32",
        )  # fmt: skip
        try:
            trainer.run()
        except Interrupted as stop:
            log.warning("interrupted at iteration %d; everything is saved", trainer.iteration)
            if processes.is_main:
                # not logged: the log handler would wrap a long line
                sys.stderr.write(f"continue with: {resume_command(arguments)}\n")
            return 128 + stop.number
        if processes.is_main:
            weights = trainer.export(experiment.weights)
            log.info("weights: %s", weights)
            for path in write_report(trainer):
                log.info("wrote %s", path)
        return 0
    except OSError as error:
        where = error.filename or (experiment.root if experiment else "the experiment")
        raise VHeatIRError(
            f"{where} could not be read or written ({error.strerror or error}): free some space "
            "or repair it, and continue with --auto_resume"
        ) from error
    finally:
        if experiment is not None:
            experiment.close()
        stop_processes()


def resume_command(arguments: argparse.Namespace) -> str:
    """Return the command that continues a run from the same working directory."""
    script = sys.argv[0] if Path(sys.argv[0]).name == Path(__file__).name else None
    if arguments.launcher == "pytorch":
        count = os.environ.get("LOCAL_WORLD_SIZE", "1")
        command = ["torchrun", f"--nproc_per_node={count}", script or str(Path(__file__))]
    else:
        command = ["python", script] if script else ["vheatir", "train"]
    command += ["-opt", arguments.opt, "--auto_resume"]
    if arguments.launcher != "none":
        command += ["--launcher", arguments.launcher]
    for name in arguments.imports:
        command += ["--import", name]
    if arguments.force_yml:
        command += ["--force_yml", *arguments.force_yml]
    return shlex.join(command)


if __name__ == "__main__":
    sys.exit(main())
