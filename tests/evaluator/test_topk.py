"""Recommendations: equal to RecBole's case study, in bounded memory, and clear about who is missing."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from recbole.utils import case_study

from recbole_sce.evaluator.pairs import Pairs
from recbole_sce.evaluator.topk import full_sort_scores, full_sort_topk, stream_topk

Prepare = Callable[..., SimpleNamespace]

# What RecBole itself defines, whatever is registered for plugin models.
RECBOLES_TOPK = getattr(case_study.full_sort_topk, "__wrapped__", case_study.full_sort_topk)
RECBOLES_SCORES = getattr(case_study.full_sort_scores, "__wrapped__", case_study.full_sort_scores)


def test_stream_topk_is_torchs() -> None:
    hidden = torch.randn(70, 8, dtype=torch.float64)
    table = torch.randn(5000, 8, dtype=torch.float64)
    exclude = Pairs(torch.randint(70, (900,)), torch.randint(5000, (900,)))
    scores = hidden @ table.T
    scores[:, 0] = scores[exclude] = -torch.inf
    best = stream_topk(hidden, table, 20, exclude, memory_mb=1)
    assert torch.allclose(best[0], scores.topk(20).values)
    assert torch.equal(best[1], scores.topk(20).indices)


@pytest.fixture(scope="module")
def made(ml_100k: Prepare) -> SimpleNamespace:
    made = ml_100k(
        eval_args={"split": {"RS": [0.9, 0.05, 0.05]}, "order": "TO", "group_by": "user", "mode": "full"},
        user_inter_num_interval="[40,120]",
    )
    made.model.eval()
    return made


def users_of(made: SimpleNamespace) -> list[int]:
    users = made.test.dataset.inter_feat["user_id"].unique()
    return [int(user) for user in users[torch.randperm(len(users))[:40]]] + [int(users[0])] * 2


@pytest.mark.parametrize("kind", [list, np.array, torch.tensor])
def test_topk_is_recboles(made: SimpleNamespace, kind: Any) -> None:
    users = users_of(made)  # some with several rows, one named twice
    scores, items = full_sort_topk(kind(users), made.model, made.test, k=7)
    assert len(items) > len(users)
    expected = RECBOLES_TOPK(np.array(users), made.model, made.test, k=7)
    assert torch.allclose(scores, expected[0], atol=1e-6)
    assert torch.equal(items, expected[1])


def test_scores_are_recboles(made: SimpleNamespace) -> None:
    users = users_of(made)
    expected = RECBOLES_SCORES(np.array(users), made.model, made.test)
    assert torch.allclose(full_sort_scores(users, made.model, made.test), expected, atol=1e-6)


@pytest.mark.parametrize("recommend", [lambda *args: full_sort_topk(*args, k=3), full_sort_scores])
def test_absent_users_are_named(made: SimpleNamespace, recommend: Any) -> None:
    present = users_of(made)[0]
    with pytest.raises(ValueError, match=r"2 of 3 users have no row .*: internal ids 0, 99999$"):
        recommend([0, present, 99999], made.model, made.test)


def test_many_absent_users_are_named_in_part(made: SimpleNamespace) -> None:
    absent = range(10**6, 10**6 + 500)
    with pytest.raises(ValueError, match=r"500 of 500 .* 1000009, \.\.\.$"):
        full_sort_topk(list(absent), made.model, made.test, k=3)


def test_topk_makes_no_matrix_of_users_by_items_or_rows(made: SimpleNamespace, largest_tensor: Any) -> None:
    rows = made.test.dataset.inter_feat["user_id"].tolist()
    users = sorted(set(rows)) * 3
    with largest_tensor() as largest:
        scores, _ = full_sort_topk(users, made.model, made.test, k=3)
    assert len(scores) == 3 * len(rows)
    cells = len(scores) * min(made.test.dataset.item_num, len(rows))
    assert 0 < largest.n_bytes < cells  # not even a mask of one byte a cell


def test_seen_items_are_left_out_but_for_the_target(ml_100k: Prepare) -> None:
    made = ml_100k(exclude_seen=True, MAX_ITEM_LIST_LENGTH=5, user_inter_num_interval="[40,60]")
    dataset = made.test.dataset
    user = int(dataset.inter_feat["user_id"][0])
    target = int(dataset.inter_feat["item_id"][0])
    dataset.log["item_id"][int(dataset.user_starts[user])] = target  # seen long ago, and asked for
    seen = set(dataset.history(torch.tensor([0]))[1].tolist())
    assert len(seen) > 30
    assert target in seen
    scores = full_sort_scores([user], made.model, made.test)[0]
    assert set(torch.isinf(scores).nonzero().squeeze(1).tolist()) == (seen | {0}) - {target}
    n_left = dataset.item_num - len(seen | {0}) + 1
    best, items = full_sort_topk([user], made.model, made.test, k=n_left)
    assert torch.isfinite(best).all()
    assert target in items
    assert not (seen - {target}) & set(items[0].tolist())


def test_scores_that_do_not_fit_are_refused(made: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=2**10))
    with pytest.raises(ValueError, match=r"scores of all \d+ items for \d+ rows .*full_sort_topk"):
        full_sort_scores(users_of(made), made.model, made.test)
