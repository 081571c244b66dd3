"""Finite and right at any scale, and gradients against finite differences."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import reference
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_sce.loss import (
    BCELoss,
    Buckets,
    CrossEntropyLoss,
    GBCELoss,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
    bucket_centers,
    scalable_cross_entropy,
    select_buckets,
)

LOSSES: dict[str, Callable[[], nn.Module]] = {
    "SCE": lambda: ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=16),
    "SCE, completed": lambda: ScalableCrossEntropyLoss(bucket_size_y=16, complete_softmax=True, n_outside=16),
    "CE": CrossEntropyLoss,
    "CE-": lambda: SampledCrossEntropyLoss(n_negatives=16),
    "gBCE": lambda: GBCELoss(n_negatives=16),
    "BCE": lambda: BCELoss(n_negatives=16),
}
SCALES = (0.0, 1e-20, 1e-4, 1.0, 1e2, 1e4)
HALF = (torch.bfloat16, torch.float16)


@pytest.fixture(autouse=True)
def _no_anomaly_detection() -> Iterator[None]:
    """Look at gradients that are no numbers; RecBole's import may have turned on what refuses them."""
    with torch.autograd.set_detect_anomaly(False):
        yield


def draw(kind: str, scale: float, n: int = 90, c: int = 200, d: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden (n, d), items (c, d), float32, and targets (n,): scattered, all equal, or own items."""
    generator = torch.Generator().manual_seed(0)
    hidden, items = (torch.randn(rows, d, generator=generator) for rows in (n, c))
    targets = torch.randint(1, c, (n,), generator=generator)
    if kind == "equal":
        hidden, items = hidden[:1].repeat(n, 1), hidden[:1].repeat(c, 1)
    elif kind == "own":
        hidden = 0.37 * items[targets]
    return scale * hidden, scale * items, targets


@pytest.mark.parametrize("kind", ["scattered", "equal", "own"])
@pytest.mark.parametrize("autocast", [None, *HALF])
@pytest.mark.parametrize("loss_type", LOSSES)
def test_finite_at_any_scale(loss_type: str, autocast: torch.dtype | None, kind: str) -> None:
    for scale in SCALES:
        for hidden_dtype in (torch.float32,) if autocast is None else (torch.float32, autocast):
            hidden, items, targets = draw(kind, scale)
            hidden = hidden.to(hidden_dtype).requires_grad_()
            items.requires_grad_()
            with torch.autocast("cpu", dtype=autocast, enabled=autocast is not None):
                loss = LOSSES[loss_type]()(hidden, items, targets)
            loss.backward()
            assert loss.isfinite(), (scale, hidden_dtype)
            assert loss >= 0, (scale, hidden_dtype)
            for gradient in (hidden.grad, items.grad):
                assert gradient is not None
                assert gradient.isfinite().all(), (scale, hidden_dtype)


@pytest.mark.parametrize("scale", [1e2, 1e4])
@pytest.mark.parametrize("loss_type", ["SCE", "CE"])
def test_large_logits_are_those_of_double_precision(loss_type: str, scale: float) -> None:
    hidden, items, targets = draw("scattered", scale)
    hidden.requires_grad_()
    items.requires_grad_()
    buckets = Buckets(torch.arange(90).view(2, 45), torch.arange(1, 199).view(2, 99))

    def both(hidden: Tensor, items: Tensor) -> tuple[Tensor, ...]:
        loss = (
            CrossEntropyLoss()(hidden, items, targets)
            if loss_type == "CE"
            else scalable_cross_entropy(hidden, items, targets, buckets)
        )
        return loss, *torch.autograd.grad(loss, (hidden, items))

    for single, double in zip(both(hidden, items), both(hidden.double(), items.double())):
        atol = 1e-5 * float(double.detach().abs().max())
        assert torch.allclose(single.double(), double, rtol=1e-4, atol=atol)


def test_equal_items_share_the_probability_however_large_they_are() -> None:
    """A large logit must not swallow the logarithm of how many there are."""
    hidden, items, targets = draw("equal", 1e4)
    hidden.requires_grad_()
    CrossEntropyLoss()(hidden, items, targets).backward()
    assert hidden.grad is not None
    # One item in place of another: nothing to gain. Each of 199 with probability 1 would be 199 times 1e4.
    assert hidden.grad.abs().max() < 1e-3 * 1e4 / len(hidden)


@pytest.mark.parametrize("mix_x", [True, False])
@pytest.mark.parametrize("half_states", [True, False])
def test_float16_chooses_buckets_at_any_scale(half_states: bool, mix_x: bool) -> None:
    chosen = []
    for scale in (1.0, 1e4):
        hidden, items, _ = draw("scattered", scale)
        hidden = hidden.half() if half_states else hidden
        with torch.autocast("cpu", dtype=torch.float16):
            centers = bucket_centers(hidden, 12, mix_x, torch.Generator().manual_seed(3))
        assert centers.isfinite().all()
        buckets = select_buckets(hidden, items, centers, 20, 20)
        # No score of a centre leaves the range in which an accelerator would compute it.
        for table in (hidden, items):
            assert (centers.float() @ table.float().T).abs().max() < torch.finfo(centers.dtype).max
        chosen.append([set(row.tolist()) for row in buckets.items])
    common = sum(len(one & other) for one, other in zip(*chosen))
    assert common > 0.95 * 12 * 20


def inputs(n: int = 7, c: int = 9, d: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    hidden, items, targets = draw("scattered", 1.0, n, c, d)
    return hidden.double().requires_grad_(), items.double().requires_grad_(), targets


@pytest.mark.parametrize(("n_b", "b_x", "b_y"), [(1, 7, 9), (5, 4, 3), (3, 2, 1), (2, 7, 8)])
def test_bucket_gradients_are_finite_differences(n_b: int, b_x: int, b_y: int) -> None:
    hidden, items, targets = inputs()
    generator = torch.Generator().manual_seed(5)
    rows, columns = (
        torch.stack([torch.randperm(size, generator=generator)[:k] for _ in range(n_b)])
        for size, k in ((7, b_x), (9, b_y))
    )
    buckets = Buckets(rows, columns)
    # Only states whose largest loss is well ahead of the next have a derivative.
    for losses in reference.bucket_losses(hidden, items, targets, rows, columns):
        first, second = sorted([0.0, 0.0, *(loss.item() for loss in losses)])[:-3:-1]
        assert first == 0 or first - second > 1e-4
    assert torch.autograd.gradcheck(
        lambda hidden, items: scalable_cross_entropy(hidden, items, targets, buckets), (hidden, items)
    )


@pytest.mark.parametrize("loss_type", LOSSES)
def test_gradients_are_finite_differences(loss_type: str) -> None:
    hidden, items, targets = inputs()
    of_one = {"n_buckets": 1, "bucket_size_x": 7}  # all states in one bucket: small moves change no choice
    if loss_type == "SCE":
        loss_fn: nn.Module = ScalableCrossEntropyLoss(**of_one, complete_softmax=False, bucket_size_y=8)
    elif loss_type == "SCE, completed":
        loss_fn = ScalableCrossEntropyLoss(**of_one, bucket_size_y=4, complete_softmax=True, n_outside=4)
    else:
        loss_fn = LOSSES[loss_type]()
    assert torch.autograd.gradcheck(
        lambda hidden, items: loss_fn(hidden, items, targets, torch.Generator().manual_seed(2)),
        (hidden, items),
    )


def test_agrees_with_torch_where_it_is_exact() -> None:
    hidden, items, targets = inputs()
    loss = CrossEntropyLoss()(hidden, items, targets)
    assert torch.allclose(loss, F.cross_entropy(hidden @ items[1:].T, targets - 1))
