"""The network in training, with the average of its weights, optimiser and loss."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vheatir.archs import FOREIGN, build_network, window_of
from vheatir.archs.blocks import ResidualConvBlock
from vheatir.archs.checkpointing import checkpoint_blocks
from vheatir.data.restoration_dataset import in_unit_range
from vheatir.errors import VHeatIRError, first_line
from vheatir.hardware import has_native_bf16, tf32_products
from vheatir.training.distributed import Processes
from vheatir.training.losses import build_pixel_loss
from vheatir.training.schema import Options
from vheatir.weights import read_state_dict

log = logging.getLogger("vheatir")


class RestorationModel:
    """Network, EMA of its weights, optimiser and loss.

    Names follow BasicSR (``net_g``, ``net_g_ema``).

    Args:
        options: options of the run.
        device: device of the network.
        processes: processes of the run.

    Raises:
        VHeatIRError: the weights to start from do not match the network or are not finite, or the
            network or the loss cannot be used.
    """

    def __init__(self, options: Options, device: torch.device, processes: Processes) -> None:
        self.options = options
        self.device = device
        self.processes = processes
        train = options.train
        self.memory_format = torch.channels_last if train.channels_last else torch.contiguous_format
        net = build_network(options.network_g.config()).to(memory_format=self.memory_format)
        self.net_g = net.to(device)
        if options.network_g.type in FOREIGN:
            self._check_foreign()
        self.load_pretrained()
        self.net_g_ema = copy.deepcopy(self.net_g).eval().requires_grad_(False)
        self.autocast = autocast_dtype(train.precision, device)
        size = options.datasets.train.gt_size
        loss = build_pixel_loss(train.pixel_opt.config(), options.task_info.channels, size)
        self.loss = loss.to(device)
        self.optimizer = self._build_optimizer()
        self.forward = self._wrap(self.net_g)
        # Cached: traversing the modules at every iteration takes longer than a small step.
        self._weights: list[Tensor] = list(self.net_g.parameters())
        self._ema_weights: list[Tensor] = list(self.net_g_ema.parameters())
        # Not averaged but copied, such as the running statistics of batch normalisation.
        self._buffers = list(self.net_g_ema.buffers()), list(self.net_g.buffers())

    def load_pretrained(self) -> None:
        """Load ``path: pretrain_network_g``, if given.

        With ``strict_load_g: false`` the network may have more blocks than the file. They are
        initialised as the identity, so that the deeper network starts at the quality of the
        shallower one (Net2Net, arXiv 1511.05641).

        Raises:
            VHeatIRError: the weights do not match the network or are not finite.
        """
        path = self.options.path.pretrain_network_g
        if path is None:
            return
        state = read_state_dict(Path(path), self.options.path.param_key_g)
        strict = self.options.path.strict_load_g
        own = self.net_g.state_dict()
        wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
        extra = [k for k in state if k not in own]
        if strict and (wrong or extra):
            first = _shape_mismatch(state, own, (wrong or extra)[0])
            raise VHeatIRError(
                f"{path} does not fit network_g: {len(wrong)} weights missing or of another shape, "
                f"{len(extra)} unknown (first: {first}); "
                "give matching weights or set path:strict_load_g=false"
            )
        fitting = {k: v for k, v in state.items() if k in own and k not in wrong}
        if not fitting:
            raise VHeatIRError(
                f"{path} does not fit network_g: no weight has a matching name and shape "
                f"(first: {_shape_mismatch(state, own, wrong[0])}); "
                "give weights of a similar network"
            )
        if not all(torch.isfinite(value).all() for value in fitting.values()):
            raise VHeatIRError(f"{path} contains infinite or NaN weights: give another file")
        self.net_g.load_state_dict(fitting, strict=False)
        new = [
            part
            for name, part in self.net_g.named_modules()
            if isinstance(part, ResidualConvBlock)
            and not any(k.startswith(f"{name}.") for k in state)
        ]
        for block in new:
            block.start_as_identity()
        log.info("%d of %d weights loaded from %s", len(fitting), len(own), path)
        if new:
            log.info("%d blocks missing there start as the identity", len(new))

    def accumulate_gradients(
        self, batch: Mapping[str, Any], share: float = 1.0, last: bool = True
    ) -> Tensor:
        """Run forward and backward on a batch; return the detached loss.

        Args:
            batch: ``lq`` and ``gt`` (B, C, H, W), uint8, or float32 in [0, 1]; ``level`` (B,).
            share: weight of this batch in the gradient of the iteration.
            last: whether this is the last batch before the optimiser step; only then are
                gradients all-reduced.
        """
        lq, gt, level = self.to_device(batch)
        synced = last or self.processes.count == 1
        synchronisation = contextlib.nullcontext() if synced else self.forward.no_sync()
        with synchronisation, tf32_products(self.device, self.autocast):
            if self._uses_cuda_graphs:
                torch.compiler.cudagraph_mark_step_begin()
            enabled = self.autocast is not None
            with torch.autocast(self.device.type, dtype=self.autocast, enabled=enabled):
                output = self.forward(lq) if level is None else self.forward(lq, level)
            loss = self.loss(output.float(), gt)
            (loss if share == 1 else loss * share).backward()
        return loss.detach()

    def to_device(self, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return ``lq`` and ``gt`` as float32 in [0, 1], and the level for a network that takes it.

        Args:
            batch: see :meth:`accumulate_gradients`.
        """
        takes_level = getattr(self.net_g, "takes_level", False)
        level = batch["level"].float().to(self.device) if takes_level else None
        return self._image(batch["lq"]), self._image(batch["gt"]), level

    def can_step(self, loss: Tensor) -> bool:
        """Whether loss and gradients of an iteration are finite in all processes."""
        parts = [loss, *(p.grad for p in self._weights if p.grad is not None)]
        finite = torch.stack([part.isfinite().all() for part in parts]).all()
        return not self.processes.agree(not bool(finite), 0.0, self.device)[0]

    def drop_gradients(self) -> None:
        """Discard the gradients and running statistics of an unfinished iteration."""
        self.optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            for last, current in zip(*self._buffers, strict=True):
                current.copy_(last)

    def step(self, learning_rate: float, iteration: int) -> None:
        """Clip the gradient, step the optimiser and update the EMA.

        Args:
            learning_rate: learning rate of this step.
            iteration: number of previous steps.
        """
        train = self.options.train
        if train.grad_clip is not None:
            nn.utils.clip_grad_norm_(self._weights, train.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # EMA warm-up, so that the initial weights do not dominate the average of a short run.
        decay = min(train.ema_decay, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            torch._foreach_lerp_(self._ema_weights, self._weights, 1.0 - decay)
            for average, current in zip(*self._buffers, strict=True):
                average.copy_(current)

    def unsound(self) -> str | None:
        """Return the name of a non-finite weight, buffer, average or optimiser state, or None."""
        tensors: dict[str, Tensor] = dict(self.net_g.state_dict())
        tensors |= {f"average of {n}": value for n, value in self.net_g_ema.state_dict().items()}
        names = {id(value): name for name, value in self.net_g.named_parameters()}
        for parameter, state in self.optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"{key} of {names[id(parameter)]}"] = value.to(self.device)
        with torch.no_grad():
            finite = torch.stack([value.isfinite().all() for value in tensors.values()])
        wrong = [name for name, ok in zip(tensors, finite.tolist(), strict=True) if not ok]
        return wrong[0] if wrong else None

    def state_dict(self) -> dict[str, Any]:
        """Return network, EMA and optimiser state for a checkpoint."""
        return {
            "network": self.net_g.state_dict(),
            "ema": self.net_g_ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load the result of :meth:`state_dict`.

        Raises:
            ValueError: it is that of another network.
        """
        weights, own = state["network"], self.net_g.state_dict()
        for name in {**own, **weights}:
            if not (name in weights and name in own and weights[name].shape == own[name].shape):
                raise ValueError(_shape_mismatch(weights, own, name))
        self.net_g.load_state_dict(weights)
        self.net_g_ema.load_state_dict(state["ema"])
        saved = state["optimizer"]
        # The options of this run may differ from those saved. They are set before loading: PyTorch
        # moves the step count to the device if they say fused.
        groups = [
            {**old, **{k: v for k, v in own.items() if k not in ("params", "lr")}}
            for old, own in zip(saved["param_groups"], self.optimizer.param_groups, strict=True)
        ]
        self.optimizer.load_state_dict({**saved, "param_groups": groups})

    def _image(self, image: Tensor) -> Tensor:
        image = in_unit_range(image.to(self.device, non_blocking=True))
        return image.contiguous(memory_format=self.memory_format)

    def _wrap(self, net: nn.Module) -> Any:
        """Set up checkpointing, compilation and DDP; return the module to call in training."""
        mode = self.options.train.compile
        if self.options.train.checkpointing:
            checkpoint_blocks(net)
        replays_graphs = mode in ("reduce-overhead", "max-autotune")
        self._uses_cuda_graphs = self.device.type == "cuda" and replays_graphs
        if mode:
            # In-place: the wrapper that torch.compile(net) returns would rename the weights.
            net.compile(mode=None if mode is True else mode)
        return self.processes.wrap(net, self.options.find_unused_parameters)

    def _check_foreign(self) -> None:
        """Check that a foreign network restores crops of every size; try the smallest.

        In evaluation, and as in training: some networks return more there.

        Raises:
            VHeatIRError: it does not, or has no weights to train.
        """
        options, net = self.options, self.net_g
        name, channels = options.network_g.type, options.task_info.channels
        window = window_of(net)
        sizes = [stage.gt_size for stage in options.stages]
        for size in sizes:
            if size % window:
                raise VHeatIRError(
                    f"gt_size {size} is no multiple of {window}, the window_size of network_g "
                    f"{name}: set it to {size - size % window or window}"
                )
        if options.train.checkpointing:
            raise VHeatIRError(
                f"train:checkpointing is for the networks of vHeatIR, not for {name}: leave it out"
            )
        batches = [stage.batch_size for stage in options.stages]
        net.train()  # its constructor may have left it in evaluation
        trial = copy.deepcopy(net)  # a pass in training changes running statistics
        devices = [self.device] if self.device.type == "cuda" else []
        for training, count in ((False, 1), (True, min(batches))):
            mode = " in training" if training else ""
            shape = (count, channels, min(sizes), min(sizes))
            try:
                with torch.random.fork_rng(devices), torch.set_grad_enabled(training):
                    output = trial.train(training)(torch.zeros(shape, device=self.device))
            except Exception as error:  # it may raise anything
                raise VHeatIRError(
                    f"network_g {name} cannot restore an image of shape {shape}{mode}: "
                    f"{first_line(error)}"
                ) from error
            found = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            if found != shape:
                raise VHeatIRError(
                    f"network_g {name} turns an image of shape {shape} into {found}{mode}: it must "
                    "return one image of the same shape (for networks of super-resolution: "
                    "upscale: 1)"
                )
        if not output.requires_grad:
            raise VHeatIRError(f"network_g {name} has no weights to train: give another network")

    def _build_optimizer(self) -> torch.optim.Optimizer:
        options = self.options.train.optim_g.model_dump()
        kind = getattr(torch.optim, options.pop("type"))
        if self.device.type == "cuda" and kind in (torch.optim.Adam, torch.optim.AdamW):
            options["fused"] = True
        # Weight decay on weight matrices only, not on biases, norms or heat parameters.
        decayed: list[Tensor] = []
        others: list[Tensor] = []
        for name, p in self.net_g.named_parameters():
            is_matrix = p.ndim >= 2 and not _is_heat_parameter(name)
            (decayed if is_matrix else others).append(p)
        return kind([{"params": decayed}, {"params": others, "weight_decay": 0.0}], **options)


def autocast_dtype(precision: str, device: torch.device) -> torch.dtype | None:
    """Return the autocast dtype, or None for plain float32.

    Args:
        precision: ``"float32"``, ``"bf16"`` or ``"auto"``: bf16 where the hardware multiplies it
            natively. A CPU without such units is up to eight times slower in bf16 than in float32.
        device: where training runs.
    """
    if precision == "bf16" or (precision == "auto" and has_native_bf16(device)):
        return torch.bfloat16
    return None


def _shape_mismatch(state: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str) -> str:
    there, here = ((list(d[name].shape) if name in d else "missing") for d in (state, own))
    return f"{name}: {there} in the file, {here} in network_g"


def _is_heat_parameter(name: str) -> bool:
    return name.rpartition(".")[2] in ("fve", "log_k", "log_lambda", "gain")
