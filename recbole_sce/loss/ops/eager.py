"""Functions that torch.compile leaves as they are, and that are differentiated once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch


def never_compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` for models that may be compiled: torch.compile calls it and does not trace it.

    ``torch.compiler.disable`` does the same. It imports ``torch._dynamo``, which takes seconds: this happens
    only once something is compiled.
    """

    @functools.wraps(function)
    def call(*arguments: Any) -> Any:
        if torch.compiler.is_compiling():
            return torch.compiler.disable(function)(*arguments)  # type: ignore[no-untyped-call]
        return function(*arguments)

    return call


def refuse_second_gradient(name: str, its: str = "its") -> None:
    """Refuse, in the backward of a function, that its gradient be recorded; ``name`` is the loss.

    Raises:
        RuntimeError: it would be.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{name} can be differentiated once only: {its} gradient has no graph of its own, so "
            "create_graph=True and gradients of gradients are not possible"
        )
