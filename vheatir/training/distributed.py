"""Single-process and distributed (torchrun) training, on GPUs or the CPU."""

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
    """The processes of a training run.

    Attributes:
        rank: rank of this process, 0 to ``count - 1``.
        count: number of processes.
        local_rank: rank of this process on its machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process logs, validates and saves."""
        return self.rank == 0

    def device(self, device: torch.device) -> torch.device:
        """Return the device of this process: for CUDA, the GPU of its local rank.

        Raises:
            VHeatIRError: fewer GPUs than processes, or several processes on MPS.
        """
        if device.type == "cuda" and device.index is None:
            available = torch.cuda.device_count()
            if self.local_rank >= available:
                raise VHeatIRError(
                    f"local rank {self.local_rank}: this machine has {available} GPU(s): start "
                    f"torchrun with --nproc_per_node={available} at most, or set device=cpu"
                )
            torch.cuda.set_device(self.local_rank)
            return torch.device("cuda", self.local_rank)
        if device.type == "mps" and self.count > 1:
            raise VHeatIRError(
                "distributed training runs on CUDA or the CPU, not on MPS: set device=cpu"
            )
        return device

    def wrap(self, net: nn.Module, find_unused: bool = False) -> Any:
        """Wrap the network in DistributedDataParallel if there are several processes.

        Args:
            net: the network.
            find_unused: allow parameters that get no gradient in an iteration.
        """
        if self.count == 1:
            return net
        return nn.parallel.DistributedDataParallel(net, find_unused_parameters=find_unused)

    def mean(self, value: torch.Tensor) -> torch.Tensor:
        """All-reduce a value to its mean over the processes."""
        if self.count > 1:
            dist.all_reduce(value)
            value = value / self.count
        return value

    def agree(self, flag: bool, minutes: float, device: torch.device) -> tuple[bool, float]:
        """All-reduce a flag (OR) and the elapsed minutes (mean)."""
        if self.count == 1:
            return flag, minutes
        share, mean = self.mean(torch.tensor([float(flag), minutes], device=device)).tolist()
        return share > 0, mean

    def from_main(self, value: Any) -> Any:
        """Return the value that the main process passes."""
        if self.count == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values)
        return values[0]

    def barrier(self) -> None:
        """Wait until all processes get here."""
        if self.count > 1:
            dist.barrier()


def start_processes(launcher: str, backend: str = "auto", device: str = "auto") -> Processes:
    """Join the process group of the launcher.

    Args:
        launcher: ``"none"``, or ``"pytorch"`` for torchrun.
        backend: ``"auto"`` is nccl on CUDA and gloo otherwise.
        device: the ``device`` of the option file.

    Raises:
        VHeatIRError: ``"pytorch"`` without torchrun's environment, or ``"none"`` in one of several
            processes of torchrun.
    """
    if launcher == "none":
        # Each process would train by itself, all in the same experiment folder.
        if "TORCHELASTIC_RUN_ID" in os.environ and int(os.environ.get("WORLD_SIZE", 1)) > 1:
            raise VHeatIRError(
                "torchrun started several processes, but --launcher pytorch is missing: add it"
            )
        return Processes()
    if "RANK" not in os.environ:
        raise VHeatIRError(
            "--launcher pytorch needs torchrun: "
            "torchrun --nproc_per_node=2 vheatir/train.py -opt FILE --launcher pytorch"
        )
    if backend == "auto":
        backend = "nccl" if device in ("auto", "cuda") and torch.cuda.is_available() else "gloo"
    if backend == "nccl" and torch.cuda.is_available():
        # before anything is put on a GPU, so that not every process has a context on the first
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
    # Other ranks wait while rank 0 validates; torchrun detects dead processes itself.
    dist.init_process_group(backend, timeout=timedelta(hours=2))
    return Processes(dist.get_rank(), dist.get_world_size(), int(os.environ["LOCAL_RANK"]))


def is_lost_process(error: BaseException) -> bool:
    """Whether an error was caused by the loss of another process of the run."""
    if isinstance(error, dist.DistError):
        return True
    # gloo raises plain RuntimeErrors
    return isinstance(error, RuntimeError) and any(
        part in str(error) for part in ("gloo", "by peer", "Broken pipe", "Connection refused")
    )


def stop_processes() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
