"""Gradients of an item table that name the rows they touch, and whether they are used."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from recbole_sce.loss import ItemLoss
from recbole_sce.settings.checks import conflicts_of_row_updates
from recbole_sce.training import distributed
from recbole_sce.training.callbacks.base import CalculateLoss, Callback
from recbole_sce.training.row_adam import RowAdam
from recbole_sce.utils import processes

if TYPE_CHECKING:
    from recbole.config import Config

    from recbole_sce.model.mixin import SCEMixin

#: Items from which on ``sparse_item_updates: auto`` updates single rows: in smaller catalogues a step of all
#: rows costs no more (benchmarks/studies/row_updates.py).
AUTO_FROM = 100_000


class RowsUpToDate(Callback):
    """Brings rows that steps have missed up to date: those of a batch before its step, all after an epoch.

    Most of what moves a rare row are steps that miss it. Read without these moves, it would get the gradient
    of a place where it no longer is.

    Args:
        optimizer: of the item table.
        table: the item table.
        items_of: what a batch holds of items, int64 in any shape; other numbers than rows of the table, such
            as a mask's, count for nothing.
    """

    def __init__(self, optimizer: RowAdam, table: Tensor, items_of: Callable[[Any], Tensor]) -> None:
        self._optimizer, self._table, self._items_of = optimizer, table, items_of

    def watched(self, calculate_loss: CalculateLoss) -> CalculateLoss:
        """Catch up before the loss of a batch."""

        def loss(batch: Any) -> Any:
            rows = self._items_of(batch).reshape(-1)
            rows = rows.masked_fill((rows < 0) | (rows >= len(self._table)), 0)
            if rows.device.type == "cpu":  # which differ, an accelerator would have to be waited for to know
                rows = torch.unique(rows)
            if processes.together():
                rows = distributed.rows_of_all(rows)
            self._optimizer.catch_up_rows(self._table, rows)
            return calculate_loss(batch)

        return loss

    @contextmanager
    def epoch(self, epoch: int, n_steps: int) -> Iterator[None]:
        """Catch up when the steps are done."""
        yield
        self._optimizer.catch_up()


def updates_rows(config: Config, model: SCEMixin) -> bool:
    """Return whether ``sparse_item_updates`` lets each step update only the rows that it touches.

    ``auto`` does in large catalogues, where model, loss and settings allow it.

    Raises:
        ValueError: True is asked for, and the model or its loss cannot work so; the message says why.
    """
    asked = model.settings.sparse_item_updates
    if asked == "auto":
        return model.n_items >= AUTO_FROM and not conflicts_of_row_updates(config) and not _problem(model)
    if asked and (problem := _problem(model)):
        raise ValueError(problem)
    return bool(asked)


def use_sparse_item_gradients(model: SCEMixin) -> nn.Parameter:
    """Make the gradient of the item table sparse (COO), of lookups as of the loss, and return the table."""
    table = model.item_table()
    for module in _lookups(model):
        module.sparse = True
        if table.device.type != "cpu" and module.padding_idx is not None:
            _zero_padding(module, module.padding_idx)
    assert isinstance(table, nn.Parameter)
    assert isinstance(model.loss_fct, ItemLoss)
    model.loss_fct.sparse_grad = True
    return table


def _lookups(model: SCEMixin) -> list[nn.Embedding]:
    table = model.item_table()
    return [
        module for module in model.modules() if isinstance(module, nn.Embedding) and module.weight is table
    ]


def _problem(model: SCEMixin) -> str:
    """Return why the gradient of the item table cannot be sparse; '' if it can."""
    name = type(model).__name__
    if not isinstance(model.item_table(), nn.Parameter) or not _lookups(model):
        return (
            f"sparse_item_updates must be False with {name}, got True: it computes the table that it scores "
            "(item_table) anew from all rows of its parameters in each step"
        )
    loss = model.loss_fct
    if not (isinstance(loss, ItemLoss) and loss.allows_sparse_grad):
        return (
            f"sparse_item_updates must be False with {type(loss).__name__}, got True: its gradient of the "
            "item table is dense (a loss that allows_sparse_grad says so as an ItemLoss)"
        )
    return ""


def _zero_padding(module: nn.Embedding, padding: int) -> None:
    """Let a lookup give row ``padding`` a gradient of zeros, instead of leaving it out.

    To leave it out, torch copies the other rows of the gradient, and waits for the device to know how many.
    """
    module.padding_idx = None

    def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if output.requires_grad:
            absent = (inputs[0] == padding).unsqueeze(-1)
            output.register_hook(lambda gradient: gradient.masked_fill(absent, 0))  # type: ignore[no-untyped-call]

    module.register_forward_hook(hook)
