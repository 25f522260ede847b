"""The BasicSR model that trains a restoration network."""

from __future__ import annotations

import contextlib
import copy
import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.archs.blocks import ResidualConvBlock
from vheatir.archs.checkpointing import checkpoint_blocks
from vheatir.errors import VHeatIRError
from vheatir.hardware import tf32_products
from vheatir.training.compat import import_basicsr
from vheatir.training.distributed import Processes
from vheatir.training.precision import autocast_dtype
from vheatir.training.schema import Options
from vheatir.weights import read_state_dict

import_basicsr()

from basicsr.losses import build_loss  # noqa: E402
from basicsr.models.base_model import BaseModel  # noqa: E402
from basicsr.utils.registry import MODEL_REGISTRY  # noqa: E402

log = logging.getLogger("vheatir")


@MODEL_REGISTRY.register()
class RestorationModel(BaseModel):
    """Network, its moving average, optimiser and loss.

    BasicSR's names are kept (``feed_data``, ``optimize_parameters``, ``net_g``, ``net_g_ema``);
    saving and the learning rate belong to :mod:`vheatir.training`.

    Args:
        opt: ``options`` (:class:`Options`), ``device`` (torch.device), ``processes``
            (:class:`Processes`), ``network_g`` (the network's configuration).
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        # BaseModel's constructor only reads flags and would pick CUDA by itself.
        self.opt = opt
        self.options: Options = opt["options"]
        self.device: torch.device = opt["device"]
        self.processes: Processes = opt["processes"]
        self.is_train = True
        train = self.options.train
        self.memory_format = torch.channels_last if train.channels_last else torch.contiguous_format
        net = build_network(opt["network_g"]).to(memory_format=self.memory_format)
        self.net_g = net.to(self.device)
        self.load_pretrained()
        self.net_g_ema = copy.deepcopy(self.net_g).eval().requires_grad_(False)
        self.autocast = autocast_dtype(train.precision, self.device)
        self.loss: nn.Module = build_loss(self._loss_options()).to(self.device)
        self.optimizer = self._build_optimizer()
        self.forward = self._wrap(self.net_g)
        self.log_dict: OrderedDict[str, float] = OrderedDict()
        # Walking through the modules at every iteration would cost more than a small step.
        self._weights: list[Tensor] = list(self.net_g.parameters())
        self._averages: list[Tensor] = list(self.net_g_ema.parameters())

    def load_pretrained(self) -> None:
        """Load ``path: pretrain_network_g``, if the options name one.

        Where not every weight must match, a network may have more blocks than the file: they start
        as the identity, so that it begins as good as the smaller one (Net2Net, arXiv 1511.05641).
        """
        path = self.options.path.pretrain_network_g
        if path is None:
            return
        state = read_state_dict(Path(path))
        strict = self.options.path.strict_load_g
        own = self.net_g.state_dict()
        wrong = [k for k in own if k not in state or state[k].shape != own[k].shape]
        extra = [k for k in state if k not in own]
        if strict and (wrong or extra):
            raise VHeatIRError(
                f"{path} does not fit network_g: {len(wrong)} weights missing or of another shape, "
                f"{len(extra)} unknown (first: {_difference(state, own, (wrong or extra)[0])}); "
                "give fitting weights or set path:strict_load_g=false"
            )
        fitting = {k: v for k, v in state.items() if k in own and k not in wrong}
        if not fitting:
            raise VHeatIRError(
                f"{path} does not fit network_g: no weight of it is of the right name and shape "
                f"(first: {_difference(state, own, wrong[0])}); give weights of a similar network"
            )
        if not all(torch.isfinite(value).all() for value in fitting.values()):
            raise VHeatIRError(f"{path} holds infinite or NaN weights: give others")
        self.net_g.load_state_dict(fitting, strict=False)
        new = [
            part
            for name, part in self.net_g.named_modules()
            if isinstance(part, ResidualConvBlock)
            and not any(k.startswith(f"{name}.") for k in state)
        ]
        for block in new:
            block.start_as_identity()
        log.info("%d of %d weights start from %s", len(fitting), len(own), path)
        if new:
            log.info("%d blocks that it does not have start as the identity", len(new))

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: ``lq`` and ``gt`` (uint8, or float32 in [0, 1]) and ``level`` (B,)."""
        self.lq = self._image(data["lq"])
        self.gt = self._image(data["gt"])
        self.level: Tensor | None = None
        if self.net_g.takes_level:
            self.level = data["level"].to(self.device, non_blocking=True)

    def accumulate_gradients(self, share: float = 1.0, last: bool = True) -> Tensor:
        """Run forward and backward on the batch; returns its loss, detached.

        Args:
            share: weight of this batch in the iteration's gradient.
            last: whether the step follows; only then do processes exchange gradients.
        """
        alone = self.processes.count == 1
        exchange = contextlib.nullcontext() if alone or last else self.forward.no_sync()
        with exchange, tf32_products(self.device, self.autocast):
            if self._in_graphs:
                torch.compiler.cudagraph_mark_step_begin()
            enabled = self.autocast is not None
            with torch.autocast(self.device.type, dtype=self.autocast, enabled=enabled):
                output = self.forward(self.lq, self.level)
            loss = self.loss(output.float(), self.gt)
            (loss if share == 1 else loss * share).backward()
        return loss.detach()

    def can_step(self, loss: Tensor) -> bool:
        """Tell whether an iteration's loss and gradients are finite, in every process."""
        parts = [loss, *(p.grad for p in self._weights if p.grad is not None)]
        sound = torch.stack([part.isfinite().all() for part in parts]).all()
        return not self.processes.any(not bool(sound), self.device)

    def drop_gradients(self) -> None:
        """Forget what an unfinished iteration has accumulated."""
        self.optimizer.zero_grad(set_to_none=True)

    def step(self, learning_rate: float, iteration: int) -> None:
        """Clip, step the optimiser and move the average.

        Args:
            learning_rate: of this step.
            iteration: steps made before.
        """
        train = self.options.train
        if train.grad_clip is not None:
            nn.utils.clip_grad_norm_(self._weights, train.grad_clip)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # The average's memory grows with the run, so that a short one is not held by its start.
        decay = min(train.ema_decay, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            torch._foreach_lerp_(self._averages, self._weights, 1.0 - decay)

    def unsound(self) -> str | None:
        """Name a weight, average or optimiser state that is not finite; None if all are."""
        tensors: dict[str, Tensor] = dict(self.net_g.named_parameters())
        tensors |= {f"average of {n}": value for n, value in self.net_g_ema.named_parameters()}
        names = {id(value): name for name, value in self.net_g.named_parameters()}
        for parameter, state in self.optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    tensors[f"{key} of {names[id(parameter)]}"] = value.to(self.device)
        with torch.no_grad():
            sound = torch.stack([value.isfinite().all() for value in tensors.values()])
        wrong = [name for name, fine in zip(tensors, sound.tolist(), strict=True) if not fine]
        return wrong[0] if wrong else None

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, for a checkpoint."""
        return {
            "network": self.net_g.state_dict(),
            "ema": self.net_g_ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self.net_g.load_state_dict(state["network"])
        self.net_g_ema.load_state_dict(state["ema"])
        self.optimizer.load_state_dict(state["optimizer"])

    def _image(self, image: Tensor) -> Tensor:
        image = image.to(self.device, non_blocking=True)
        image = image.float() / 255 if image.dtype == torch.uint8 else image
        return image.contiguous(memory_format=self.memory_format)

    def _wrap(self, net: nn.Module) -> Any:
        """Return the network as training calls it: compiled, distributed."""
        mode = self.options.train.compile
        if self.options.train.checkpointing:
            checkpoint_blocks(net)
        self._in_graphs = self.device.type == "cuda" and mode in ("reduce-overhead", "max-autotune")
        if mode:
            # In place: the wrapper of torch.compile(net) would rename the weights.
            net.compile(mode=None if mode is True else mode)
        unused = self.options.find_unused_parameters
        return self.processes.wrap(net, self.device, unused)

    def _loss_options(self) -> dict[str, Any]:
        options = self.options.train.pixel_opt.model_dump()
        if options["type"] != "CharbonnierLoss":
            del options["eps"]
        return options

    def _build_optimizer(self) -> torch.optim.Optimizer:
        options = self.options.train.optim_g.model_dump()
        kind = getattr(torch.optim, options.pop("type"))
        fused = self.device.type == "cuda" and kind in (torch.optim.Adam, torch.optim.AdamW)
        if fused:
            options["fused"] = True
        # Weight decay pulls on weights that multiply, not on biases, norms or frequencies.
        decayed = [p for n, p in self.net_g.named_parameters() if p.ndim >= 2 and not _is_heat(n)]
        kept = {id(p) for p in decayed}
        others = [p for p in self.net_g.parameters() if id(p) not in kept]
        groups = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
        return kind(groups, **options)


def _difference(state: Mapping[str, Tensor], own: Mapping[str, Tensor], name: str) -> str:
    there, here = ((list(d[name].shape) if name in d else "missing") for d in (state, own))
    return f"{name} is {there} there, {here} here"


def _is_heat(name: str) -> bool:
    return name.rpartition(".")[2] in ("fve", "log_k", "log_lambda", "gain")
