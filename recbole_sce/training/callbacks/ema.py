"""The moving average of the weights, which a run validates, tests and keeps in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: An update of the average reads and writes all weights, as much as a row-wise step of a large catalogue
#: avoids. Once averages are long, one in ten steps is enough: weights move little in ten.
_PERIOD = 10
_EACH_STEP_UNTIL = 1000
#: Numbers of a parameter that are exchanged with those of its mean at a time.
_NUMBERS_AT_ONCE = 4_000_000


class WeightAverage:
    """Exponential moving average of parameters over the steps of training.

    Weights of a single step carry the noise of its last batches: with a constant learning rate training goes
    on around a point that it does not reach. Averages are nearer to it (Polyak and Juditsky, 1992, of uniform
    ones). After n steps the decay of a step is the smaller of ``decay`` and (1 + n) / (10 + n), as that of
    TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``, so that the average follows while weights
    are still on their way.

    Takes the memory of the parameters once more, from the first step on. Buffers have no average: they are
    those of the last step.

    Args:
        parameters: those of the model; such as are not trained now are left out.
        decay: of a step, above 0 and below 1; 0.999 averages over a thousand steps, once 9,000 are done.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._decay = decay
        self._steps = 0
        self._updated = 0  # the step of the last update
        self._means: list[Tensor] = []
        self._places = 0  # uses of in_place that are under way

    @torch.no_grad()
    def update(self) -> None:
        """Take note of a step, which the optimiser has just taken."""
        self._steps += 1
        missed = self._steps - self._updated
        if not self._means:
            self._means = [parameter.detach().clone() for parameter in self._parameters]
        elif missed == _PERIOD or self._steps <= _EACH_STEP_UNTIL:
            decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) ** missed
            for mean, parameter in zip(self._means, self._parameters):
                mean.lerp_(parameter, 1 - decay)
        else:
            return
        self._updated = self._steps

    @contextmanager
    def following(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Take note, within, of each step of ``optimizer``."""
        handle = optimizer.register_step_post_hook(lambda *_: self.update())
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters hold the average, within; before the first step, what they hold.

        What is changed in them within is changed in the average, and has no part in training.
        """
        self._places += 1
        if self._places == 1:
            self._exchange()
        try:
            yield
        finally:
            self._places -= 1
            if self._places == 0:
                self._exchange()

    def keep(self) -> None:
        """Let the parameters hold the average from now on, and begin a new one with the next step."""
        self._exchange()
        self._means, self._steps, self._updated = [], 0, 0

    @torch.no_grad()
    def _exchange(self) -> None:
        """Exchange the contents of parameters and means, in parts, so that it takes little memory.

        Parameters stay where they are in memory, on which a recurrent layer on a GPU depends.
        """
        for mean, parameter in zip(self._means, self._parameters):
            for here, there in zip(_parts(mean), _parts(parameter)):
                held = here.clone()
                here.copy_(there)
                there.copy_(held)

    def state_dict(self) -> dict[str, Any]:
        """Return all that the average goes on from."""
        return {"steps": self._steps, "updated": self._updated, "means": list(self._means)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of parameters of other shapes.
        """
        shapes = [[tuple(each.shape) for each in group] for group in (state["means"], self._parameters)]
        if shapes[0] and shapes[0] != shapes[1]:
            raise ValueError(f"the average of the weights is of shapes {shapes[0]}, the model of {shapes[1]}")
        self._steps, self._updated = state["steps"], state["updated"]
        self._means = [
            mean.to(parameter.device, copy=True) for mean, parameter in zip(state["means"], self._parameters)
        ]


def _parts(tensor: Tensor) -> Sequence[Tensor]:
    if tensor.dim() == 0:
        return (tensor,)
    rows = max(1, _NUMBERS_AT_ONCE * len(tensor) // max(1, tensor.numel()))
    return torch.split(tensor, rows)
