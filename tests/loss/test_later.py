from __future__ import annotations

import pytest
import torch
from test_scalable import assert_agree, make
from torch import Tensor
from torch.nn import functional as F

from recbole_sce.loss import (
    CrossEntropyLoss,
    Histories,
    ScalableCrossEntropyLoss,
    later_targets_term,
    later_weights,
)

ROWS = torch.tensor([[3, 4, 5, 6], [7, 3, 0, 0], [0, 8, 9, 0], [0, 0, 0, 0]])


def states_of(rows: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Return a state (N, d) for each target of ``rows``, items (12, d), and the targets (N,)."""
    targets = rows[rows != 0]
    hidden, items, _ = make(len(targets), 12, 5, dtype=dtype)
    return hidden, items, targets


def test_a_state_weighs_its_own_target_and_later_ones_less_and_less() -> None:
    weights = later_weights(ROWS, 0.5)
    assert weights[0, 0].tolist() == pytest.approx([8 / 15, 4 / 15, 2 / 15, 1 / 15])
    assert weights[0, 2].tolist() == pytest.approx([0, 0, 2 / 3, 1 / 3])
    assert weights[0, 3].tolist() == [0, 0, 0, 1]
    assert weights[1, 0].tolist() == pytest.approx([2 / 3, 1 / 3, 0, 0])
    assert weights[2, 1].tolist() == pytest.approx([0, 2 / 3, 1 / 3, 0])
    assert not weights[ROWS == 0].any()


def test_a_target_missing_in_between_weighs_nothing_and_the_rest_stay_as_far_away() -> None:
    weights = later_weights(torch.tensor([[3, 0, 5]]), 0.5)
    assert weights[0, 0].tolist() == pytest.approx([4 / 5, 0, 1 / 5])


@pytest.mark.parametrize("discount", [0.0, 0.3, 0.99])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_exact_cross_entropy_with_it_is_that_against_all_later_targets(
    discount: float, dtype: torch.dtype, rtol: float
) -> None:
    hidden, items, targets = states_of(ROWS, dtype)
    wanted = []  # a distribution over the items for each state
    for row in ROWS.tolist():
        for place, own in enumerate(row):
            if own:
                later = [(item, discount**k) for k, item in enumerate(row[place:]) if item]
                total = sum(weight for _, weight in later)
                distribution = [0.0] * 12
                for item, weight in later:
                    distribution[item] += weight / total
                wanted.append(distribution[1:])
    expected = F.cross_entropy(hidden @ items[1:].T, torch.tensor(wanted, dtype=dtype))
    actual = CrossEntropyLoss()(hidden, items, targets) + later_targets_term(hidden, items, ROWS, discount)
    assert_agree(actual, expected, (hidden, items), rtol)


def test_with_the_rows_as_histories_the_completed_softmax_has_a_lower_bound() -> None:
    """However far the later targets' logits grow, the sum holds them."""
    hidden, items, targets = states_of(ROWS)
    owner = (ROWS != 0).nonzero()[:, 0]
    loss_fn = ScalableCrossEntropyLoss(1, 1, bucket_size_y=1, complete_softmax=True, n_outside=1)
    for scale in (1, 10, 100):
        large = hidden.detach() * scale
        loss = loss_fn(large, items, targets, histories=Histories(ROWS, owner))
        assert loss + later_targets_term(large, items, ROWS, 0.9) > 0


def test_a_repeated_item_counts_for_each_time() -> None:
    hidden, items, _ = make(1, 12, 5)
    rows = torch.tensor([[3, 4, 3]])
    expected = hidden[0] @ (items[3] - (1 + 0.25) / 1.75 * items[3] - 0.5 / 1.75 * items[4])
    all_three = later_targets_term(hidden.expand(3, -1), items, rows, 0.5) * 3
    last_two = later_targets_term(hidden.expand(2, -1), items, rows[:, 1:], 0.5) * 2
    assert float(all_three - last_two) == pytest.approx(float(expected))


@pytest.mark.parametrize("sparse", [False, True])
def test_its_gradient_names_the_targets_alone_where_it_is_to_be_sparse(sparse: bool) -> None:
    hidden, items, _ = states_of(ROWS)
    (gradient,) = torch.autograd.grad(later_targets_term(hidden, items, ROWS, 0.5, sparse), items)
    assert gradient.is_sparse is sparse
    if sparse:
        assert set(gradient.coalesce().indices()[0].tolist()) <= {0, 3, 4, 5, 6, 7, 8, 9}
        gradient = gradient.to_dense()
    assert not gradient[0].any()
    (dense,) = torch.autograd.grad(later_targets_term(hidden, items, ROWS, 0.5), items)
    assert torch.equal(gradient, dense)


def test_without_states_it_is_zero() -> None:
    hidden, items, _ = states_of(ROWS[3:])
    for rows in (ROWS[3:], ROWS[:0]):
        term = later_targets_term(hidden, items, rows, 0.5)
        assert float(term) == 0
        term.backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    hidden, items, _ = states_of(ROWS, dtype)
    with torch.autocast("cpu", torch.bfloat16):
        term = later_targets_term(hidden, items, ROWS, 0.5)
    assert term.dtype == torch.float32
    expected = later_targets_term(hidden.detach().double(), items.detach().double(), ROWS, 0.5)
    assert float(term) == pytest.approx(float(expected), rel=1e-5)
