"""The learning rate over the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from recbole_sce.training.callbacks.base import Callback

#: The part of all steps in which the rate rises.
_WARMUP = 0.05


def linear(progress: float) -> float:
    """Return the factor of the learning rate when ``progress`` of the steps, from 0 to 1, is done.

    It rises in the first twentieth of the steps, then falls to 0 at the last, each in a straight line.
    """
    return min(progress / _WARMUP, (1 - progress) / (1 - _WARMUP))


class LinearSchedule(Callback):
    """Let the learning rate of each step of a run be :func:`linear` of its own.

    It keeps no state: a step's rate follows from its epoch and its place there, so that a run that is resumed
    goes on with the rates that it would have had.

    Args:
        optimizer: its groups have their full rates now.
        epochs: of the whole run.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, epochs: int) -> None:
        self._optimizer = optimizer
        self._rates = [group["lr"] for group in optimizer.param_groups]
        self._epochs = epochs

    @contextmanager
    def epoch(self, epoch: int, n_steps: int) -> Iterator[None]:
        """Set the rate before each of ``n_steps`` steps of ``epoch`` (from 0) that are taken within."""
        done = epoch * n_steps

        def set_rates(*_: object) -> None:
            nonlocal done
            # The middle of a step: neither the first nor the last has a rate of 0.
            factor = linear(min(1.0, (done + 0.5) / (self._epochs * n_steps)))
            for group, rate in zip(self._optimizer.param_groups, self._rates):
                group["lr"] = rate * factor
            done += 1

        handle = self._optimizer.register_step_pre_hook(set_rates)
        try:
            yield
        finally:
            handle.remove()
