"""What a callback may take part in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

CalculateLoss = Callable[[Any], Any]


class Callback:
    """Takes part in a training; a hook does nothing unless a derived class says more."""

    def fit(self) -> AbstractContextManager[None]:
        """Return what is entered around all epochs of a ``fit``."""
        return nullcontext()

    def epoch(self, epoch: int, n_steps: int) -> AbstractContextManager[None]:
        """Return what is entered around the ``n_steps`` steps of ``epoch`` (from 0)."""
        return nullcontext()

    def watched(self, calculate_loss: CalculateLoss) -> CalculateLoss:
        """Return what a step calls with its batch, in the place of ``calculate_loss``."""
        return calculate_loss

    def weights(self) -> AbstractContextManager[None]:
        """Return what is entered where the weights count: validation, checkpoints, a caller's callback."""
        return nullcontext()

    def validated(self) -> None:
        """Take note of a validation, whose best model is written."""


@contextmanager
def entered(contexts: Iterable[AbstractContextManager[None]]) -> Iterator[None]:
    """Enter contexts one after the other, and leave them the other way round."""
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield
