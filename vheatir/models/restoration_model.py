"""The BasicSR model that trains a restoration network."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vheatir.archs import build_network
from vheatir.errors import VHeatIRError
from vheatir.training.compat import import_basicsr
from vheatir.training.distributed import Processes
from vheatir.training.precision import autocast_dtype
from vheatir.training.schema import Options
from vheatir.weights import read_state_dict

import_basicsr()

from basicsr.losses import build_loss  # noqa: E402
from basicsr.models.base_model import BaseModel  # noqa: E402
from basicsr.utils.registry import MODEL_REGISTRY  # noqa: E402


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
        net = build_network(opt["network_g"]).to(self.device, memory_format=self.memory_format)
        self.net_g = net
        self.load_pretrained()
        self.net_g_ema = copy.deepcopy(self.net_g).eval().requires_grad_(False)
        self.autocast = autocast_dtype(train.precision, self.device)
        self.loss: nn.Module = build_loss(self._loss_options()).to(self.device)
        self.optimizer = self._build_optimizer()
        self.forward = self._wrap(self.net_g)
        self.log_dict: OrderedDict[str, float] = OrderedDict()

    def load_pretrained(self) -> None:
        """Load ``path: pretrain_network_g``, if the options name one."""
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
                f"{path} does not fit network_g: {len(wrong)} weights missing or of another shape "
                f"(first: {(wrong or extra)[0]}), {len(extra)} unknown; "
                "give fitting weights or set path:strict_load_g=false"
            )
        fitting = {k: v for k, v in state.items() if k in own and k not in wrong}
        self.net_g.load_state_dict(fitting, strict=False)

    def feed_data(self, data: Mapping[str, Any]) -> None:
        """Take a batch: ``lq`` and ``gt`` (uint8, or float32 in [0, 1]) and ``level`` (B,)."""
        self.lq = self._image(data["lq"])
        self.gt = self._image(data["gt"])
        self.level: Tensor | None = None
        if self.net_g.takes_level:
            self.level = data["level"].to(self.device, non_blocking=True)

    def accumulate_gradients(self, share: float = 1.0) -> Tensor:
        """Run forward and backward on the batch; returns its loss, detached.

        Args:
            share: weight of this batch in the iteration's gradient.
        """
        enabled = self.autocast is not None
        with torch.autocast(self.device.type, dtype=self.autocast, enabled=enabled):
            output = self.forward(self.lq, self.level)
        loss = self.loss(output.float(), self.gt)
        (loss * share).backward()
        return loss.detach()

    def step(self, learning_rate: float, iteration: int) -> Tensor:
        """Clip, step the optimiser and move the average.

        Args:
            learning_rate: of this step.
            iteration: steps made before.

        Returns:
            The gradient's norm before clipping.
        """
        train = self.options.train
        limit = train.grad_clip if train.grad_clip is not None else float("inf")
        norm = nn.utils.clip_grad_norm_(self.net_g.parameters(), limit)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        # The average's memory grows with the run, so that a short one is not held by its start.
        decay = min(train.ema_decay, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.net_g_ema.parameters()), list(self.net_g.parameters()), 1.0 - decay
            )
        return norm

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
        if self.options.train.compile:
            net = torch.compile(net)  # type: ignore[assignment]
        return self.processes.wrap(net, self.device)

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


def _is_heat(name: str) -> bool:
    return name.rpartition(".")[2] in ("fve", "log_k", "log_lambda")
