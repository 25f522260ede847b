"""Definitions, and the faster versions that plug into them.

An operation is defined once, in plain PyTorch, and marked as :func:`accelerated`. A faster version
of it is a function of the same arguments, registered by :func:`speeds_up`. Every call tries it
first; where it returns None, the definition computes the result. Definitions thus know nothing of
their faster versions: :mod:`vheatir.ops.fast` and :mod:`vheatir.archs.fast` plug them in, when
their packages are imported.

While ``torch.export`` traces a network, the faster versions are left out. A definition that needs
another form there, since it branches on the image size, gets one by :func:`traced_as`; see
:mod:`vheatir.export.forms`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch
from torch import nn

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

#: Whether to try the faster versions; if not, the definitions compute everything.
FAST = True


def accelerated(definition: Callable[P, R]) -> Callable[P, R]:
    """Decorator of a function or method that faster versions may replace, call by call."""

    @wraps(definition)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_exporting():
            return call.traced(*args, **kwargs)  # type: ignore[attr-defined]
        result = call.fast(*args, **kwargs) if FAST else None  # type: ignore[attr-defined]
        return definition(*args, **kwargs) if result is None else result

    call.fast = lambda *args, **kwargs: None  # type: ignore[attr-defined]
    call.traced = definition  # type: ignore[attr-defined]
    return call


def speeds_up(operation: Callable[..., object]) -> Callable[[F], F]:
    """Decorator that registers a faster version of an :func:`accelerated` function or method.

    The version takes the same arguments. It returns None where it does not apply.
    """

    def register(fast: F) -> F:
        operation.fast = fast  # type: ignore[attr-defined]
        return fast

    return register


def traced_as(operation: Callable[..., object]) -> Callable[[F], F]:
    """Decorator that registers the form of an :func:`accelerated` function for ``torch.export``.

    It takes the same arguments and computes the same result, at any image size, without a branch.
    """

    def register(form: F) -> F:
        operation.traced = form  # type: ignore[attr-defined]
        return form

    return register


def infers(module: nn.Module) -> bool:
    """Whether ``module`` runs at inference, eagerly: its faster versions apply only then."""
    return not (torch.is_grad_enabled() or module.training or torch.compiler.is_compiling())
