"""Gradients of an item table that name the rows they touch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

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
    loss: Any = model.loss_fct
    if not hasattr(loss, "sparse_grad"):
        raise ValueError(
            f"sparse_item_updates: True is not allowed with {type(loss).__name__}, whose "
            "gradient of the item table is dense (it has no attribute sparse_grad)"
        )
    for module in lookups:
        module.sparse = True
    loss.sparse_grad = True
    if model.later_targets is not None:
        model.later_targets.sparse_grad = True
    return table
