from __future__ import annotations

import math
from dataclasses import asdict

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from recbole_sce.loss import (
    Buckets,
    LossStats,
    ScalableCrossEntropyLoss,
    bucket_centers,
    scalable_cross_entropy,
    select_buckets,
)
from recbole_sce.loss.ops import memory


def make(
    n: int, c: int, d: int, seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden (n, d), item embeddings (c, d), both leaves, and targets (n,) other than 0."""
    generator = torch.Generator().manual_seed(seed)
    hidden = (scale * torch.randn(n, d, generator=generator, dtype=torch.float64)).to(dtype)
    items = (scale * torch.randn(c, d, generator=generator, dtype=torch.float64)).to(dtype)
    targets = torch.randint(min(1, c - 1), c, (n,), generator=generator)
    return hidden.requires_grad_(), items.requires_grad_(), targets


def random_buckets(n: int, c: int, n_b: int, b_x: int, b_y: int, seed: int = 0) -> Buckets:
    """Return buckets that follow no scores at all."""
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(n, generator=generator)[:b_x] for _ in range(n_b)]
    items = [torch.randperm(c, generator=generator)[:b_y] for _ in range(n_b)]
    return Buckets(torch.stack(rows), torch.stack(items))


def gradients(loss: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, inputs, retain_graph=True)


def assert_agree(actual: Tensor, expected: Tensor, inputs: tuple[Tensor, Tensor], rtol: float) -> None:
    """Compare value and gradients, relative to the largest entry."""
    assert float(actual) == pytest.approx(float(expected), rel=rtol, abs=rtol)
    for ours, theirs in zip(gradients(actual, *inputs), gradients(expected, *inputs)):
        assert ours.shape == theirs.shape
        largest = float(theirs.abs().max()) if theirs.numel() else 0.0
        assert torch.allclose(ours.double(), theirs.double(), rtol=0, atol=rtol * max(largest, 1e-3))


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_buckets_that_cover_everything_give_exact_cross_entropy(dtype: torch.dtype, rtol: float) -> None:
    hidden, items, targets = make(30, 50, 8, dtype=dtype)
    everything = Buckets(torch.arange(30).unsqueeze(0), torch.arange(50).unsqueeze(0))
    actual = scalable_cross_entropy(hidden, items, targets, everything)
    assert_agree(actual, F.cross_entropy(hidden @ items.T, targets), (hidden, items), rtol)


def test_the_module_covers_everything_where_sizes_allow() -> None:
    hidden, items, targets = make(30, 50, 8)
    loss_fn = ScalableCrossEntropyLoss(
        complete_softmax=False, n_buckets=3, bucket_size_x=30, bucket_size_y=49
    )
    actual = loss_fn(hidden, items, targets)
    # All rows but 0, RecBole's padding item.
    expected = F.cross_entropy(hidden @ items[1:].T, targets - 1)
    assert_agree(actual, expected, (hidden, items), 1e-10)
    assert loss_fn.last_stats == LossStats(
        n_states=30, n_trained=30, bucket_coverage=1.0, n_buckets=3, bucket_size_x=30, bucket_size_y=49
    )


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
@pytest.mark.parametrize(("n_b", "b_x", "b_y"), [(1, 3, 5), (6, 9, 12), (11, 24, 40), (4, 24, 1), (5, 1, 7)])
def test_random_buckets_agree_with_the_reference(
    dtype: torch.dtype, rtol: float, n_b: int, b_x: int, b_y: int
) -> None:
    hidden, items, targets = make(24, 40, 6, dtype=dtype)
    buckets = random_buckets(24, 40, n_b, b_x, b_y)
    actual = scalable_cross_entropy(hidden, items, targets, buckets)
    expected = reference.scalable_cross_entropy(hidden.double(), items.double(), targets, *buckets)
    assert_agree(actual, expected, (hidden, items), rtol)


def test_many_small_groups_of_buckets_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, items, targets = make(40, 60, 6)
    buckets = random_buckets(40, 60, 12, 10, 9)
    at_once = scalable_cross_entropy(hidden, items, targets, buckets)
    before = (at_once.detach(), *gradients(at_once, hidden, items))
    monkeypatch.setattr(memory, "_CPU_WORKSPACE", 4000)
    in_groups = scalable_cross_entropy(hidden, items, targets, buckets)
    after = (in_groups.detach(), *gradients(in_groups, hidden, items))
    for one, other in zip(before, after):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 14),
    c=st.integers(1, 18),
    d=st.integers(1, 5),
    n_b=st.integers(1, 6),
    b_x=st.integers(1, 16),
    b_y=st.integers(1, 20),
    scale=st.sampled_from([0.0, 1e-3, 1.0, 6.0]),
    mix_x=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_any_shape_agrees_with_the_reference(
    n: int, c: int, d: int, n_b: int, b_x: int, b_y: int, scale: float, mix_x: bool, seed: int
) -> None:
    hidden, items, targets = make(n, c, d, seed, scale=scale)
    centers = bucket_centers(hidden.detach(), n_b, mix_x, torch.Generator().manual_seed(seed))
    buckets = select_buckets(hidden.detach(), items.detach(), centers, b_x, b_y)
    assert buckets.rows.shape == (n_b, min(b_x, n))
    assert buckets.items.shape == (n_b, min(b_y, max(c - 1, 0)))
    actual = scalable_cross_entropy(hidden, items, targets, buckets)
    if scale > 0:  # all zeros: every bucket of a state has the same loss, and any may win
        expected = reference.scalable_cross_entropy(hidden, items, targets, *buckets)
        assert_agree(actual, expected, (hidden, items), 1e-10)
    assert math.isfinite(float(actual))


def test_targets_receive_gradient_from_outside_their_bucket() -> None:
    hidden, items, _ = make(4, 20, 6)
    targets = torch.tensor([11, 12, 13, 14])
    buckets = Buckets(torch.tensor([[0, 1]]), torch.tensor([[1, 2, 3]]))
    (grad,) = gradients(scalable_cross_entropy(hidden, items, targets, buckets), items)
    touched = grad.abs().sum(1).nonzero().flatten().tolist()
    assert touched == [1, 2, 3, 11, 12]


def test_equal_targets_add_up() -> None:
    hidden, items, _ = make(9, 12, 4)
    targets = torch.full((9,), 5)
    buckets = random_buckets(9, 12, 4, 6, 5)
    actual = scalable_cross_entropy(hidden, items, targets, buckets)
    expected = reference.scalable_cross_entropy(hidden, items, targets, *buckets)
    assert_agree(actual, expected, (hidden, items), 1e-10)


def test_a_state_counts_once_with_its_largest_loss() -> None:
    hidden, items, targets = make(6, 30, 5)
    buckets = Buckets(torch.tensor([[2], [2], [2]]), torch.tensor([[1, 2], [3, 4], [5, 6]]))
    losses = reference.bucket_losses(hidden, items, targets, *buckets)
    actual = scalable_cross_entropy(hidden, items, targets, buckets)
    assert float(actual) == pytest.approx(max(float(loss) for loss in losses[2]), rel=1e-12)


def test_a_loss_of_exactly_zero_is_a_covered_state() -> None:
    # State 0 has no negative but its own target, hence a loss of 0; the mean is over both states.
    hidden, items, _ = make(2, 6, 4)
    targets = torch.tensor([3, 4])
    buckets = Buckets(torch.tensor([[0], [1]]), torch.tensor([[3], [5]]))
    actual = scalable_cross_entropy(hidden, items, targets, buckets)
    of_state_1 = F.cross_entropy(hidden[1:] @ items[[4, 5]].T, torch.tensor([0]))
    assert float(actual) == pytest.approx(float(of_state_1) / 2, rel=1e-12)


@pytest.mark.parametrize(
    "loss_fn",
    [
        ScalableCrossEntropyLoss(complete_softmax=False),
        ScalableCrossEntropyLoss(complete_softmax=False, mix_x=False),
    ],
)
def test_no_state_is_a_zero_with_a_graph(loss_fn: ScalableCrossEntropyLoss) -> None:
    hidden, items, targets = make(0, 7, 3)
    loss = loss_fn(hidden, items, targets)
    assert float(loss) == 0.0
    grad_hidden, grad_items = gradients(loss, hidden, items)
    assert grad_hidden.shape == (0, 3)
    assert grad_items.shape == (7, 3)
    assert not grad_items.any()
    assert loss_fn.last_stats.bucket_coverage == 0.0


def test_a_catalogue_of_one_item_has_nothing_to_learn() -> None:
    hidden, items, targets = make(5, 2, 3)  # row 0 is padding
    loss = ScalableCrossEntropyLoss(complete_softmax=False)(hidden, items, targets)
    grad_hidden, grad_items = gradients(loss, hidden, items)
    assert float(loss) == pytest.approx(0.0, abs=1e-12)
    assert grad_hidden.abs().max() < 1e-12
    assert grad_items.abs().max() < 1e-12


def test_a_catalogue_of_padding_alone_gives_zero() -> None:
    hidden, items, _ = make(5, 1, 3)
    loss = ScalableCrossEntropyLoss(complete_softmax=False, exclude_items=())(
        hidden, items, torch.zeros(5, dtype=torch.int64)
    )
    assert float(loss) == pytest.approx(0.0, abs=1e-12)


def test_the_padding_item_is_never_a_negative() -> None:
    hidden, items, targets = make(40, 30, 6)
    with torch.no_grad():
        items[0] = 100 * hidden.detach().mean(0) + 100
    (grad,) = gradients(
        ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=64)(hidden, items, targets), items
    )
    assert not grad[0].any()
    (grad,) = gradients(
        ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=64, exclude_items=())(
            hidden, items, targets
        ),
        items,
    )
    assert grad[0].any()


def test_sizes_used_are_reported() -> None:
    hidden, items, targets = make(100, 30, 6)
    loss_fn = ScalableCrossEntropyLoss(complete_softmax=False, alpha=2.0)
    loss_fn(hidden, items, targets)
    stats = loss_fn.last_stats
    assert (stats.n_buckets, stats.bucket_size_x, stats.bucket_size_y) == (20, 20, 29)
    assert all(type(value) in (int, float, bool) for value in asdict(stats).values())


def test_coverage_is_the_share_of_states_in_a_bucket() -> None:
    hidden, items, targets = make(10, 30, 6)
    loss_fn = ScalableCrossEntropyLoss(complete_softmax=False, n_buckets=1, bucket_size_x=4)
    loss_fn(hidden, items, targets)
    assert loss_fn.last_stats.bucket_coverage == pytest.approx(0.4)


def test_the_same_seed_gives_the_same_loss() -> None:
    hidden, items, targets = make(200, 300, 6)
    loss_fn = ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=8)
    seeds = (1, 1, 2)
    losses = [float(loss_fn(hidden, items, targets, torch.Generator().manual_seed(s))) for s in seeds]
    assert losses[0] == losses[1] != losses[2]
    torch.manual_seed(3)
    first = float(loss_fn(hidden, items, targets))
    torch.manual_seed(3)
    assert float(loss_fn(hidden, items, targets)) == first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("half_items", [True, False])
def test_half_precision_sums_in_float32(dtype: torch.dtype, half_items: bool) -> None:
    hidden, items, targets = make(64, 300, 16, dtype=torch.float32)
    half_hidden = hidden.detach().to(dtype).requires_grad_()
    table = items.detach().to(dtype if half_items else torch.float32).requires_grad_()
    buckets = random_buckets(64, 300, 16, 16, 32)
    actual = scalable_cross_entropy(half_hidden, table, targets, buckets)
    expected = scalable_cross_entropy(half_hidden.double(), table.double(), targets, buckets)
    assert actual.dtype == torch.float32
    assert float(actual) == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(gradients(actual, half_hidden, table), gradients(expected, half_hidden, table)):
        assert ours.dtype == theirs.dtype
        assert torch.allclose(ours.float(), theirs.float(), rtol=0.02, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_the_loss_close(dtype: torch.dtype) -> None:
    hidden, items, targets = make(64, 300, 16, dtype=torch.float32)
    projection = torch.eye(16, requires_grad=True)
    buckets = random_buckets(64, 300, 16, 16, 32)
    expected = scalable_cross_entropy(hidden, items, targets, buckets)
    with torch.autocast("cpu", dtype):
        projected = hidden @ projection
        assert projected.dtype == dtype
        actual = scalable_cross_entropy(projected, items, targets, buckets)
        drawn = ScalableCrossEntropyLoss(complete_softmax=False)(projected, items, targets)
    assert actual.dtype == drawn.dtype == torch.float32
    assert float(actual) == pytest.approx(float(expected), rel=0.02)
    drawn.backward()
    assert projection.grad is not None
    assert projection.grad.isfinite().all()


def test_frozen_inputs_get_no_gradient() -> None:
    hidden, items, targets = make(20, 30, 6)
    buckets = random_buckets(20, 30, 4, 9, 9)
    both = scalable_cross_entropy(hidden, items, targets, buckets)
    grad_hidden, grad_items = gradients(both, hidden, items)
    only_hidden = scalable_cross_entropy(hidden, items.detach(), targets, buckets)
    assert torch.equal(gradients(only_hidden, hidden)[0], grad_hidden)
    only_items = scalable_cross_entropy(hidden.detach(), items, targets, buckets)
    assert torch.equal(gradients(only_items, items)[0], grad_items)
    assert not scalable_cross_entropy(hidden.detach(), items.detach(), targets, buckets).requires_grad


def test_nothing_is_computed_for_a_frozen_table(monkeypatch: pytest.MonkeyPatch) -> None:
    from recbole_sce.loss.sce import fused

    def refuse(*args: object) -> None:
        raise AssertionError("a gradient of the frozen table was prepared")

    hidden, items, targets = make(20, 30, 6)
    monkeypatch.setattr(fused, "RowGradient", refuse)
    scalable_cross_entropy(hidden, items.detach(), targets, random_buckets(20, 30, 4, 9, 9)).backward()
    assert hidden.grad is not None


def test_inputs_need_not_be_contiguous() -> None:
    hidden, items, targets = make(20, 30, 6)
    buckets = random_buckets(20, 30, 4, 9, 9)
    expected = scalable_cross_entropy(hidden, items, targets, buckets)
    columns = [x.detach().T.contiguous().T.requires_grad_() for x in (hidden, items)]
    assert not columns[0].is_contiguous()
    strided = torch.stack([targets, targets], 1)[:, 0]
    crossed = Buckets(*(part.T.contiguous().T for part in buckets))
    actual = scalable_cross_entropy(*columns, strided, crossed)
    assert float(actual) == pytest.approx(float(expected), rel=1e-12)
    for ours, theirs in zip(gradients(actual, *columns), gradients(expected, hidden, items)):
        assert torch.allclose(ours, theirs, rtol=1e-12)
    ScalableCrossEntropyLoss(complete_softmax=False)(*columns, strided).backward()


def test_gradients_accumulate_and_scale() -> None:
    hidden, items, targets = make(20, 30, 6)
    buckets = random_buckets(20, 30, 4, 9, 9)
    loss = scalable_cross_entropy(hidden, items, targets, buckets)
    once = gradients(loss, hidden, items)
    (3.0 * loss).backward(retain_graph=True)
    loss.backward()
    for leaf, grad in zip((hidden, items), once):
        assert torch.allclose(leaf.grad, 4.0 * grad, rtol=1e-12)


def test_a_gradient_of_the_gradient_is_refused() -> None:
    hidden, items, targets = make(20, 30, 6)
    loss = scalable_cross_entropy(hidden, items, targets, random_buckets(20, 30, 4, 9, 9))
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(loss, hidden, create_graph=True)


def test_states_that_are_no_numbers_are_not_hidden() -> None:
    # Importing RecBole turns anomaly detection on, which would refuse the gradient that is looked for here.
    hidden, items, targets = make(20, 30, 6)
    with torch.no_grad():
        hidden[3] = torch.nan
    buckets = random_buckets(20, 30, 1, 20, 9)
    loss = scalable_cross_entropy(hidden, items, targets, buckets)
    assert math.isnan(float(loss))
    with torch.autograd.set_detect_anomaly(False):
        assert gradients(loss, hidden)[0][3].isnan().all()
    assert math.isnan(float(ScalableCrossEntropyLoss(complete_softmax=False)(hidden, items, targets)))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_states_that_are_no_numbers_are_not_hidden_by_falling_into_no_bucket(value: float) -> None:
    hidden, items, targets = make(20, 30, 6)
    with torch.no_grad():
        hidden[19, 2] = value
    buckets = Buckets(torch.arange(10).unsqueeze(0), torch.arange(1, 9).unsqueeze(0))
    assert not math.isfinite(float(scalable_cross_entropy(hidden, items, targets, buckets)))
    for mix_x in (True, False):
        assert not math.isfinite(
            float(ScalableCrossEntropyLoss(complete_softmax=False, mix_x=mix_x)(hidden, items, targets))
        )


def test_large_logits_do_not_overflow() -> None:
    hidden, items, targets = make(20, 30, 6, dtype=torch.float32, scale=60.0)
    buckets = random_buckets(20, 30, 4, 9, 9)
    loss = scalable_cross_entropy(hidden, items, targets, buckets)
    expected = reference.scalable_cross_entropy(hidden.double(), items.double(), targets, *buckets)
    assert float(expected) > 1000
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    assert all(grad.isfinite().all() for grad in gradients(loss, hidden, items))


@pytest.mark.parametrize(("n_outside", "complete"), [(4, False), (4, True), (29, True)])
def test_compiled_models_may_use_it(n_outside: int, complete: bool) -> None:
    hidden, items, targets = make(20, 30, 6)
    loss_fn = ScalableCrossEntropyLoss(bucket_size_y=2, complete_softmax=complete, n_outside=n_outside)

    def step(states: Tensor) -> Tensor:
        return loss_fn(2.0 * states, items, targets, torch.Generator().manual_seed(0)) + 1.0

    compiled = torch.compile(step, backend="aot_eager")
    assert float(compiled(hidden)) == pytest.approx(float(step(hidden)), rel=1e-12)
    for ours, theirs in zip(
        gradients(compiled(hidden), hidden, items), gradients(step(hidden), hidden, items)
    ):
        assert torch.allclose(ours, theirs, rtol=1e-12)


def test_a_large_gradient_is_kept_without_a_copy() -> None:
    # 32 MiB: past the size from which untouched parts cost nothing.
    items = torch.randn(2**17, 64, requires_grad=True)
    hidden = torch.randn(50, 64, requires_grad=True)
    targets = torch.randint(1, 2**17, (50,))
    loss_fn = ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=16)
    for _ in range(2):
        loss_fn(hidden, items, targets, torch.Generator().manual_seed(0)).backward()
    other = items.detach().clone().requires_grad_()
    buckets = select_buckets(
        hidden.detach(),
        other.detach(),
        bucket_centers(hidden.detach(), 14, True, torch.Generator().manual_seed(0)),
        14,
        16,
    )
    scalable_cross_entropy(hidden.detach(), other, targets, buckets).backward()
    assert torch.allclose(items.grad, 2 * other.grad, atol=1e-6)
    torch.optim.Adam([items]).step()
    assert items.isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h, w, y: (h[0], w, y), "hidden must have two dimensions"),
        (lambda h, w, y: (h, w[:, :3], y), "hidden must have rows of width 3, .* got 6"),
        (lambda h, w, y: (h, w[:0], y), "item_embeddings must have at least one row"),
        (lambda h, w, y: (h, w.long(), y), "item_embeddings must have two dimensions"),
        (lambda h, w, y: (h, w, y[1:]), "targets must be .* of torch.int64"),
        (lambda h, w, y: (h, w, y.int()), "targets must be .* of torch.int64"),
        (lambda h, w, y: (h, w, y + 30), "targets must be from 0 to 29"),
        (lambda h, w, y: (h, w, y - 30), "targets must be from 0 to 29.* got -"),
    ],
)
def test_bad_input_is_named(change, message: str) -> None:  # type: ignore[no-untyped-def]
    inputs = change(*make(20, 30, 6))
    with pytest.raises(ValueError, match=message):
        ScalableCrossEntropyLoss(complete_softmax=False)(*inputs)
    with pytest.raises(ValueError, match=message):
        scalable_cross_entropy(*inputs, random_buckets(20, 30, 4, 9, 9))


def test_padding_targets_are_refused() -> None:
    hidden, items, targets = make(20, 30, 6)
    targets[4] = 0
    with pytest.raises(ValueError, match=r"targets must be none of exclude_items .*got 0"):
        ScalableCrossEntropyLoss(complete_softmax=False)(hidden, items, targets)


@pytest.mark.parametrize(
    "setting",
    [
        {"n_buckets": 0},
        {"bucket_size_x": -1},
        {"bucket_size_y": 0},
        {"bucket_size_y": 2.5},
        {"alpha": 0.0},
        {"alpha": math.nan},
        {"catalog_chunk": True},
    ],
)
def test_bad_settings_are_named(setting: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(setting))} must be .*, got "):
        ScalableCrossEntropyLoss(complete_softmax=False, **setting)  # type: ignore[arg-type]
