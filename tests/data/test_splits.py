from __future__ import annotations

import numpy as np
import pytest

from recbole_sce.data.splits import leave_one_out_rows, ratio_rows, time_rows

KEYS = np.array([7, 3, 7, 7, 3, 9, 7])  # rows of 7: 0 2 3 6, of 3: 1 4, of 9: 5


@pytest.mark.parametrize(
    ("n_held_out", "expected"),
    [
        (2, [[0, 2, 1, 5], [3], [6, 4]]),  # a group of two serves the last part first, a group of one none
        (1, [[0, 2, 3, 1, 5], [6, 4]]),
    ],
)
def test_leave_one_out(n_held_out, expected):
    assert [part.tolist() for part in leave_one_out_rows(KEYS, n_held_out)] == expected


def test_ratios_cut_each_group_by_its_size():
    cuts = {4: [2, 3], 2: [1, 1], 1: [1, 1]}
    parts = ratio_rows(KEYS, cuts.__getitem__)
    assert [part.tolist() for part in parts] == [[0, 2, 1, 5], [3], [6, 4]]


def test_time_puts_what_is_late_into_the_test_part():
    # times 0 to 6, boundary at the 5/7 percentile: rows 5 and 6 are late
    parts = time_rows(KEYS, np.arange(7.0), (3 / 7, 2 / 7, 2 / 7))
    # early rows of 7: 0 2 3, of which int(3 * 3/5) = 1 trains; of 3: 1 4, of which int(2 * 3/5) = 1 trains
    assert [part.tolist() for part in parts] == [[0, 1], [2, 3, 4], [6, 5]]
