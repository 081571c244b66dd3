"""More items asked for than are left: places behind hold items that were excluded, as if recommended."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from cli.conftest import Call
from recbole.utils.case_study import full_sort_topk

from recbole_sce.inference.recommender import RecommendationError, Recommender

from .conftest import ROWS, Toy

#: The items of users whose catalogue is small.
SMALL = [(user, f"i{int(item[1:]) % 6}", time) for user, item, time in ROWS]


def test_lists_end_where_candidates_do(toy: Toy) -> None:
    toy.write(SMALL)
    run = toy.trained(exclude_seen=True, topk=[6], valid_metric="NDCG@6", epochs=1)
    recommender = Recommender.load(run.file)
    (top,) = recommender.for_users(["u1"], 6, exclude_seen=True)
    seen = {item for user, item, _ in SMALL if user == "u1"}
    ((_, items, _),) = top.rows()
    assert set(items) == {f"i{number}" for number in range(6)} - seen
    assert top.items[0][len(items) :].tolist() == ["[PAD]"] * (6 - len(items))

    users = torch.arange(1, 5)
    scores, ids = full_sort_topk(users, run.model, run.test, 6)
    assert ((ids == 0) == (scores == -np.inf)).all()
    assert (ids == 0).any()


@pytest.mark.parametrize("model", ["SASRecSCE", "GRU4RecSCE"])
def test_evaluation_says_so(toy: Toy, model: str, log_lines: Callable[[], str]) -> None:
    toy.write(SMALL)
    run = toy.prepared(
        model, exclude_seen=True, topk=[6], valid_metric="NDCG@6", metrics=["NDCG", "ItemCoverage"]
    )
    run.trainer.eval_collector.data_collect(run.train)
    run.trainer.evaluate(run.test, load_best_model=False)
    assert "fewer than 6 items left with exclude_seen" in log_lines()


def test_more_than_the_catalogue_has_is_refused_before_training(toy: Toy) -> None:
    toy.write(SMALL)
    with pytest.raises(ValueError, match=r"topk must be at most 7, the number of items of toy.*got 10"):
        toy.prepared()
    recommender = Recommender.load(toy.trained(topk=[2], valid_metric="NDCG@2", epochs=1).file)
    with pytest.raises(RecommendationError, match="k must be 1 to 6, the number of items, got 7"):
        recommender.for_users(["u1"], 7)


def test_the_command_counts_short_lists(toy: Toy, call: Call, tmp_path: Path) -> None:
    toy.write(SMALL)
    file = toy.trained(topk=[2], valid_metric="NDCG@2", epochs=1).file
    (tmp_path / "h.csv").write_text("id,items\nx,i1 i2\ny,i3\n")
    outcome = call("recommend", file, "--histories", "h.csv", "-k", 5, "--exclude-seen")
    assert outcome.code == 0, outcome.err
    assert [len(json.loads(line)["items"]) for line in outcome.out.splitlines()] == [4, 5]
    assert "warning: 1 of 2 lists are shorter than --k 5" in outcome.err
