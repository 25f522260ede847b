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
            there = torch.cuda.device_count()
            if self.local_rank >= there:
                raise VHeatIRError(
                    f"process {self.local_rank} of this machine finds {there} GPU(s): start "
                    f"torchrun with --nproc_per_node={there} at most, or set device=cpu"
                )
            torch.cuda.set_device(self.local_rank)
            return torch.device("cuda", self.local_rank)
        if device.type == "mps" and self.count > 1:
            raise VHeatIRError(
                "several processes train on CUDA or on the CPU, not on MPS: set device=cpu"
            )
        return device

    def wrap(self, net: nn.Module, device: torch.device, find_unused: bool = False) -> Any:
        """Return the network with its gradients averaged over the processes.

        Args:
            net: the network.
            device: where it lies.
            find_unused: expect weights that take no part in an iteration.
        """
        if self.count == 1:
            return net
        ids = [device.index] if device.type == "cuda" else None
        return nn.parallel.DistributedDataParallel(
            net, device_ids=ids, find_unused_parameters=find_unused
        )

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """Return the mean of a value over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
            value = value / self.count
        return value

    def agree(self, flag: bool, minutes: float, device: torch.device) -> tuple[bool, float]:
        """Tell every process whether any of them says yes, and the mean of their clocks."""
        if self.count == 1:
            return flag, minutes
        votes = torch.tensor([float(flag), minutes], device=device)
        dist.all_reduce(votes)
        yes, total = votes.tolist()
        return yes > 0, total / self.count

    def any(self, flag: bool, device: torch.device) -> bool:
        """Tell every process whether any of them says yes."""
        return self.agree(flag, 0.0, device)[0]

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
    if backend == "nccl" and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    # The others wait while one process validates; torchrun notices a dead process by itself.
    dist.init_process_group(backend, timeout=timedelta(hours=2))
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))


def is_lost_process(error: BaseException) -> bool:
    """Tell whether an error comes from another process of the run that is gone."""
    if isinstance(error, dist.DistError):
        return True
    # gloo has no exception of its own
    return isinstance(error, RuntimeError) and any(
        word in str(error) for word in ("gloo", "by peer", "Broken pipe", "Connection refused")
    )


def stop_processes() -> None:
    """Leave the group of processes, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
