"""The interface of losses: what they say of themselves, and how they are called."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_scalable import make
from torch import Tensor, nn

from recbole_sce.loss import (
    BCELoss,
    CrossEntropyLoss,
    GBCELoss,
    Histories,
    ItemLoss,
    LossStats,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
    call_loss,
    display_name,
    stats_of,
)

OWNER = torch.tensor([0, 0, 1, 1, 1])


class Recording(ItemLoss):
    """Notes the keyword arguments of its calls."""

    def forward(self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor, **more: Any) -> Tensor:
        self.more = more
        return hidden.sum()


@pytest.mark.parametrize(("histories", "owner"), [(False, False), (True, False), (False, True), (True, True)])
def test_a_loss_is_given_what_it_needs(histories: bool, owner: bool) -> None:
    hidden, items, targets = make(5, 9, 3)
    loss_fn = Recording()
    loss_fn.needs_histories, loss_fn.needs_owner = histories, owner
    asked = []

    def row_items() -> Tensor:
        asked.append(True)
        return torch.tensor([[1, 2, 9], [3, -5, 0]])  # 9 is no row, as a mask's number

    assert call_loss(loss_fn, hidden, items, targets, OWNER, row_items) == hidden.sum()
    assert ("histories" in loss_fn.more, "owner" in loss_fn.more) == (histories, owner)
    assert len(asked) == histories
    if histories:
        assert isinstance(loss_fn.more["histories"], Histories)
        assert loss_fn.more["histories"].items.tolist() == [[1, 2, -1], [3, -1, 0]]
        assert torch.equal(loss_fn.more["histories"].owner, OWNER)


def test_any_module_of_three_tensors_is_a_loss() -> None:
    class Mine(nn.Module):
        def forward(self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
            return (hidden * item_embeddings[targets]).sum()

    hidden, items, targets = make(5, 9, 3)
    loss = call_loss(Mine(), hidden, items, targets, OWNER, lambda: targets)
    assert torch.equal(loss, (hidden * items[targets]).sum())
    assert stats_of(Mine(), 5) == LossStats(n_states=5, n_trained=5)


@pytest.mark.parametrize(
    ("loss_fn", "name"),
    [
        (ScalableCrossEntropyLoss(), "SCE"),
        (ScalableCrossEntropyLoss(complete_softmax=False), "SCE (paper)"),
        (CrossEntropyLoss(), "CE"),
        (SampledCrossEntropyLoss(), "CE-"),
        (GBCELoss(), "gBCE"),
        (BCELoss(), "BCE"),
    ],
)
def test_losses_have_names_and_count_their_states(loss_fn: ItemLoss, name: str) -> None:
    hidden, items, targets = make(5, 9, 3)
    assert loss_fn.name == name
    loss_fn(hidden, items, targets)
    assert (loss_fn.last_stats.n_states, loss_fn.last_stats.n_trained) == (5, 5)
    assert stats_of(loss_fn, 0) == loss_fn.last_stats


def test_the_loss_of_the_paper_has_its_own_name() -> None:
    assert display_name("SCE") == "SCE"
    assert display_name("SCE", complete_softmax=False) == "SCE (paper)"
    assert display_name("CE", complete_softmax=False) == "CE"
