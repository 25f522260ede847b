"""Choose the autocast dtype of a training run."""

from __future__ import annotations

import torch

from vheatir.hardware import has_native_bf16


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
