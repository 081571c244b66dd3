from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_sce.data.filtering import CountRule, filter_by_counts


def rule(codes, minimum, listed=()):
    return CountRule(
        np.asarray(codes), lambda counts: counts >= minimum, np.asarray(listed, dtype=int), minimum
    )


def test_nothing_to_drop():
    left, users, items = filter_by_counts(rule([0, 0, 1], 1), rule([0, 1, 1], 1))
    assert left is None
    assert len(users) == len(items) == 0


def test_dropping_users_can_drop_items_in_turn():
    # item 2 loses user 1, who has one interaction only, and goes with its other user's row
    left, _, _ = filter_by_counts(rule([0, 0, 0, 1, 2, 2], 2), rule([0, 1, 2, 2, 0, 1], 2))
    assert left.tolist() == [0, 1, 4, 5]


def test_listed_ones_go_when_their_interactions_do():
    _, users, items = filter_by_counts(
        rule([0, 0, 1], 2, listed=[1, 0, -1]),  # -1: a user of the file without interactions
        rule([0, 1, 1], 0, listed=[1, -1]),
    )
    assert users.tolist() == [False, True, False]
    assert items.tolist() == [True, True]  # items may be without interactions here


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 7)), min_size=1, max_size=60), st.integers(1, 4))
def test_equals_a_loop_that_drops_row_by_row(pairs, k):
    rows = list(range(len(pairs)))
    while True:
        users, items = Counter(pairs[r][0] for r in rows), Counter(pairs[r][1] for r in rows)
        kept = [r for r in rows if users[pairs[r][0]] >= k and items[pairs[r][1]] >= k]
        if kept == rows:
            break
        rows = kept
    left, _, _ = filter_by_counts(rule([u for u, _ in pairs], k), rule([i for _, i in pairs], k))
    assert rows == (list(range(len(pairs))) if left is None else left.tolist())
