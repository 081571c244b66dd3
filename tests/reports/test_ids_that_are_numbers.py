"""Whole numbers given as ids of users or items are unknown, though the files have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from recbole_sce.inference.recommender import RecommendationError, Recommender, Skipped

from .conftest import ROWS, Toy


@pytest.fixture
def recommender(toy: Toy) -> Recommender:
    toy.write([(user[1:], item[1:], time) for user, item, time in ROWS])
    return Recommender.load(toy.trained(epochs=1).file)


KINDS: Any = [int, np.int64, np.int32, np.uint8, np.str_, str, lambda text: torch.tensor(int(text))]


@pytest.mark.parametrize("kind", KINDS)
def test_users_and_histories(recommender: Recommender, kind: Any) -> None:
    (expected,) = recommender.for_users(["3", "17"], 4)
    (top,) = recommender.for_users([kind("3"), kind("17")], 4)
    assert top.ids == ["3", "17"]
    assert top.items.tolist() == expected.items.tolist()
    states = recommender.hidden_states([kind("3")])
    assert np.array_equal(states, recommender.hidden_states(["3"]))

    (expected,) = recommender.for_histories([("x", ["3", "5"])], 4)
    skipped = Skipped()
    (top,) = recommender.for_histories([(kind("12"), [kind("3"), kind("5"), kind("77")])], 4, skipped=skipped)
    assert top.ids == ["12"]
    assert top.items.tolist() == expected.items.tolist()
    assert skipped == Skipped(1, ["77"])


@pytest.mark.parametrize("ids", [np.array([3, 17]), torch.tensor([3, 17]), (3, "17"), range(3, 18, 14)])
def test_ids_in_one_array(recommender: Recommender, ids: Any) -> None:
    (expected,) = recommender.for_users(["3", "17"], 4)
    (top,) = recommender.for_users(ids, 4)
    assert top.items.tolist() == expected.items.tolist()
    (of_history,) = recommender.for_histories([("x", ids)], 4)
    (reference,) = recommender.for_histories([("x", ["3", "17"])], 4)
    assert of_history.items.tolist() == reference.items.tolist()


def test_one_text_is_no_list_of_ids(recommender: Recommender) -> None:
    with pytest.raises(RecommendationError, match="users must be a list of ids, got '17'"):
        recommender.for_users("17", 4)
    with pytest.raises(RecommendationError, match="the items of history 'x' must be a list of ids, got '35'"):
        list(recommender.for_histories([("x", "35")], 4))
