from __future__ import annotations

import pytest
import torch
from test_scalable import assert_agree, make
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_sce.loss import (
    BCELoss,
    Buckets,
    CrossEntropyLoss,
    Histories,
    ItemLoss,
    ItemSample,
    LaterTargets,
    LaterTargetsLoss,
    ScalableCrossEntropyLoss,
    check_discount,
    scalable_cross_entropy,
)

#: Targets of four sequences, one of which has no state.
ROWS = [[3, 4, 5, 6], [7, 3], [], [8]]
TARGETS = torch.tensor([item for row in ROWS for item in row])
OWNER = torch.tensor([number for number, row in enumerate(ROWS) for _ in row])


def inputs(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Return hidden (N, d) and items (12, d)."""
    hidden, items, _ = make(len(TARGETS), 12, 5, dtype=dtype)
    return hidden, items


@pytest.mark.parametrize("discount", [0.01, 0.4, 0.99])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_exact_cross_entropy_with_it_is_that_against_all_later_targets(
    discount: float, dtype: torch.dtype, rtol: float
) -> None:
    hidden, items = inputs(dtype)
    distributions = []  # a distribution over the items for each state
    for row in ROWS:
        for place in range(len(row)):
            weights = [discount**k for k in range(len(row) - place)]
            distribution = [0.0] * 12
            for item, weight in zip(row[place:], weights):
                distribution[item] += weight / sum(weights)
            distributions.append(distribution[1:])
    expected = F.cross_entropy(hidden @ items[1:].T, torch.tensor(distributions, dtype=dtype))
    term = LaterTargets(discount)(hidden, items, TARGETS, OWNER)
    assert_agree(CrossEntropyLoss()(hidden, items, TARGETS) + term, expected, (hidden, items), rtol)


def test_a_repeated_item_counts_for_each_time() -> None:
    hidden, items = (tensor.detach() for tensor in inputs())
    term = LaterTargets(0.5)(hidden[:3], items, torch.tensor([3, 4, 3]), torch.zeros(3).long())
    first = hidden[0] @ (items[3] - (1.25 * items[3] + 0.5 * items[4]) / 1.75)
    second = hidden[1] @ (items[4] - (items[4] + 0.5 * items[3]) / 1.5)
    assert float(term) == pytest.approx(float(first + second) / 3)


def test_the_completed_softmax_needs_the_histories_to_have_a_lower_bound() -> None:
    """Of states that look at the item after the next one a sum without it can become as small as liked."""
    items = torch.eye(12, dtype=torch.float64)
    hidden, targets, owner = 10 * items[[4, 4]], torch.tensor([3, 4]), torch.tensor([0, 0])
    buckets = Buckets(torch.tensor([[0, 1]]), torch.tensor([[5]]))
    sample = ItemSample(torch.tensor([6, 7]), 12, 12)
    term = LaterTargets(0.9)(hidden, items, targets, owner)
    losses = [
        scalable_cross_entropy(hidden, items, targets, buckets, sample, histories) + term
        for histories in (Histories(torch.tensor([[3, 4]]), owner), None)
    ]
    assert losses[0] > 0 > losses[1]


def test_losses_say_whether_they_allow_later_targets() -> None:
    assert CrossEntropyLoss().allows_later_targets
    assert ScalableCrossEntropyLoss().allows_later_targets
    for loss_fn in (ScalableCrossEntropyLoss(complete_softmax=False), BCELoss(), nn.Identity()):
        with pytest.raises(
            ValueError, match=rf"target_discount must be 0 with {type(loss_fn).__name__}, got"
        ):
            LaterTargetsLoss(loss_fn, 0.5)


@pytest.mark.parametrize(
    "loss_fn", [CrossEntropyLoss(), ScalableCrossEntropyLoss(n_buckets=2, bucket_size_y=2, n_outside=3)]
)
def test_a_loss_with_later_targets_is_the_sum(loss_fn: ItemLoss) -> None:
    hidden, items = inputs()
    both = LaterTargetsLoss(loss_fn, 0.5)
    seed, row_items = torch.Generator(), torch.tensor([[3, 4, 5, 6], [7, 3, 0, 0], [0] * 4, [8, 0, 0, 0]])
    more = {"histories": Histories(row_items, OWNER)} if both.needs_histories else {}
    actual = both(hidden, items, TARGETS, seed.manual_seed(0), owner=OWNER, **more)
    alone = loss_fn(hidden, items, TARGETS, seed.manual_seed(0), **more)
    assert_agree(actual, alone + LaterTargets(0.5)(hidden, items, TARGETS, OWNER), (hidden, items), 1e-12)
    assert both.last_stats == loss_fn.last_stats
    assert (both.name, both.target_discount) == (loss_fn.name, 0.5)
    assert both.allows_sparse_grad is loss_fn.allows_sparse_grad


def test_a_sparse_gradient_is_one_of_both_parts() -> None:
    hidden, items = inputs()
    loss_fn = LaterTargetsLoss(ScalableCrossEntropyLoss(n_buckets=2, bucket_size_y=2, n_outside=3), 0.5)
    loss_fn.sparse_grad = True
    assert loss_fn.loss_fn.sparse_grad
    assert loss_fn.sparse_grad
    loss = loss_fn(
        hidden, items, TARGETS, owner=OWNER, histories=Histories(TARGETS[:, None], torch.arange(7))
    )
    (gradient,) = torch.autograd.grad(loss, items)
    assert gradient.is_sparse
    with pytest.raises(ValueError, match="sparse_grad must be False with CrossEntropyLoss, got True"):
        LaterTargetsLoss(CrossEntropyLoss(), 0.5).sparse_grad = True


@pytest.mark.parametrize("loss_fn", [nn.Identity(), BCELoss(), CrossEntropyLoss()])
def test_a_loss_that_holds_no_later_targets_is_found_out(loss_fn: nn.Module) -> None:
    check_discount(loss_fn, 0.0)
    with pytest.raises(
        ValueError, match=rf"target_discount must be 0.0 with this {type(loss_fn).__name__}, got 0.4"
    ):
        check_discount(loss_fn, 0.4)
    check_discount(LaterTargetsLoss(CrossEntropyLoss(), 0.4), 0.4)


@pytest.mark.parametrize("sparse", [False, True])
def test_its_gradient_names_the_targets_alone_where_it_is_to_be_sparse(sparse: bool) -> None:
    hidden, items = inputs()
    term = LaterTargets(0.5)
    (dense,) = torch.autograd.grad(term(hidden, items, TARGETS, OWNER), items)
    term.sparse_grad = sparse
    (gradient,) = torch.autograd.grad(term(hidden, items, TARGETS, OWNER), items)
    assert gradient.is_sparse is sparse
    if sparse:
        assert set(gradient.coalesce().indices()[0].tolist()) == set(TARGETS.tolist())
        gradient = gradient.to_dense()
    assert torch.equal(gradient, dense)
    assert dense.any()


def test_without_states_it_is_zero() -> None:
    hidden, items = inputs()
    term = LaterTargets(0.5)(hidden[:0], items, TARGETS[:0], OWNER[:0])
    assert float(term) == 0
    term.backward()
    assert not items.grad.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    hidden, items = inputs(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        term = LaterTargets(0.5)(hidden, items, TARGETS, OWNER)
    assert term.dtype == torch.float32
    expected = LaterTargets(0.5)(hidden.detach().double(), items.detach().double(), TARGETS, OWNER)
    assert float(term) == pytest.approx(float(expected), rel=1e-5)


@pytest.mark.parametrize("discount", [0, 1, -0.1, float("nan")])
def test_impossible_discounts_are_refused(discount: float) -> None:
    with pytest.raises(ValueError, match=f"discount must be a number above 0 and below 1, got {discount}"):
        LaterTargets(discount)


def test_what_are_no_owners_is_refused() -> None:
    hidden, items = inputs()
    with pytest.raises(ValueError, match=r"owner must be .*got shape \(3,\) of torch.int64"):
        LaterTargets(0.5)(hidden, items, TARGETS, OWNER[:3])
