from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_scalable import assert_agree, gradients, make
from torch.nn import functional as F

from recbole_sce.loss import CrossEntropyLoss, softmax
from recbole_sce.loss.ops import memory


@pytest.fixture(autouse=True, params=["gradients with the loss", "tile by tile"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small catalogues go both ways."""
    monkeypatch.setattr(softmax, "_WHOLE_ROWS", 1 if request.param == "gradients with the loss" else 10**9)


@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_all_rows_in_it_is_torchs_cross_entropy(dtype: torch.dtype, rtol: float) -> None:
    hidden, items, targets = make(300, 500, 8, dtype=dtype)
    actual = CrossEntropyLoss(exclude_items=())(hidden, items, targets)
    assert actual.dtype == dtype
    assert_agree(actual, F.cross_entropy(hidden @ items.T, targets), (hidden, items), rtol)


def test_excluded_rows_are_left_out_of_the_softmax() -> None:
    hidden, items, targets = make(30, 50, 8)
    actual = CrossEntropyLoss()(hidden, items, targets)
    assert_agree(actual, F.cross_entropy(hidden @ items[1:].T, targets - 1), (hidden, items), 1e-10)
    kept = [row for row in range(50) if row not in (0, 49)]
    targets.clamp_(max=48)
    actual = CrossEntropyLoss(exclude_items=(49, 0))(hidden, items, targets)
    assert_agree(actual, F.cross_entropy(hidden @ items[kept].T, targets - 1), (hidden, items), 1e-10)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 40),
    c=st.integers(2, 60),
    d=st.integers(1, 5),
    numbers=st.integers(1, 600),
    states=st.integers(1, 50),
    scale=st.sampled_from([0.0, 1.0, 20.0]),
    seed=st.integers(0, 1000),
)
def test_any_tiling_gives_the_same(
    n: int, c: int, d: int, numbers: int, states: int, scale: float, seed: int
) -> None:
    hidden, items, targets = make(n, c, d, seed, scale=scale)
    expected = F.cross_entropy(hidden @ items[1:].T, targets - 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_CPU_WORKSPACE", 16 * numbers)
        patch.setattr("recbole_sce.loss.softmax._STATES", states)
        assert_agree(CrossEntropyLoss()(hidden, items, targets), expected, (hidden, items), 1e-10)


def test_the_largest_logit_may_come_last() -> None:
    hidden, items, targets = make(5, 5000, 4, dtype=torch.float32)
    with torch.no_grad():
        items[4999] = 50 * hidden[2]
    expected = F.cross_entropy(hidden @ items.T, targets)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_CPU_WORKSPACE", 8 * 5 * 100)
        actual = CrossEntropyLoss(exclude_items=())(hidden, items, targets)
        assert_agree(actual, expected, (hidden, items), 1e-5)


def test_frozen_inputs_get_no_gradient() -> None:
    hidden, items, targets = make(20, 30, 6)
    grad_hidden, grad_items = gradients(CrossEntropyLoss()(hidden, items, targets), hidden, items)
    only_hidden = CrossEntropyLoss()(hidden, items.detach(), targets)
    assert torch.equal(gradients(only_hidden, hidden)[0], grad_hidden)
    only_items = CrossEntropyLoss()(hidden.detach(), items, targets)
    assert torch.equal(gradients(only_items, items)[0], grad_items)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("half_items", [True, False])
def test_half_precision_sums_in_float32(dtype: torch.dtype, half_items: bool) -> None:
    hidden, items, targets = make(64, 300, 16, dtype=torch.float32)
    half_hidden = hidden.detach().to(dtype).requires_grad_()
    table = items.detach().to(dtype if half_items else torch.float32).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        actual = CrossEntropyLoss()(half_hidden, table, targets)
    expected = CrossEntropyLoss()(half_hidden.double(), table.double(), targets)
    assert actual.dtype == torch.float32
    assert float(actual) == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(gradients(actual, half_hidden, table), gradients(expected, half_hidden, table)):
        assert ours.dtype == theirs.dtype
        assert torch.allclose(ours.float(), theirs.float(), rtol=0.02, atol=1e-6)


def test_no_state_is_a_zero_with_a_graph() -> None:
    hidden, items, targets = make(0, 7, 3)
    loss = CrossEntropyLoss()(hidden, items, targets)
    assert float(loss) == 0.0
    assert not gradients(loss, items)[0].any()


def test_strided_inputs_and_scaled_losses() -> None:
    hidden, items, targets = make(20, 30, 6)
    columns = [x.detach().T.contiguous().T.requires_grad_() for x in (hidden, items)]
    (3.0 * CrossEntropyLoss()(*columns, targets)).backward()
    once = gradients(CrossEntropyLoss()(hidden, items, targets), hidden, items)
    for leaf, grad in zip(columns, once):
        assert torch.allclose(leaf.grad, 3.0 * grad, rtol=1e-12)


def test_a_graph_that_is_kept_gives_the_same_gradient_again() -> None:
    hidden, items, targets = make(20, 30, 6)
    loss = CrossEntropyLoss()(hidden, items, targets)
    loss.backward(retain_graph=True)
    once = items.grad.clone()
    loss.backward()
    assert torch.allclose(items.grad, 2 * once, rtol=1e-12)


@pytest.mark.parametrize(("n_items", "at_once"), [(30, True), (20_000, True), (80_000, False)])
def test_gradients_come_with_the_loss_where_rows_fit(
    n_items: int, at_once: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the way of these tests
    hidden, items, targets = make(5, n_items, 2)
    with torch.no_grad():
        assert not CrossEntropyLoss()(hidden, items, targets).requires_grad
    assert ("AtOnce" in CrossEntropyLoss()(hidden, items, targets).grad_fn.name()) is at_once


def test_a_gradient_of_the_gradient_is_refused() -> None:
    hidden, items, targets = make(20, 30, 6)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(CrossEntropyLoss()(hidden, items, targets), hidden, create_graph=True)


def test_compiled_models_may_use_it() -> None:
    hidden, items, targets = make(20, 30, 6)
    compiled = torch.compile(lambda x: CrossEntropyLoss()(2.0 * x, items, targets) + 1.0, backend="eager")
    assert float(compiled(hidden)) == pytest.approx(
        1.0 + float(CrossEntropyLoss()(2.0 * hidden, items, targets)), rel=1e-12
    )


def test_padding_targets_are_refused() -> None:
    hidden, items, targets = make(20, 30, 6)
    targets[4] = 0
    with pytest.raises(ValueError, match=r"targets must be none of exclude_items .*got 0"):
        CrossEntropyLoss()(hidden, items, targets)
    CrossEntropyLoss(exclude_items=())(hidden, items, targets)
