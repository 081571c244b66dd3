"""The moving average of the weights, which a run validates, tests and keeps in their place."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from recbole_sce.training.callbacks.base import Callback
from recbole_sce.training.row_adam import RowAdam

#: An update of the average reads and writes all weights, as much as a row-wise step of a large catalogue
#: avoids. Once averages are long, one in ten steps is enough: weights move little in ten.
_PERIOD = 10
_EACH_STEP_UNTIL = 1000
#: Numbers of a parameter that are exchanged with those of its mean at a time.
_NUMBERS_AT_ONCE = 4_000_000
#: Rows of a table whose means are brought up to date at a time.
_ROWS_AT_ONCE = 65_536


class WeightAverage:
    """Exponential moving average of parameters over the steps of training.

    Weights of a single step carry the noise of its last batches: with a constant learning rate training goes
    on around a point that it does not reach. Averages are nearer to it (Polyak and Juditsky, 1992, of uniform
    ones). After n steps the decay of a step is the smaller of ``decay`` and (1 + n) / (10 + n), as that of
    TensorFlow's ``ExponentialMovingAverage`` with ``num_updates``, so that the average follows while weights
    are still on their way.

    Takes the memory of the parameters once more, from the first step on. Buffers have no average: they are
    those of the last step.

    The average of a row that :class:`recbole_sce.training.row_adam.RowAdam` does not touch nears the row by
    the product of the decays of all steps in between. It is taken when a step next touches the row, or when
    the average is asked for.

    Args:
        parameters: those of the model; such as are not trained now are left out.
        decay: of a step, above 0 and below 1; 0.999 averages over a thousand steps, once 9,000 are done.
        table: the one of them whose rows a RowAdam updates one by one, if there is one.
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], decay: float, table: nn.Parameter | None = None
    ) -> None:
        self._parameters = [parameter for parameter in parameters if parameter.requires_grad]
        self._decay = decay
        self._of_table = next((i for i, each in enumerate(self._parameters) if each is table), None)
        self._log_decay = 0.0  # of all steps, their product's logarithm
        self._row_decay: Tensor | None = None  # (rows,) the part of it that a row's mean has
        self._steps = 0
        self._updated = 0  # the step of the last update
        self._means: list[Tensor] = []
        self._places = 0  # uses of in_place that are under way

    @torch.no_grad()
    def update(self) -> None:
        """Take note of a step, which the optimiser has just taken."""
        self._steps += 1
        step_decay = min(self._decay, (1 + self._steps) / (10 + self._steps))
        missed = self._steps - self._updated
        self._log_decay += math.log(step_decay)
        if not self._means:
            self._means = [parameter.detach().clone() for parameter in self._parameters]
            if self._of_table is not None:
                rows = len(self._parameters[self._of_table])
                device = self._parameters[self._of_table].device
                self._row_decay = torch.full((rows,), self._log_decay, dtype=torch.float64, device=device)
        elif missed == _PERIOD or self._steps <= _EACH_STEP_UNTIL:
            for index, (mean, parameter) in enumerate(zip(self._means, self._parameters)):
                if index != self._of_table:
                    mean.lerp_(parameter, 1 - step_decay**missed)
        else:
            return
        self._updated = self._steps

    def _catch_up_all(self) -> None:
        if self._row_decay is not None and self._of_table is not None:
            every = torch.arange(len(self._row_decay), device=self._row_decay.device)
            for rows in torch.split(every, _ROWS_AT_ONCE):
                self._catch_up(rows, self._parameters[self._of_table].index_select(0, rows))

    def _before_rows(self, parameter: Tensor, rows: Tensor, values: Tensor) -> None:
        if self._of_table is not None and parameter is self._parameters[self._of_table]:
            self._catch_up(rows, values)

    @torch.no_grad()
    def _catch_up(self, rows: Tensor, values: Tensor) -> None:
        """Bring the means of ``rows`` (m,) of the table, which are ``values`` (m, d), up to date."""
        if self._of_table is None or self._row_decay is None:
            return
        mean = self._means[self._of_table]
        left = (self._log_decay - self._row_decay[rows]).exp_().to(mean.dtype).unsqueeze(1)
        mean.index_copy_(0, rows, torch.lerp(values, mean.index_select(0, rows), left))
        self._row_decay[rows] = self._log_decay

    @contextmanager
    def following(self, optimizer: torch.optim.Optimizer) -> Iterator[None]:
        """Take note, within, of each step of ``optimizer``."""

        def before_step(*_: object) -> None:
            if self._of_table is not None:
                gradient = self._parameters[self._of_table].grad
                if gradient is not None and not gradient.is_sparse:
                    self._catch_up_all()

        with ExitStack() as hooks:
            if isinstance(optimizer, RowAdam):
                optimizer.before_rows = self._before_rows
                hooks.callback(setattr, optimizer, "before_rows", None)
            hooks.callback(optimizer.register_step_pre_hook(before_step).remove)
            hooks.callback(optimizer.register_step_post_hook(lambda *_: self.update()).remove)
            yield

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let the parameters hold the average, within; before the first step, what they hold.

        What is changed in them within is changed in the average, and has no part in training.
        """
        self._places += 1
        if self._places == 1:
            self._catch_up_all()
            self._exchange()
        try:
            yield
        finally:
            self._places -= 1
            if self._places == 0:
                self._exchange()

    def keep(self) -> None:
        """Let the parameters hold the average from now on, and begin a new one with the next step."""
        self._catch_up_all()
        self._exchange()
        self._means, self._steps, self._updated = [], 0, 0
        self._log_decay, self._row_decay = 0.0, None

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
        return {
            "steps": self._steps,
            "updated": self._updated,
            "means": list(self._means),
            "log_decay": self._log_decay,
            "row_decay": self._row_decay,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from ``state``, what :meth:`state_dict` gave.

        Raises:
            ValueError: it is of parameters of other shapes, or of row-wise updates, and here are none.
        """
        shapes = [[tuple(each.shape) for each in group] for group in (state["means"], self._parameters)]
        if shapes[0] and shapes[0] != shapes[1]:
            raise ValueError(f"the average of the weights is of shapes {shapes[0]}, the model of {shapes[1]}")
        row_decay = state.get("row_decay")
        if row_decay is not None and self._of_table is None:
            raise ValueError("sparse_item_updates must be True, as in the run: means of rows wait there")
        self._steps, self._updated = state["steps"], state["updated"]
        self._log_decay = state.get("log_decay", 0.0)
        if row_decay is None and state["means"] and self._of_table is not None:
            # A state of before the means of rows waited: all are up to date.
            row_decay = torch.zeros(len(self._parameters[self._of_table]), dtype=torch.float64)
        self._row_decay = None if row_decay is None else row_decay.to(self._parameters[0].device, copy=True)
        self._means = [
            mean.to(parameter.device, copy=True) for mean, parameter in zip(state["means"], self._parameters)
        ]


class AveragedWeights(Callback):
    """Lets a run validate, test and keep the average of its weights.

    Args:
        average: of the parameters that ``optimizer`` trains.
        optimizer: whose steps the average follows.
    """

    def __init__(self, average: WeightAverage, optimizer: torch.optim.Optimizer) -> None:
        self._average, self._optimizer = average, optimizer

    @contextmanager
    def fit(self) -> Iterator[None]:
        """Follow the steps, and give the model the average at the end."""
        with self._average.following(self._optimizer):
            yield
        self._average.keep()

    def weights(self) -> AbstractContextManager[None]:
        """Let the model have the average."""
        return self._average.in_place()


def _parts(tensor: Tensor) -> Sequence[Tensor]:
    if tensor.dim() == 0:
        return (tensor,)
    rows = max(1, _NUMBERS_AT_ONCE * len(tensor) // max(1, tensor.numel()))
    return torch.split(tensor, rows)
