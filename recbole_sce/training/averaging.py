"""The moving average of the weights, which a run validates, tests and keeps in their place."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

#: Steps from one update of the average to the next. It reads and writes all weights, which is a part of a
#: step's work that a large catalogue would feel; over ten steps weights move little.
_PERIOD = 10
#: Rows of a parameter that are exchanged with those of its mean at a time.
_ROWS_AT_ONCE = 65_536


class WeightAverage:
    """Exponential moving average of parameters over the steps of training (Polyak and Juditsky, 1992).

    Weights of a single step carry the noise of its last batches: with a constant learning rate training goes
    on around a point that it does not reach. Their average is nearer to it. After n steps the decay of a step
    is the smaller of ``decay`` and (1 + n) / (10 + n), so that the average follows at once while weights are
    still on their way.

    Takes the memory of the parameters once more, from the first step on.

    Args:
        parameters: those of the model; such as are not trained are left out.
        decay: of a step, above 0 and below 1; 0.999 averages over the last thousand steps or so.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], decay: float) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._decay = decay
        self._steps = 0
        self._means: list[Tensor] = []

    @torch.no_grad()
    def update(self) -> None:
        """Take note of a step, which the optimiser has just taken."""
        self._steps += 1
        if not self._means:
            self._means = [parameter.detach().clone() for parameter in self._parameters]
        elif self._steps % _PERIOD == 0:
            decay = min(self._decay, (1 + self._steps) / (10 + self._steps)) ** _PERIOD
            for mean, parameter in zip(self._means, self._parameters):
                mean.lerp_(parameter, 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters hold the average, within; before the first step, what they hold."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def keep(self) -> None:
        """Let the parameters hold the average from now on, and begin a new one with the next step."""
        self._exchange()
        self._means, self._steps = [], 0

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
        return {"steps": self._steps, "means": list(self._means)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of parameters of other shapes.
        """
        shapes = [[tuple(each.shape) for each in group] for group in (state["means"], self._parameters)]
        if shapes[0] and shapes[0] != shapes[1]:
            raise ValueError(f"the average of the weights is of shapes {shapes[0]}, the model of {shapes[1]}")
        self._steps = state["steps"]
        self._means = [
            mean.to(parameter.device, copy=True) for mean, parameter in zip(state["means"], self._parameters)
        ]


def _parts(tensor: Tensor) -> Sequence[Tensor]:
    return torch.split(tensor, _ROWS_AT_ONCE) if tensor.dim() else (tensor,)
