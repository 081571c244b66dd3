from __future__ import annotations

import inspect
import math
from typing import Any

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scalable import assert_agree, gradients, make, random_buckets
from torch.nn import functional as F

from recbole_sce.loss import (
    Buckets,
    CrossEntropyLoss,
    Histories,
    ItemSample,
    LossStats,
    ScalableCrossEntropyLoss,
    bucket_centers,
    sample_items,
    scalable_cross_entropy,
    select_buckets,
)
from recbole_sce.loss.ops import memory
from recbole_sce.loss.sce import outside
from recbole_sce.loss.sce.fused import bucket_loss


def random_histories(n: int, c: int, g: int, length: int, seed: int = 0) -> Histories:
    """Return G lists of up to ``length`` of the items 1 to C - 1, filled up with -1, of N states."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.randint(1, max(c, 2), (g, length), generator=generator).clamp_(max=c - 1)
    items[torch.rand(g, length, generator=generator) < 0.3] = -1
    return Histories(items, torch.randint(g, (n,), generator=generator).sort().values)


def lists(histories: Histories) -> list[list[int]]:
    """Return the items of the history of each state."""
    own: list[list[int]] = histories.items[histories.owner].tolist()
    return [[item for item in items if item >= 0] for items in own]


@pytest.mark.parametrize("excluded", [(), (0,), (0, 7, 8, 99)])
@pytest.mark.parametrize("size", [1, 5, 35, 40, 1000])
def test_each_candidate_is_drawn_at_most_once(size: int, excluded: tuple[int, ...]) -> None:
    candidates = [row for row in range(40) if row not in excluded]
    for seed in range(5):
        rows, n_items, n_rows, left_out = sample_items(
            40, size, excluded, torch.Generator().manual_seed(seed)
        )
        assert (n_items, n_rows, left_out) == (
            len(candidates),
            40,
            tuple(row for row in excluded if row < 40),
        )
        assert rows.tolist() == sorted(set(rows.tolist()) & set(candidates))
        assert len(rows) == min(size, len(candidates))


@pytest.mark.parametrize(("n_rows", "size"), [(51, 10), (501, 10)])  # shuffled, and drawn one by one
def test_all_candidates_are_drawn_alike(n_rows: int, size: int) -> None:
    generator, draws = torch.Generator().manual_seed(0), 4000
    counts, total = torch.zeros(n_rows), 0
    for _ in range(draws):
        rows = sample_items(n_rows, size, (3,), generator).rows
        counts[rows] += 1
        total += len(rows)
    assert 0.97 * size * draws < total <= size * draws
    assert counts[3] == 0
    expected = total / (n_rows - 1)
    counts[3] = expected
    assert float((counts - expected).abs().max()) < 5 * math.sqrt(expected)


def test_the_same_seed_draws_the_same_sample() -> None:
    first, again, other = (sample_items(900, 20, (), torch.Generator().manual_seed(s)) for s in (1, 1, 2))
    assert torch.equal(first.rows, again.rows)
    assert not torch.equal(first.rows, other.rows)


def test_the_estimated_sum_is_right_on_average() -> None:
    hidden, items, targets = (tensor.detach() for tensor in make(1, 200, 4, scale=0.7))
    buckets = random_buckets(1, 200, 1, 1, 20)
    logits = (hidden @ items.T).squeeze(0)
    generator, draws, estimated = torch.Generator().manual_seed(0), 3000, 0.0
    for _ in range(draws):
        loss = scalable_cross_entropy(hidden, items, targets, buckets, sample_items(200, 40, (), generator))
        estimated += math.exp(float(loss + logits[targets])) / draws
    assert estimated == pytest.approx(float(logits.exp().sum()), rel=0.01)
    partial = scalable_cross_entropy(hidden, items, targets, buckets)
    assert math.exp(float(partial + logits[targets])) < 0.5 * estimated


@pytest.mark.parametrize(
    ("sample", "message"),
    [
        (sample_items(31, 30), r"sample must be sample_items\(30, size\).*got one of 31 rows"),
        (sample_items(29, 30), r"sample must be sample_items\(30, size\).*got one of 29 rows"),
        (ItemSample(torch.tensor([3, 2]), 29, 30), "ascending from 0 to 29"),
        (ItemSample(torch.tensor([2, 2]), 29, 30), "ascending from 0 to 29"),
        (ItemSample(torch.tensor([2, 30]), 29, 30), "ascending from 0 to 29"),
        (ItemSample(torch.tensor([-1, 3]), 29, 30), "ascending from 0 to 29"),
    ],
)
def test_what_is_no_sample_of_the_catalogue_is_refused(sample: ItemSample, message: str) -> None:
    hidden, items, targets = make(20, 30, 4)
    with pytest.raises(ValueError, match=message):
        scalable_cross_entropy(hidden, items, targets, random_buckets(20, 30, 4, 9, 9), sample)


@pytest.mark.parametrize("size", [0, -1, 2.5, True, None])
def test_what_is_no_size_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=f"size must be a whole number of at least 1, got {size!r}"):
        sample_items(50, size)


@pytest.mark.parametrize("size", [0, -1, 2.5, True])
def test_what_is_no_size_of_a_sample_is_refused(size: Any) -> None:
    with pytest.raises(ValueError, match=f"n_outside must be a whole number of at least 1, got {size!r}"):
        ScalableCrossEntropyLoss(n_outside=size)


def test_a_sparse_gradient_names_the_rows_touched() -> None:
    hidden, items, targets = make(30, 300, 4, scale=0.7)
    buckets, sample = random_buckets(30, 300, 3, 8, 6), sample_items(300, 20)
    histories = random_histories(30, 300, 4, 9)
    loss = scalable_cross_entropy(hidden, items, targets, buckets, sample, histories)
    (dense,) = torch.autograd.grad(loss, items)
    named, _ = bucket_loss(hidden, items, targets, buckets, True, sample, histories)
    assert float(named.detach()) == pytest.approx(float(loss.detach()))
    (sparse,) = torch.autograd.grad(named, items)
    assert sparse.is_sparse
    own = histories.items[histories.items >= 0]
    touched = torch.cat([buckets.items.flatten(), targets, sample.rows, own]).unique()
    assert torch.equal(sparse.indices()[0], touched)
    assert torch.allclose(sparse.to_dense(), dense)


@settings(max_examples=100, deadline=None)
@given(
    n=st.integers(1, 14),
    c=st.integers(2, 18),
    d=st.integers(1, 5),
    n_b=st.integers(1, 6),
    b_x=st.integers(1, 16),
    b_y=st.integers(1, 20),
    scale=st.sampled_from([1e-3, 1.0, 4.0]),
    n_outside=st.integers(1, 20),
    n_histories=st.integers(1, 5),
    length=st.integers(0, 9),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_reference(
    n: int,
    c: int,
    d: int,
    n_b: int,
    b_x: int,
    b_y: int,
    scale: float,
    n_outside: int,
    n_histories: int,
    length: int,
    seed: int,
) -> None:
    hidden, items, targets = make(n, c, d, seed, scale=scale)
    centers = bucket_centers(hidden.detach(), n_b, True, torch.Generator().manual_seed(seed))
    buckets = select_buckets(hidden.detach(), items.detach(), centers, b_x, b_y)
    sample = sample_items(c, n_outside, (0,), torch.Generator().manual_seed(seed))
    histories = random_histories(n, c, n_histories, length, seed)
    actual = scalable_cross_entropy(hidden, items, targets, buckets, sample, histories)
    expected = reference.completed_scalable_cross_entropy(
        hidden, items, targets, *buckets, sample.rows.tolist(), (0,), lists(histories)
    )
    assert_agree(actual, expected, (hidden, items), 1e-9)


@pytest.mark.parametrize("n_histories", [0, 1, 7, 40])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
def test_random_buckets_in_small_groups_agree_with_the_reference(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, rtol: float, n_histories: int
) -> None:
    monkeypatch.setattr(memory, "_CPU_WORKSPACE", 4000)
    monkeypatch.setattr(outside, "_PIECE", 7)  # histories have more states
    hidden, items, targets = make(40, 60, 6, dtype=dtype)
    buckets = random_buckets(40, 60, 5, 10, 9)
    assert len(buckets.rows.unique()) < 40  # some states are in no bucket
    sample = sample_items(60, 25, (), torch.Generator().manual_seed(0))
    histories = random_histories(40, 60, n_histories, 8) if n_histories else None
    actual = scalable_cross_entropy(hidden, items, targets, buckets, sample, histories)
    own = lists(histories) if histories is not None else None
    expected = reference.completed_scalable_cross_entropy(
        hidden.double(), items.double(), targets, *buckets, sample.rows.tolist(), (), own
    )
    assert_agree(actual, expected, (hidden, items), rtol)


def test_buckets_of_the_whole_catalogue_leave_nothing_to_estimate() -> None:
    hidden, items, targets = make(30, 50, 8)
    buckets = Buckets(torch.arange(30).expand(3, 30), torch.arange(1, 50).expand(3, 49))
    actual = scalable_cross_entropy(hidden, items, targets, buckets, sample_items(50, 10))
    expected = F.cross_entropy(hidden @ items[1:].T, targets - 1)
    assert_agree(actual, expected, (hidden, items), 1e-10)


@pytest.mark.parametrize("b_y", [1, 9, 49])
def test_a_sample_of_the_whole_catalogue_is_exact(b_y: int) -> None:
    hidden, items, targets = make(30, 50, 8)
    buckets = select_buckets(hidden, items, hidden[:4], 7, b_y)
    actual = scalable_cross_entropy(hidden, items, targets, buckets, sample_items(50, 49))
    expected = F.cross_entropy(hidden @ items[1:].T, targets - 1)
    assert_agree(actual, expected, (hidden, items), 1e-10)


@pytest.mark.parametrize("sparse_grad", [False, True])
@pytest.mark.parametrize("n_states", [0, 1, 5, 30])
@pytest.mark.parametrize("n_outside", [49, 2048])
def test_a_loss_whose_sample_holds_all_candidates_estimates_nothing(
    n_outside: int, n_states: int, sparse_grad: bool
) -> None:
    hidden, items, targets = make(n_states, 50, 8)
    loss_fn = ScalableCrossEntropyLoss(bucket_size_y=5, n_outside=n_outside)
    loss_fn.sparse_grad = sparse_grad
    expected = F.cross_entropy(hidden @ items[1:].T, targets - 1, reduction="sum") / max(n_states, 1)
    actual = loss_fn(hidden, items, targets)
    assert float(actual) == pytest.approx(float(expected), rel=1e-10)
    for ours, theirs in zip(gradients(actual, hidden, items), gradients(expected, hidden, items)):
        assert ours.is_sparse is (sparse_grad and ours.shape == items.shape)
        assert torch.allclose(ours.to_dense(), theirs, rtol=1e-10)
    assert loss_fn.last_stats == LossStats(n_states=n_states, n_trained=n_states)


@pytest.mark.parametrize("sparse_grad", [False, True])
@pytest.mark.parametrize(
    "sizes", [{}, {"n_buckets": 30}, {"bucket_size_x": 30}, {"bucket_size_y": 49}, {"alpha": 9.0}]
)
def test_smaller_samples_have_buckets_whatever_the_other_sizes(
    sizes: dict[str, Any], sparse_grad: bool
) -> None:
    hidden, items, targets = make(30, 50, 8)
    loss_fn = ScalableCrossEntropyLoss(**{"bucket_size_y": 5, "n_outside": 48, **sizes})
    loss_fn.sparse_grad = sparse_grad
    loss_fn(hidden, items, targets)
    stats = loss_fn.last_stats
    assert stats.n_buckets > 1
    assert stats.estimated
    assert stats.bucket_coverage is not None


#: What ``null`` means for keys that have it as their default.
AUTOMATIC = {"n_buckets": int(2 * math.sqrt(30)), "bucket_size_x": int(2 * math.sqrt(30))}


@pytest.mark.parametrize(
    "key", [key for key in inspect.signature(ScalableCrossEntropyLoss).parameters if key != "catalog_chunk"]
)
@pytest.mark.parametrize("n_items", [50, 3000])  # no more than the sample, and more
def test_a_parameter_set_to_its_default_changes_nothing(n_items: int, key: str) -> None:
    hidden, items, targets = make(30, n_items, 8)
    default = inspect.signature(ScalableCrossEntropyLoss).parameters[key].default
    outcomes = []
    for chosen in ({}, {key: default}, {key: AUTOMATIC.get(key, default)}):
        loss_fn = ScalableCrossEntropyLoss(**chosen)
        loss = loss_fn(
            hidden, items, targets, torch.Generator().manual_seed(0), random_histories(30, n_items, 4, 6)
        )
        outcomes.append((loss.detach(), *gradients(loss, hidden, items), loss_fn.last_stats))
    for other in outcomes[1:]:
        assert all(torch.equal(one, two) for one, two in zip(outcomes[0][:3], other[:3]))
        assert outcomes[0][3] == other[3]


def test_it_is_closer_to_exact_cross_entropy_than_buckets_alone() -> None:
    hidden, items, targets = make(400, 3000, 16, scale=0.6)
    exact = CrossEntropyLoss()(hidden, items, targets)
    errors, generator, draws = {}, torch.Generator().manual_seed(0), 10
    for complete in (False, True):
        loss_fn = ScalableCrossEntropyLoss(bucket_size_y=64, complete_softmax=complete, n_outside=512)
        losses = [loss_fn(hidden, items, targets, generator) for _ in range(draws)]
        mean = torch.stack(losses).mean()
        cosines = [
            F.cosine_similarity(ours.flatten(), theirs.flatten(), 0)
            for ours, theirs in zip(gradients(mean, hidden, items), gradients(exact, hidden, items))
        ]
        errors[complete] = (abs(float(mean - exact)), *(1 - float(cosine) for cosine in cosines))
    assert all(complete < partial / 4 for complete, partial in zip(errors[True], errors[False]))


def test_large_equal_logits_cancel_in_the_gradient_of_a_state_in_no_bucket() -> None:
    item = torch.full((1, 8), 8192.0)  # whose products have no rounding, in any order
    hidden, items = item.clone().requires_grad_(), item.repeat(50, 1)
    buckets = Buckets(torch.empty(1, 0, dtype=torch.int64), torch.arange(1, 9).unsqueeze(0))
    loss = scalable_cross_entropy(hidden, items, torch.tensor([30]), buckets, sample_items(50, 20))
    assert float(loss) == pytest.approx(math.log(49))
    (gradient,) = torch.autograd.grad(loss, hidden)
    assert float(gradient.abs().max()) < 1e-6 * 8192  # of equals there is nothing to learn


def test_a_sample_with_nothing_outside_adds_nothing() -> None:
    hidden, items, _ = make(20, 50, 4)
    targets = torch.arange(5, 25)
    buckets = Buckets(torch.arange(20).unsqueeze(0), torch.arange(1, 30).unsqueeze(0))
    partial = scalable_cross_entropy(hidden, items, targets, buckets)
    for rows in (torch.arange(1, 30), torch.arange(0)):
        loss = scalable_cross_entropy(hidden, items, targets, buckets, ItemSample(rows, 49, 50))
        assert_agree(loss, partial, (hidden, items), 1e-12)


def test_states_in_no_bucket_are_trained() -> None:
    hidden, items, targets = make(20, 50, 4)
    rows, candidates = torch.tensor([[0, 1]]), torch.arange(1, 9).unsqueeze(0)
    buckets = Buckets(rows, candidates)
    (partial,) = torch.autograd.grad(scalable_cross_entropy(hidden, items, targets, buckets), hidden)
    assert torch.count_nonzero(partial.abs().sum(1)) == 2
    loss = scalable_cross_entropy(hidden, items, targets, buckets, sample_items(50, 10))
    (completed,) = torch.autograd.grad(loss, hidden)
    assert torch.count_nonzero(completed.abs().sum(1)) == 20


def test_the_number_of_trained_states_is_told() -> None:
    hidden, items, targets = make(50, 30, 4)
    for complete in (False, True):
        loss_fn = ScalableCrossEntropyLoss(
            n_buckets=2, bucket_size_x=5, bucket_size_y=4, complete_softmax=complete, n_outside=6
        )
        loss_fn(hidden, items, targets)
        assert loss_fn.last_stats.n_trained == (
            50 if complete else round(50 * loss_fn.last_stats.bucket_coverage)
        )
        assert loss_fn.last_stats.bucket_coverage < 0.5


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(dtype: torch.dtype) -> None:
    hidden, items, targets = make(60, 90, 8, dtype=dtype, scale=0.5)
    buckets = random_buckets(60, 90, 4, 20, 16)
    sample, histories = sample_items(90, 30), random_histories(60, 90, 5, 9)
    actual = scalable_cross_entropy(hidden, items, targets, buckets, sample, histories)
    assert actual.dtype == torch.float32
    assert all(gradient.dtype == dtype for gradient in gradients(actual, hidden, items))
    wide = [tensor.detach().float().requires_grad_() for tensor in (hidden, items)]
    expected = scalable_cross_entropy(*wide, targets, buckets, sample, histories)
    assert float(actual) == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(gradients(actual, hidden, items), gradients(expected, *wide)):
        assert torch.allclose(ours.float(), theirs, rtol=0, atol=0.01 * float(theirs.abs().max()))


def test_frozen_inputs_get_no_gradient() -> None:
    hidden, items, targets = make(30, 40, 4)
    buckets = random_buckets(30, 40, 3, 8, 6)
    more = sample_items(40, 10), random_histories(30, 40, 4, 6)
    both = gradients(scalable_cross_entropy(hidden, items, targets, buckets, *more), hidden, items)
    for frozen, other, expected in ((items, hidden, both[0]), (hidden, items, both[1])):
        frozen.requires_grad_(False)
        loss = scalable_cross_entropy(hidden, items, targets, buckets, *more)
        assert torch.allclose(torch.autograd.grad(loss, other)[0], expected)
        frozen.requires_grad_(True)


def test_no_state_is_a_zero_with_a_graph() -> None:
    hidden, items, targets = make(0, 9, 4)
    buckets = Buckets(torch.empty(2, 0, dtype=torch.int64), torch.tensor([[1, 2], [3, 4]]))
    loss = scalable_cross_entropy(hidden, items, targets, buckets, sample_items(9, 3))
    assert float(loss) == 0
    assert all(not gradient.any() for gradient in gradients(loss, hidden, items))


@pytest.mark.parametrize("n_items", [1, 2])
def test_a_catalogue_of_one_item_has_nothing_to_learn(n_items: int) -> None:
    hidden, items, _ = make(6, n_items, 3)
    targets = torch.full((6,), n_items - 1)
    excluded = (0,) if n_items == 2 else ()
    buckets = select_buckets(hidden, items, hidden[:2], 3, 5, excluded)
    loss = scalable_cross_entropy(hidden, items, targets, buckets, sample_items(n_items, 5, excluded))
    assert float(loss) == pytest.approx(0)
    assert all(torch.isfinite(gradient).all() for gradient in gradients(loss, hidden, items))


def test_states_that_are_no_numbers_are_not_hidden() -> None:
    hidden, items, targets = make(30, 40, 4)
    with torch.no_grad():
        hidden[3] = math.nan
    loss_fn = ScalableCrossEntropyLoss(bucket_size_y=2, complete_softmax=True, n_outside=4)
    loss = loss_fn(hidden, items, targets, histories=random_histories(30, 40, 4, 6))
    assert not math.isfinite(float(loss))
    with torch.autograd.set_detect_anomaly(False):
        (gradient,) = torch.autograd.grad(loss, hidden)
    assert gradient.isfinite().all(1).nonzero().flatten().tolist() == [*range(3), *range(4, 30)]


def test_large_logits_do_not_overflow() -> None:
    hidden, items, targets = make(30, 40, 4, dtype=torch.float32, scale=30.0)
    loss_fn = ScalableCrossEntropyLoss(bucket_size_y=2, complete_softmax=True, n_outside=4)
    loss = loss_fn(hidden, items, targets, histories=random_histories(30, 40, 4, 6))
    assert math.isfinite(float(loss))
    assert all(torch.isfinite(gradient).all() for gradient in gradients(loss, hidden, items))


@pytest.mark.parametrize("of_states", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("of_items", [torch.float64, torch.float32, torch.bfloat16])
def test_states_and_items_may_have_different_dtypes(of_states: torch.dtype, of_items: torch.dtype) -> None:
    hidden, items, targets = make(30, 40, 4)
    mixed = hidden.detach().to(of_states).requires_grad_(), items.detach().to(of_items).requires_grad_()
    loss_fn = ScalableCrossEntropyLoss(bucket_size_y=2, complete_softmax=True, n_outside=4)
    loss = loss_fn(*mixed, targets, torch.Generator().manual_seed(0), random_histories(30, 40, 4, 6))
    assert loss.dtype == (torch.float64 if of_states == torch.float64 else torch.float32)
    assert [gradient.dtype for gradient in gradients(loss, *mixed)] == [of_states, of_items]


def test_deterministic_algorithms_give_the_same() -> None:
    hidden, items, targets = make(60, 80, 6)
    loss_fn = ScalableCrossEntropyLoss(bucket_size_y=7, complete_softmax=True, n_outside=5)
    outcomes = []
    for deterministic in (False, True):
        torch.use_deterministic_algorithms(deterministic)
        try:
            histories = random_histories(60, 80, 4, 6)
            loss = loss_fn(hidden, items, targets, torch.Generator().manual_seed(0), histories)
            outcomes.append((loss.detach(), *gradients(loss, hidden, items)))
        finally:
            torch.use_deterministic_algorithms(False)
    assert all(torch.allclose(one, other, rtol=1e-12, atol=1e-14) for one, other in zip(*outcomes))


def test_a_sample_on_another_device_is_refused() -> None:
    hidden, items, targets = make(30, 40, 4)
    elsewhere = sample_items(40, 10)._replace(rows=torch.arange(5, device="meta"))
    with pytest.raises(ValueError, match=r"sample must be on cpu.*got meta"):
        scalable_cross_entropy(hidden, items, targets, random_buckets(30, 40, 3, 8, 6), elsewhere)


def test_few_candidates_of_a_large_table_are_all_found() -> None:
    sample = sample_items(400, 50, range(2, 400))
    assert sample.rows.tolist() == [0, 1]
    assert (sample.n_items, sample.n_rows) == (2, 400)
