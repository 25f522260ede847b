"""Errors of distributed training; tests/reliability checks that it is correct."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch

if importlib.util.find_spec("basicsr") is None:
    pytest.skip("training needs basicsr", allow_module_level=True)

from vheatir.errors import VHeatIRError
from vheatir.training import loop
from vheatir.training.distributed import Processes
from vheatir.training.experiment import Experiment
from vheatir.training.options import load_options


@dataclass(frozen=True)
class OneDies(Processes):
    """Two equal processes, of which the other one dies before an exchange.

    Attributes:
        at: number of that exchange, from 1.
        exchanged: the exchanges so far.
    """

    count: int = 2
    at: int = 0
    exchanged: list[str] = field(default_factory=list)

    def wrap(self, net: torch.nn.Module, find_unused: bool = False) -> Any:
        return net

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        self._exchange("mean")
        return value

    def barrier(self) -> None:
        self._exchange("barrier")

    def _exchange(self, kind: str) -> None:
        self.exchanged.append(kind)
        if len(self.exchanged) == self.at:
            raise RuntimeError("[gloo] Connection closed by peer")


def test_a_process_that_dies_at_any_exchange_costs_no_complete_iteration(
    tiny: Any, restored_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_SYNC_EVERY", 2)
    force = ("train:skip_nonfinite=true", "train:total_iter=3", "val:val_freq=2",
             "logger:save_checkpoint_freq=100")  # fmt: skip

    def train(at: int) -> tuple[OneDies, loop.Trainer]:
        processes = OneDies(at=at)
        options = load_options(tiny.file, tiny.arguments(*force, root=str(at))[3:])
        experiment = Experiment(options)
        experiment.open(resuming=False)
        trainer = loop.Trainer(options, experiment, processes)
        try:
            trainer.run()
        except VHeatIRError as error:
            assert "another process of this run has ended" in str(error)
        experiment.close()
        return processes, trainer

    whole, straight = train(0)
    # in each iteration whether to step and the loss; once the clocks; two validations
    assert len(whole.exchanged) == 3 * 2 + 1 + 2
    for at in range(1, len(whole.exchanged) + 1):
        processes, trainer = train(at)
        assert len(processes.exchanged) == at
        done = trainer.iteration
        saved = tiny.state(done, str(at))
        assert [[row[0], row[2]] for row in saved["losses"]] == [
            [row[0], row[2]] for row in straight.losses[:done]
        ]
        assert [row[0] for row in saved["scores"]] == [at for at in (2, 3) if at <= done]
        assert saved["samples_seen"] == 2 * 2 * done


def test_launcher_without_torchrun_is_reported(
    tiny: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from vheatir.train import main

    monkeypatch.delenv("RANK", raising=False)
    assert main([*tiny.arguments(), "--launcher", "pytorch"]) == 2
    assert "needs torchrun" in capfd.readouterr().err


def test_several_processes_of_torchrun_need_the_launcher(
    tiny: Any, capfd: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without it, each of them would train alone, in the same folder."""
    from vheatir.train import main

    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main(tiny.arguments()) == 2
    assert "--launcher pytorch is missing" in capfd.readouterr().err


def test_processes_draw_random_numbers_of_their_own(tiny: Any) -> None:
    def draw(rank: int) -> list[float]:
        options = load_options(tiny.file, tiny.arguments(root="drawn")[3:])
        loop.Trainer(options, Experiment(options), OneDies(rank=rank))
        return torch.rand(3).tolist()

    first, second, third = draw(0), draw(1), draw(2)
    assert first != second != third != first
    assert draw(1) == second
