"""Adam whose cost for a table is that of the rows a step touches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor


class RowAdam(torch.optim.Adam):
    """Adam (Kingma and Ba, 2015) that updates parameters with sparse gradients row by row.

    Dense Adam moves a row for some steps after its gradient: its moments decay and keep pulling. Here a row
    that a step does not touch is neither read nor written. When a step next touches it, its moments decay by
    the steps that it missed, and the sum of the moves that these would have made is taken at once, before
    the step's own. For rows that every step touches the result is Adam's. Others differ in that the steps in
    between see them where they were, and in that the sum is taken with the bias corrections of its mean
    move. Moments that waited instead, as those of ``torch.optim.SparseAdam`` do, leave a rare row where
    dense Adam would have moved it ten times as far, and learn slower for it.

    Parameters with dense gradients are updated by ``torch.optim.Adam``. State entries ``exp_avg``,
    ``exp_avg_sq`` and ``step`` are Adam's; ``row_step`` (rows,) is the last step that each row is up to date
    with.

    Args:
        params: as for ``torch.optim.Adam``.
        tables: those of them whose gradients must be sparse.
        lr: learning rate.
        options: further ones of ``torch.optim.Adam``.

    Raises:
        ValueError: ``weight_decay``, ``amsgrad`` or ``maximize`` is asked for.
    """

    def __init__(self, params: Any, tables: Sequence[Tensor] = (), lr: float = 1e-3, **options: Any) -> None:
        for name in ("weight_decay", "amsgrad", "maximize"):
            if options.get(name):
                raise ValueError(f"{name} must be off with updates of single rows, got {options[name]!r}")
        super().__init__(params, lr=lr, **options)
        self._tables = tuple(tables)

    def step(self, closure: Any = None) -> Any:
        """Update the parameters; of those with sparse gradients (COO) the rows that these name.

        Raises:
            ValueError: the gradient of one of ``tables`` is dense.
        """
        if any(table.grad is not None and not table.grad.is_sparse for table in self._tables):
            raise ValueError(
                "sparse_item_updates: True is not allowed with this model: the gradient of its item table is "
                "dense, so something in its loss uses all rows of the table in each step"
            )
        sparse = [
            (group, parameter, parameter.grad)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for _, parameter, _ in sparse:
            parameter.grad = None
        loss = _without_hooks(torch.optim.Adam.step)(self, closure)
        for group, parameter, gradient in sparse:
            parameter.grad = gradient
            self._step_rows(group, parameter, gradient.coalesce())
        return loss

    def load_state_dict(self, state_dict: Any) -> None:
        """Load the optimiser's state; torch makes floats of ``row_step``, which counts."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, saved in state_dict["state"].items():
            if "row_step" in saved:
                parameter = parameters[index]
                self.state[parameter]["row_step"] = saved["row_step"].to(parameter.device, copy=True)

    @torch.no_grad()
    def _step_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            # Zeros of the system cost nothing until a row is written.
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["row_step"] = torch.zeros(len(parameter), dtype=torch.int32, device=parameter.device)
        state["step"] += 1
        step = int(state["step"])
        beta1, beta2 = group["betas"]
        rows, values = gradient.indices()[0], gradient.values()  # (m,), (m, d)
        now = _late_rows(group, parameter, state, rows, step - 1)
        now.mean.lerp_(values, 1 - beta1)
        now.square.mul_(beta2).addcmul_(values, values, value=1 - beta2)
        denominator = (now.square / (1 - beta2**step)).sqrt_().add_(group["eps"])
        now.row.addcdiv_(now.mean, denominator, value=-group["lr"] / (1 - beta1**step))
        _write(parameter, state, rows, now, step)


def _without_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    """Return an optimiser's ``step`` as its class wrote it.

    torch wraps it with the calls of the hooks, which belong around the whole step of a :class:`RowAdam`.
    """
    wrapped: Callable[..., Any] = step.__wrapped__ if hasattr(step, "hooked") else step  # type: ignore[attr-defined]
    return wrapped


class _Rows(NamedTuple):
    """Rows (m, d) of a parameter and of its two moments."""

    row: Tensor
    mean: Tensor
    square: Tensor


def _late_rows(
    group: dict[str, Any], parameter: Tensor, state: dict[str, Tensor], rows: Tensor, step: int
) -> _Rows:
    """Return ``rows`` (m,) as they are after ``step``, had all steps since their last one touched them by 0.

    A step without gradient moves a row by lr * mean / sqrt(square), each of which decays by its beta: the
    moves are a geometric series.
    """
    beta1, beta2 = group["betas"]
    last = state["row_step"][rows].unsqueeze(1).double()  # (m, 1)
    missed = step - last
    ratio = beta1 / beta2**0.5
    series = ratio * (1 - ratio**missed) / (1 - ratio)  # sum of ratio ** j, j from 1 to missed
    # Bias corrections change from move to move too; those of the mean move stand for all.
    at = last + 1 / (1 - ratio) - missed * ratio**missed / (1 - ratio ** missed.clamp(min=1))
    mean, square = state["exp_avg"][rows], state["exp_avg_sq"][rows]
    # Of a row without a step yet, both moments are 0, and so is the move.
    scale = group["lr"] * series * (1 - beta2**at).sqrt() / (1 - beta1**at)
    move = mean * scale.to(mean.dtype) / (square.sqrt() + group["eps"])
    decay1, decay2 = (beta1**missed).to(mean.dtype), (beta2**missed).to(mean.dtype)
    return _Rows(parameter[rows] - move, mean * decay1, square * decay2)


def _write(parameter: Tensor, state: dict[str, Tensor], rows: Tensor, now: _Rows, step: int) -> None:
    parameter.index_copy_(0, rows, now.row)
    state["exp_avg"].index_copy_(0, rows, now.mean)
    state["exp_avg_sq"].index_copy_(0, rows, now.square)
    state["row_step"][rows] = step
