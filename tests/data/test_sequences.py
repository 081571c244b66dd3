from __future__ import annotations

import numpy as np
import torch

from recbole_sce.data.sequences import gather_padded, next_item_rows, starts_of_runs


def test_rows_predict_all_but_the_first_interaction_of_a_user():
    targets, lengths = next_item_rows(np.array([1, 1, 1, 1, 2, 3, 3]), max_length=2)
    assert targets.tolist() == [1, 2, 3, 6]
    assert lengths.tolist() == [1, 2, 2, 1]


def test_no_rows_where_every_user_has_one_interaction():
    targets, lengths = next_item_rows(np.array([1, 2, 3]), max_length=5)
    assert len(targets) == len(lengths) == 0


def test_starts_of_runs():
    assert starts_of_runs(np.array([4, 4, 2, 2, 4])).tolist() == [True, False, True, False, True]
    assert starts_of_runs(np.array([])).tolist() == []


def test_slices_are_copied_and_padded_behind():
    values = torch.tensor([10, 11, 12, 13, 14])
    table = gather_padded(values, starts=torch.tensor([0, 3, 4]), lengths=torch.tensor([3, 2, 1]), width=4)
    assert table.tolist() == [[10, 11, 12, 0], [13, 14, 0, 0], [14, 0, 0, 0]]
    assert values.tolist() == [10, 11, 12, 13, 14]


def test_slices_keep_dtype_and_further_dimensions():
    values = torch.arange(12, dtype=torch.float32).view(4, 3)
    table = gather_padded(values, torch.tensor([2]), torch.tensor([2]), width=3)
    assert table.dtype == torch.float32
    assert torch.equal(table, torch.cat([values[2:], torch.zeros(1, 3)])[None])


def test_one_row_without_a_batch_dimension():
    assert gather_padded(torch.tensor([7, 8]), torch.tensor(0), torch.tensor(1), width=2).tolist() == [7, 0]
