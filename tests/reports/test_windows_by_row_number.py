"""``full_sort_topk`` on training data gives the lists of other users, or an IndexError."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from recbole.data.dataloader import FullSortEvalDataLoader
from recbole.utils.case_study import full_sort_scores, full_sort_topk

from recbole_sce.data.fields import target_list_field
from recbole_sce.data.loader import SequenceDataLoader

from .conftest import Toy


@pytest.mark.parametrize("model", ["SASRecSCE", "GRU4RecSCE"])
def test_lists_for_training_users_are_their_own(toy: Toy, model: str) -> None:
    windowed, plain = toy.prepared(model, train_positions="all"), toy.prepared(model, train_positions="last")
    assert windowed.train.dataset.windows is not None
    plain.model.load_state_dict(windowed.model.state_dict())
    users = windowed.train.dataset.inter_feat["user_id"].unique()[[0, 7, -1]]
    for ask in (
        lambda run: full_sort_topk(users, run.model, run.train, 3)[1],
        lambda run: full_sort_scores(users, run.model, run.train),
    ):
        assert torch.allclose(ask(windowed), ask(plain))


def test_row_numbers_are_those_of_the_interactions(toy: Toy) -> None:
    data = toy.prepared(train_positions="all").train.dataset
    reference = toy.prepared(train_positions="last").train.dataset
    assert len(data) == len(reference) == len(data.inter_feat)
    for index in (5, slice(3, 90), [0, len(data) - 1], np.arange(len(data)), torch.tensor([7, 7])):
        rows, expected = data[index], reference[index]
        assert set(rows) == set(expected)
        assert all(torch.equal(rows[field], expected[field]) for field in expected)


def test_the_training_loader_alone_serves_windows(toy: Toy) -> None:
    run = toy.prepared(train_positions="all")
    assert isinstance(run.train, SequenceDataLoader)
    targets = target_list_field(run.config)
    batches = list(run.train)
    assert sum(len(batch) for batch in batches) == len(run.train.dataset.windows) < len(run.train.dataset)
    assert all(targets in batch for batch in batches)
    as_evaluated = list(FullSortEvalDataLoader(run.config, run.train.dataset, None))
    assert sum(len(batch[0]) for batch in as_evaluated) == len(run.train.dataset)
    assert not any(targets in batch[0] for batch in as_evaluated)


@pytest.mark.parametrize("change", ["shuffle", "sort", "copy", "split"])
def test_changed_rows_are_still_indexed_by_number(toy: Toy, change: str) -> None:
    data = copy.copy(toy.prepared(train_positions="all").train.dataset)
    if change == "shuffle":
        data.shuffle()
    elif change == "sort":
        data.sort(by="item_id")
    elif change == "copy":
        data = data.copy(data.inter_feat[torch.arange(20, 40)])
    else:
        data = data.split_by_ratio([0.5, 0.5], group_by="user_id")[1]
    batch: Any = data[np.arange(len(data))]
    assert len(batch) == len(data.inter_feat)
    for field in ("user_id", "item_id"):
        assert torch.equal(batch[field], data.inter_feat[field].long())
    if change in ("copy", "split"):
        assert data.windows is None


def test_rows_put_into_a_training_loader_by_hand_are_refused_in_words(toy: Toy) -> None:
    from recbole.data.dataloader import TrainDataLoader

    run = toy.prepared(train_positions="all")
    loader = TrainDataLoader(run.config, run.train.dataset, None, shuffle=True)
    with pytest.raises(ValueError, match=r"train_positions: all trains windows.*data_preparation.*last"):
        run.model.calculate_loss(next(iter(loader)))
