"""The items of each state's own history, which the completed softmax scores one by one.

What a user has just had scores high and is rarely what follows: the hardest negatives of a state, which
buckets around random centres often miss (docs/concepts/completed-sum.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_sce.loss.inputs import check_one_a_state


class Histories(NamedTuple):
    """G lists of items, and which of them belongs to each of N states.

    ``items`` (G, L) int64 are rows of the item embeddings, in any order, -1 where a list has no more of them.
    ``owner`` (N,) int64, ascending, says whose list is whose, 0 to G - 1. It may be on the CPU even where
    ``items`` are on an accelerator, which then need not be waited for. A list may hold the targets of its
    states, and items more than once: they count once.
    """

    items: Tensor
    owner: Tensor

    @classmethod
    def none(cls, targets: Tensor) -> Histories:
        """Return an empty list for each state, whose targets (N,) these are."""
        return cls(targets.new_empty(len(targets), 0), torch.arange(len(targets)))

    def distinct(self, excluded: Sequence[int] = ()) -> Histories:
        """Return the same with each item of a list once, and none of the ``excluded`` rows."""
        items = self.items
        for row in excluded:
            items = items.masked_fill(items == row, -1)
        items = items.sort(1).values
        again = torch.zeros_like(items, dtype=torch.bool)
        again[:, 1:] = items[:, 1:] == items[:, :-1]
        return Histories(items.masked_fill(again, -1), self.owner)


def check_histories(histories: Histories, hidden: Tensor, item_embeddings: Tensor) -> None:
    """Check that ``histories`` are those of states (N, d), of rows of ``item_embeddings`` (C, d).

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device, or (where that can be seen without waiting
            for an accelerator: on the CPU) an item is no row, or the owners are not ascending lists.
    """
    items, owner = histories
    if items.dim() != 2 or items.dtype != torch.int64:
        raise ValueError(
            "histories.items must have two dimensions (histories, items) of torch.int64, got shape "
            f"{tuple(items.shape)} of {items.dtype}"
        )
    check_one_a_state("histories.owner", owner, hidden, "the history of each hidden state")
    if items.device != hidden.device or owner.device not in (hidden.device, torch.device("cpu")):
        raise ValueError(
            f"histories must be on {hidden.device}, the device of hidden, got items on {items.device} and "
            f"owner on {owner.device}; owner may be on the CPU, too"
        )
    if hidden.device.type != "cpu":
        return
    if items.numel():
        low, high = (int(bound) for bound in torch.aminmax(items))
        if low < -1 or high >= len(item_embeddings):
            raise ValueError(
                f"histories.items must be from 0 to {len(item_embeddings) - 1}, the rows of "
                f"item_embeddings, or -1 for none, got {low if low < -1 else high}"
            )
    bounds = torch.cat([owner.new_zeros(1), owner, owner.new_tensor([max(0, len(items) - 1)])])
    if len(owner) and (len(items) == 0 or bool((bounds.diff() < 0).any())):
        raise ValueError(
            f"histories.owner must ascend from 0 to {len(items) - 1}, the rows of histories.items, got "
            "numbers that do not"
        )
