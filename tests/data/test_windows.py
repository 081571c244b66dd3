from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recbole_sce.data.windows import continues_history, continues_position, cut_windows


def test_windows_are_cut_from_the_end_of_each_run():
    # runs of 5 and 2 rows
    continues = np.array([False, True, True, True, True, False, True])
    last_rows, n_targets = cut_windows(continues, max_length=2)
    assert last_rows.tolist() == [0, 2, 4, 6]
    assert n_targets.tolist() == [1, 2, 2, 2]


@given(st.lists(st.booleans(), max_size=60), st.integers(1, 9))
def test_every_row_is_in_exactly_one_window_of_its_run(flags, max_length):
    continues = np.array(flags, dtype=bool)
    last_rows, n_targets = cut_windows(continues, max_length)
    covered = [
        row for last, n in zip(last_rows, n_targets) for row in range(int(last) - int(n) + 1, int(last) + 1)
    ]
    assert sorted(covered) == list(range(len(flags)))
    for last, n in zip(last_rows, n_targets):
        assert 1 <= n <= max_length
        assert continues[last - n + 2 : last + 1].all()  # no window reaches over the start of a run
        run_goes_on = last + 1 < len(flags) and continues[last + 1]
        starts_run = last - n + 1 == 0 or not continues[last - n + 1]
        assert n == max_length or starts_run or not run_goes_on
        assert n == max_length or starts_run  # only the oldest window of a run is short


def test_positions_that_follow_each_other():
    assert continues_position(np.array([1, 2, 3, 5, 6, 9])).tolist() == [
        False,
        True,
        True,
        False,
        True,
        False,
    ]


def test_histories_that_grow_by_the_last_target():
    rows = [  # user, history, target
        (1, [5], 6),
        (1, [5, 6], 7),  # continues
        (1, [5, 6, 7], 8),  # continues
        (1, [6, 7, 8], 9),  # continues: at the greatest length the oldest item goes
        (1, [6, 7, 1], 4),  # another item
        (2, [7, 1, 4], 5),  # another user
        (2, [1, 4], 5),  # another length
        (2, [1, 4, 5], 2),  # continues
    ]
    items = np.concatenate([[*history, target] for _, history, target in rows])
    lengths = np.array([len(history) for _, history, _ in rows])
    targets = np.cumsum(lengths + 1) - 1
    users = np.array([user for user, _, _ in rows])
    assert continues_history(items, targets, lengths, users).tolist() == [
        False, True, True, True, False, False, False, True,
    ]  # fmt: skip


def test_no_history_continues_where_each_user_has_one_row():
    flags = continues_history(np.array([1, 2, 3, 4]), np.array([1, 3]), np.array([1, 1]), np.array([1, 2]))
    assert flags.tolist() == [False, False]
