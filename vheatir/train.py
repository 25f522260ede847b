"""Train a network from an option file: ``python vheatir/train.py -opt options/FILE.yml``."""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":
    # A script's own folder would shadow other modules; the project's root takes its place.
    sys.path[0] = str(Path(__file__).resolve().parents[1])

import argparse
import logging
from collections.abc import Sequence

from vheatir.errors import VHeatIRError

log = logging.getLogger("vheatir")


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="vheatir train", description="Train a restoration network from an option file."
    )
    parser.add_argument("-opt", required=True, metavar="FILE", help="option file (YAML)")
    parser.add_argument(
        "--launcher", choices=("none", "pytorch"), default="none", help="pytorch: under torchrun"
    )
    parser.add_argument(
        "--auto_resume", action="store_true", help="continue from the newest complete state"
    )
    parser.add_argument(
        "--force_yml",
        nargs="+",
        default=[],
        metavar="A:B=V",
        help="options to override, such as train:total_iter=1000",
    )
    parser.add_argument("--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """Train; returns the exit status."""
    arguments = parse_arguments(argv)
    try:
        return train(arguments)
    except VHeatIRError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2


def train(arguments: argparse.Namespace) -> int:
    """Run the option file that the arguments name; returns the exit status.

    Raises:
        VHeatIRError: anything the user can mend.
    """
    from vheatir.training.compat import import_basicsr
    from vheatir.training.options import load_options

    options = load_options(arguments.opt, arguments.force_yml)
    import_basicsr()
    from vheatir.training.distributed import start_processes, stop_processes
    from vheatir.training.experiment import Experiment, log_to_console
    from vheatir.training.loop import Interrupted, Trainer
    from vheatir.training.report import write_report

    processes = start_processes(
        arguments.launcher, options.dist_params.backend, options.device
    )
    log_to_console(processes.is_main)
    experiment = Experiment(options, processes.is_main)
    resuming = arguments.auto_resume or options.path.resume_state is not None
    try:
        trainer = Trainer(options, experiment, processes)
        experiment.open(resuming)
        processes.barrier()
        if resuming:
            state = options.path.resume_state
            trainer.resume(Path(state) if state else None)
        parameters = sum(p.numel() for p in trainer.model.net_g.parameters())
        log.info(
            "%s: %s, %.2f M parameters, %d images, on %s in %s",
            options.name, options.network_g.type, parameters / 1e6, len(trainer.feed.source),
            trainer.device, trainer.model.autocast or "float32",
        )  # fmt: skip
        try:
            trainer.run()
        except Interrupted:
            log.warning(
                "interrupted at iteration %d; everything is saved. Continue with: "
                "python vheatir/train.py -opt %s --auto_resume",
                trainer.iteration,
                " ".join([arguments.opt, *_again(arguments.force_yml)]),
            )
            return 130
        if processes.is_main:
            weights = trainer.export(experiment.models / f"{options.name}.safetensors")
            log.info("weights: %s", weights)
            for path in write_report(trainer):
                log.info("wrote %s", path)
        return 0
    finally:
        experiment.close()
        stop_processes()


def _again(force: Sequence[str]) -> list[str]:
    return ["--force_yml", *force] if force else []


if __name__ == "__main__":
    sys.exit(main())
