"""Gradients of an item table that name the rows they touch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from recbole_sce.loss import ItemLoss

if TYPE_CHECKING:
    from recbole_sce.model.mixin import SCEMixin


def use_sparse_item_gradients(model: SCEMixin) -> nn.Parameter:
    """Make the gradient of the item table sparse (COO), from its lookups as from the loss.

    Returns:
        The item table.

    Raises:
        ValueError: the model or its loss cannot work so; the message says why.
    """
    name = type(model).__name__
    table = model.item_table()
    lookups = [
        module for module in model.modules() if isinstance(module, nn.Embedding) and module.weight is table
    ]
    if not isinstance(table, nn.Parameter) or not lookups:
        raise ValueError(
            f"sparse_item_updates: True is not allowed with {name}, which computes the table that it scores "
            "(item_table) anew from all rows of its parameters in each step"
        )
    loss = model.loss_fct
    if not (isinstance(loss, ItemLoss) and loss.allows_sparse_grad):
        raise ValueError(
            f"sparse_item_updates must be False with {type(loss).__name__}, got True: its gradient of the "
            "item table is dense (a loss that allows_sparse_grad says so as an ItemLoss)"
        )
    for module in lookups:
        module.sparse = True
        if table.device.type != "cpu" and module.padding_idx is not None:
            _zero_padding(module, module.padding_idx)
    loss.sparse_grad = True
    return table


def _zero_padding(module: nn.Embedding, padding: int) -> None:
    """Let a lookup give row ``padding`` a gradient of zeros, instead of leaving it out.

    To leave it out, torch copies the other rows of the gradient, and waits for the device to know how many.
    """
    module.padding_idx = None

    def hook(_: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        if output.requires_grad:
            absent = (inputs[0] == padding).unsqueeze(-1)
            output.register_hook(lambda gradient: gradient.masked_fill(absent, 0))

    module.register_forward_hook(hook)
