"""AdamW whose cost for a table is that of the rows a step touches."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

#: Rows that are brought up to date at a time.
_ROWS_AT_ONCE = 65_536


class RowAdam(torch.optim.AdamW):
    """AdamW (Loshchilov and Hutter, 2019) that updates parameters with sparse gradients row by row.

    Dense AdamW moves a row in steps that do not touch it, too: its moments decay and keep pulling, and the
    row itself decays. Here such a row is neither read nor written. When a step next touches it, or
    :meth:`catch_up` is called, its moments and the row decay by the steps that it missed, and the sum of the
    moves that these would have made is taken at once. For rows that every step touches the result is
    AdamW's, and without weight decay Adam's (Kingma and Ba, 2015). Others differ in that the steps in
    between see them where they were, and in that the sum is taken with the bias corrections of its mean move
    and the learning rate of now. Moments that waited instead, as those of ``torch.optim.SparseAdam`` do,
    leave a rare row where dense Adam would have moved it ten times as far, and learn slower for it.

    Parameters with dense gradients are updated by ``torch.optim.AdamW``. State entries ``exp_avg``,
    ``exp_avg_sq`` and ``step`` are AdamW's; ``row_step`` (rows,) is the last step that each row is up to date
    with, ``decay`` the logarithm of all decay so far, ``row_decay`` (rows,) the part of it that a row has.

    Args:
        params: as for ``torch.optim.AdamW``.
        tables: those of them whose gradients must be sparse.
        lr: learning rate.
        weight_decay: a step leaves ``1 - lr * weight_decay`` of each weight.
        options: further ones of ``torch.optim.AdamW``.

    Raises:
        ValueError: ``amsgrad`` or ``maximize`` is asked for.
    """

    def __init__(
        self,
        params: Any,
        tables: Sequence[Tensor] = (),
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        **options: Any,
    ) -> None:
        for name in ("amsgrad", "maximize"):
            if options.get(name):
                raise ValueError(f"{name} must be off with updates of single rows, got {options[name]!r}")
        super().__init__(params, lr=lr, weight_decay=weight_decay, **options)
        self._tables = tuple(tables)
        #: Called in a step with each parameter whose rows it updates, the rows (m,), and what they are (m, d)
        #: after the step before.
        self.before_rows: Callable[[Tensor, Tensor, Tensor], None] | None = None

    def step(self, closure: Any = None) -> Any:
        """Update the parameters; of those with sparse gradients (COO) the rows that these name.

        Raises:
            ValueError: the gradient of one of ``tables`` is dense.
        """
        if any(table.grad is not None and not table.grad.is_sparse for table in self._tables):
            raise ValueError(
                "sparse_item_updates must be False with this model, got True: the gradient of its item table "
                "is dense, since something in its loss uses all rows of the table in each step"
            )
        sparse = [
            (group, parameter, parameter.grad)
            for group in self.param_groups
            for parameter in group["params"]
            if parameter.grad is not None and parameter.grad.is_sparse
        ]
        for _, parameter, _ in sparse:
            parameter.grad = None
        loss = _without_hooks(torch.optim.AdamW.step)(self, closure)
        for group, parameter, gradient in sparse:
            parameter.grad = gradient
            self._step_rows(group, parameter, gradient.coalesce())
        return loss

    def catch_up(self) -> None:
        """Bring every row up to date, as if each step had touched it."""
        for _, parameter in self._of_rows():
            self.catch_up_rows(parameter, torch.arange(len(parameter), device=parameter.device))

    @torch.no_grad()
    def catch_up_rows(self, table: Tensor, rows: Tensor) -> None:
        """Bring ``rows`` (m,) int64 of a parameter up to date, if its rows are updated one by one."""
        for group, parameter in self._of_rows():
            if parameter is table:
                state = self.state[parameter]
                step = int(state["step"])
                for part in torch.split(rows, _ROWS_AT_ONCE):
                    _write(parameter, state, part, _late_rows(group, parameter, state, part, step), step)

    def _of_rows(self) -> Iterator[tuple[dict[str, Any], Tensor]]:
        for group in self.param_groups:
            for parameter in group["params"]:
                if "row_step" in self.state.get(parameter, {}):
                    yield group, parameter

    def load_state_dict(self, state_dict: Any) -> None:
        """Load the optimiser's state; torch gives all of it the dtype of the weights, but step."""
        super().load_state_dict(state_dict)
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, saved in state_dict["state"].items():
            if "row_step" in saved:
                state, device = self.state[parameters[index]], parameters[index].device
                saved = {**_no_decay(len(saved["row_step"]), device), **saved}  # of before there was decay
                for name in ("row_step", "decay", "row_decay"):
                    state[name] = saved[name].to(device, copy=True)

    @torch.no_grad()
    def _step_rows(self, group: dict[str, Any], parameter: Tensor, gradient: Tensor) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = torch.zeros(())
            # Zeros of the system cost nothing until a row is written.
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)
            state["row_step"] = torch.zeros(len(parameter), dtype=torch.int32, device=parameter.device)
            state.update(_no_decay(len(parameter), parameter.device))
        rows, values = gradient.indices()[0], gradient.values()  # (m,), (m, d)
        before = int(state["step"])
        now = _late_rows(group, parameter, state, rows, before)
        if self.before_rows is not None:
            self.before_rows(parameter, rows, now.row)
        state["step"] += 1
        state["decay"] += math.log1p(-group["lr"] * group["weight_decay"])
        step = before + 1
        beta1, beta2 = group["betas"]
        now.row.mul_(1 - group["lr"] * group["weight_decay"])
        now.mean.lerp_(values, 1 - beta1)
        now.square.mul_(beta2).addcmul_(values, values, value=1 - beta2)
        denominator = now.square.sqrt().mul_((1 - beta2**step) ** -0.5).add_(group["eps"])
        now.row.addcdiv_(now.mean, denominator, value=-group["lr"] / (1 - beta1**step))
        _write(parameter, state, rows, now, step)


def _no_decay(n_rows: int, device: torch.device) -> dict[str, Tensor]:
    return {
        "decay": torch.zeros((), dtype=torch.float64, device=device),
        "row_decay": torch.zeros(n_rows, dtype=torch.float64, device=device),
    }


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

    A step without gradient moves a row by lr * mean / sqrt(square), each of which decays by its beta, and
    the row by 1 - lr * weight_decay: what is left of the moves is a geometric series.
    """
    beta1, beta2 = group["betas"]
    last = state["row_step"][rows].unsqueeze(1).double()  # (m, 1)
    missed = step - last
    kept = (state["decay"] - state["row_decay"][rows]).exp_().unsqueeze(1)  # of the row, (m, 1)
    kept_of_step = 1 - group["lr"] * group["weight_decay"]
    ratio = beta1 / beta2**0.5
    # Sum of ratio ** j * kept_of_step ** (missed - j), j from 1 to missed.
    series = ratio * (kept - ratio**missed) / (kept_of_step - ratio)
    # Bias corrections change from move to move too; those of the mean move stand for all.
    at = last + 1 / (1 - ratio) - missed * ratio**missed / (1 - ratio ** missed.clamp(min=1))
    # Of whole rows index_select is several times as fast as indexing.
    row = parameter.index_select(0, rows)
    mean, square = (state[name].index_select(0, rows) for name in ("exp_avg", "exp_avg_sq"))
    # Of a row without a step yet, both moments are 0, and so is the move.
    scale = group["lr"] * series * (1 - beta2**at).sqrt() / (1 - beta1**at)
    move = square.sqrt().add_(group["eps"]).reciprocal_().mul_(mean).mul_(scale.to(mean.dtype))
    row.mul_(kept.to(mean.dtype)).sub_(move)
    mean.mul_((beta1**missed).to(mean.dtype))
    square.mul_((beta2**missed).to(mean.dtype))
    return _Rows(row, mean, square)


def _write(parameter: Tensor, state: dict[str, Tensor], rows: Tensor, now: _Rows, step: int) -> None:
    parameter.index_copy_(0, rows, now.row)
    state["exp_avg"].index_copy_(0, rows, now.mean)
    state["exp_avg_sq"].index_copy_(0, rows, now.square)
    state["row_step"][rows] = step
    state["row_decay"][rows] = state["decay"]
