"""One process or several: what torchrun sets up, without a GPU needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from vheatir.errors import VHeatIRError


@dataclass(frozen=True)
class Processes:
    """The processes of a run.

    Attributes:
        rank: this process, 0 to ``count - 1``.
        count: number of processes.
        local_rank: this process on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process logs, validates and saves."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Return this process's device: its own GPU where there are several."""
        if device.type == "cuda" and device.index is None:
            index = self.local_rank % torch.cuda.device_count()
            torch.cuda.set_device(index)
            return torch.device("cuda", index)
        return device

    def wrap(self, net: nn.Module, device: torch.device) -> Any:
        """Return the network with its gradients averaged over the processes."""
        if self.count == 1:
            return net
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(net, device_ids=ids)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a value over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
            value = value / self.count
        return value

    def any(self, flag: bool, device: torch.device) -> bool:
        """Tell every process whether any of them says yes."""
        if self.count == 1:
            return flag
        vote = torch.tensor(float(flag), device=device)
        dist.all_reduce(vote)
        return bool(vote > 0)

    def barrier(self) -> None:
        """Wait for every process."""
        if self.count > 1:
            dist.barrier()


def start_processes(launcher: str, backend: str = "auto", device: str = "auto") -> Processes:
    """Join the processes that the launcher started.

    Args:
        launcher: ``"none"``, or ``"pytorch"`` for torchrun.
        backend: ``"auto"`` takes nccl where CUDA is used and gloo elsewhere.
        device: the option file's device.

    Raises:
        VHeatIRError: ``"pytorch"`` without torchrun's environment.
    """
    if launcher == "none":
        return Processes()
    if "RANK" not in os.environ:
        raise VHeatIRError(
            "--launcher pytorch needs torchrun: "
            "torchrun --nproc_per_node=2 vheatir/train.py -opt FILE --launcher pytorch"
        )
    if backend == "auto":
        on_gpu = device in ("auto", "cuda") and torch.cuda.is_available()
        backend = "nccl" if on_gpu else "gloo"
    dist.init_process_group(backend, timeout=timedelta(minutes=10))
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))


def stop_processes() -> None:
    """Leave the group of processes, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
