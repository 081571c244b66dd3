"""What every loss asks of its inputs, checked once, at the edge."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_sce.utils.devices import to_device


def check_inputs(
    hidden: Tensor, item_embeddings: Tensor, targets: Tensor, exclude_items: Sequence[int] = ()
) -> None:
    """Check the three tensors that all losses share.

    Args:
        hidden: (N, d) floating point, the hidden states; N may be 0.
        item_embeddings: (C, d) floating point, one row an item; C is at least 1.
        targets: (N,) int64, each the row of ``item_embeddings`` that follows its state.
        exclude_items: rows of ``item_embeddings`` that are no items, hence no targets either.

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device, or (where that can be seen without
            waiting for an accelerator: on the CPU) a target is no row of ``item_embeddings`` or an
            excluded one.
    """
    for name, tensor in (("hidden", hidden), ("item_embeddings", item_embeddings)):
        if tensor.dim() != 2 or not tensor.is_floating_point():
            raise ValueError(
                f"{name} must have two dimensions (rows, d) of a floating-point type, got shape "
                f"{tuple(tensor.shape)} of {tensor.dtype}"
            )
    if hidden.size(1) != item_embeddings.size(1):
        raise ValueError(
            f"hidden must have rows of width {item_embeddings.size(1)}, that of item_embeddings, got "
            f"{hidden.size(1)}"
        )
    if item_embeddings.size(0) == 0:
        raise ValueError("item_embeddings must have at least one row, an item, got 0")
    check_one_a_state("targets", targets, hidden, "one target a hidden state")
    if not hidden.device == item_embeddings.device == targets.device:
        raise ValueError(
            f"hidden, item_embeddings and targets must be on one device, got {hidden.device}, "
            f"{item_embeddings.device} and {targets.device}"
        )
    if targets.device.type == "cpu" and len(targets):
        low, high = (int(bound) for bound in torch.aminmax(targets))
        if low < 0 or high >= item_embeddings.size(0):
            raise ValueError(
                f"targets must be from 0 to {item_embeddings.size(0) - 1}, the rows of item_embeddings, got "
                f"{low if low < 0 else high}"
            )
        for row in exclude_items:
            if low <= row <= high and bool((targets == row).any()):
                raise ValueError(
                    f"targets must be none of exclude_items (RecBole's padding item is row 0), got {row}: "
                    "leave out the positions that have it as their target"
                )


def check_one_a_state(name: str, numbers: Tensor, hidden: Tensor, what: str) -> None:
    """Check that ``numbers`` are (N,) int64, for hidden states (N, d); ``what`` says what they are.

    Raises:
        ValueError: they are not.
    """
    if numbers.shape != hidden.shape[:1] or numbers.dtype != torch.int64:
        raise ValueError(
            f"{name} must be ({len(hidden)},) of torch.int64, {what}, got shape {tuple(numbers.shape)} of "
            f"{numbers.dtype}"
        )


def check_count(name: str, value: int | None) -> None:
    """Check that ``value`` is a whole number of at least 1, or None.

    Raises:
        ValueError: it is not.
    """
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def excluded_rows(exclude_items: Sequence[int], n_items: int) -> list[int]:
    """Return the rows that are never a candidate, in ascending order, each once.

    Args:
        exclude_items: rows of a catalogue; a row that this catalogue does not have is of no effect.
        n_items: number of rows of the catalogue, C.
    """
    return sorted({row for row in exclude_items if 0 <= row < n_items})


def candidate_rows(ranks: Tensor, excluded: Sequence[int]) -> Tensor:
    """Return the rows of a catalogue from their ranks among those that are not excluded.

    Args:
        ranks: int64 of any shape, from 0.
        excluded: from :func:`excluded_rows`.
    """
    # Of each excluded row, the rank of the candidate that comes next.
    next_ranks = torch.tensor(excluded, dtype=torch.int64) - torch.arange(len(excluded))
    return ranks + torch.searchsorted(to_device(next_ranks, ranks.device), ranks, right=True)
