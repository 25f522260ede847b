"""Measurements of the mixer study besides PSNR: speed, memory and receptive field."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from torch import Tensor, nn

from benchmarks.contenders import CONFIG, Case
from benchmarks.measure import interleaved
from studies.heat.candidates import Candidate
from studies.heat.runs import Study
from vheatir.image_io import write_bytes_atomically

if TYPE_CHECKING:
    from vheatir.training.model import RestorationModel

_ROUNDS = 8
_STEPS = 4
FIELD_SIDE = 256
ENERGY = 0.9


def measure_rates(study: Study, chosen: Sequence[Candidate], console: Console) -> dict[str, float]:
    """Measure iterations per second of CPU time, interleaved, and store them.

    New candidates are measured together with a known one and scaled by its rate, so that all rates
    refer to the first measurement.
    """
    file = study.out / "rates.json"
    condition = f"{study.task.name} {study.batch}x{study.crop}"
    known: dict[str, dict[str, float]] = json.loads(file.read_text()) if file.is_file() else {}
    rates = known.setdefault(condition, {})
    missing = [candidate for candidate in chosen if candidate.key not in rates]
    if missing:
        reference = [candidate for candidate in chosen if candidate.key in rates][:1]
        seconds = _step_seconds(study, [*reference, *missing], console)
        scale = rates[reference[0].key] * seconds[reference[0].key] if reference else 1.0
        for candidate in missing:
            rates[candidate.key] = scale / seconds[candidate.key]
        study.out.mkdir(parents=True, exist_ok=True)
        write_bytes_atomically(file, (json.dumps(known, indent=1) + "\n").encode())
    return {candidate.key: rates[candidate.key] for candidate in chosen}


def _step_seconds(study: Study, chosen: Sequence[Candidate], console: Console) -> dict[str, float]:
    """Return the CPU seconds of one iteration of each: median over interleaved rounds."""
    steps = _steps(study, chosen)
    times: dict[str, list[float]] = {key: [] for key in steps}
    for number in track(range(_ROUNDS + 1), "measuring speeds", console=console):
        for key, step in steps.items():
            start = time.process_time()
            for _ in range(_STEPS):
                step()
            if number > 0:  # the first warms up
                times[key].append((time.process_time() - start) / _STEPS)
    return {key: median(values) for key, values in times.items()}


def _steps(study: Study, chosen: Sequence[Candidate]) -> dict[str, Callable[[], None]]:
    """Return functions that run one training iteration each."""
    from vheatir.training.distributed import start_processes
    from vheatir.training.feed import TrainingFeed
    from vheatir.training.model import RestorationModel
    from vheatir.training.options import load_options

    device = torch.device("cpu")
    processes = start_processes("none", "auto", "cpu")
    feeds: dict[str, Iterator[dict[str, Any]]] = {}
    steps = {}
    for candidate in chosen:
        with TemporaryDirectory() as folder:
            file = Path(folder) / "options.yml"
            file.write_text(yaml.safe_dump(study.options(candidate, study.levels[0], 0, 1000)))
            options = load_options(str(file), [])
        own = candidate.options  # candidates with equal crops share one feed
        crops = json.dumps([own.get("datasets"), own.get("train", {}).get("stages")])
        if crops not in feeds:
            feed = TrainingFeed(options, device, processes)
            feeds[crops] = feed.batches(options.stages[-1], 0)
        torch.manual_seed(0)
        model = RestorationModel(options, device, processes)
        steps[candidate.key] = _one_step(model, feeds[crops])
    return steps


def _one_step(model: RestorationModel, batches: Iterator[dict[str, Any]]) -> Callable[[], None]:
    def step() -> None:
        model.accumulate_gradients(next(batches))
        model.step(1e-4, 1000)

    return step


def measure_networks(
    study: Study,
    chosen: Sequence[Candidate],
    sizes: Sequence[int],
    budget: float,
    swinir: bool,
    console: Console,
) -> dict[str, dict[str, Any]]:
    """Measure parameters, multiply-adds, inference time and peak memory, on one thread.

    Returns:
        By candidate key (and ``"swinir"``): ``params``, ``macs`` at the first size, and for each
        size ``seconds_N`` and ``peak_bytes_N``; None if over the budget.
    """
    file = study.out / "costs.json"
    costs: dict[str, dict[str, Any]] = json.loads(file.read_text()) if file.is_file() else {}
    wanted = {
        candidate.key: f"{CONFIG}studies.heat.mixers:{json.dumps(candidate.config(study.task))}"
        for candidate in chosen
    }
    if swinir:
        wanted["swinir"] = "swinir"
    columns = {f"seconds_{side}" for side in sizes}
    if all(columns <= costs.get(key, {}).keys() for key in wanted):
        return costs
    # all again, interleaved: times of different sessions are not comparable
    with console.status("timing the networks"):
        for side in sizes:
            cases = [Case(method, "light", side, side) for method in wanted.values()]
            for key, result in zip(wanted, interleaved(cases, 5, budget), strict=True):
                found = costs.setdefault(key, {})
                found[f"seconds_{side}"] = result.seconds or result.probe_seconds
                found[f"peak_bytes_{side}"] = result.peak_bytes
                if side == sizes[0]:
                    found["params"], found["macs"] = result.params, result.macs
    write_bytes_atomically(file, (json.dumps(costs, indent=1) + "\n").encode())
    return costs


def gradient_energy(network: nn.Module, images: Sequence[Tensor]) -> NDArray[np.float64]:
    """Return the mean energy of the gradient of the centre pixel with respect to the input.

    Args:
        network: a network without a level input.
        images: (1, C, S, S) in [0, 1], all of one size.

    Returns:
        (S, S), sums to 1: the effective receptive field (Luo et al., NeurIPS 2016).
    """
    total: NDArray[np.float64] | None = None
    for image in images:
        x = image.detach().clone().requires_grad_()
        y = network(x)
        row, column = y.shape[-2] // 2, y.shape[-1] // 2
        (gradient,) = torch.autograd.grad(y[..., row, column].sum(), x)
        energy = gradient.double().square().sum((0, 1)).numpy()
        total = energy if total is None else total + energy
    assert total is not None
    return total / total.sum()


def receptive_field(energy: NDArray[np.float64], share: float = ENERGY) -> float:
    """Return the radius in pixels around the centre that contains a share of the energy."""
    height, width = energy.shape
    rows, columns = np.ogrid[:height, :width]
    radius = np.hypot(rows - height // 2, columns - width // 2).ravel()
    order = np.argsort(radius, kind="stable")
    reached = np.cumsum(energy.ravel()[order])
    return float(radius[order][np.searchsorted(reached, share * reached[-1])])


def impulse_response(network: nn.Module, image: Tensor, amount: float = 0.1) -> NDArray[np.float64]:
    """Return how the output changes, (S, S), when the centre pixel becomes brighter by ``amount``.

    The energy of the difference over channels, as an amplitude in the image's units.
    """
    row, column = image.shape[-2] // 2, image.shape[-1] // 2
    with torch.no_grad():
        before = network(image)
        changed = image.clone()
        changed[..., row, column] += amount
        difference = (network(changed) - before).double()
    return difference.square().sum((0, 1)).sqrt().numpy() / amount
