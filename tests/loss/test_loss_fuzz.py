"""Any shapes, scales, dtypes, duplicates and buckets against the slow reference."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import reference
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_sce.loss import (
    BCELoss,
    Buckets,
    CrossEntropyLoss,
    GBCELoss,
    SampledCrossEntropyLoss,
    ScalableCrossEntropyLoss,
    scalable_cross_entropy,
)
from recbole_sce.loss.sampled import uniform_negatives

#: Relative error that a sum of a few numbers may have.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 4e-3}
dtypes = st.sampled_from(list(TOLERANCE))
scales = st.sampled_from([0.0, 1e-8, 1e-2, 1.0, 5.0, 50.0])


@st.composite
def inputs(draw: st.DrawFn) -> tuple[Tensor, Tensor, Tensor]:
    """Return hidden (n, d), items (c, d), both leaves, some rows of them equal, and targets (n,)."""
    n, c, d = draw(st.integers(0, 10)), draw(st.integers(2, 12)), draw(st.integers(1, 6))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    tables = []
    for rows in (n, c):
        table = draw(scales) * torch.randn(rows, d, generator=generator, dtype=torch.float64)
        if rows and draw(st.booleans()):
            table = table[torch.randint(rows, (rows,), generator=generator)]
        tables.append(table.to(draw(dtypes)).requires_grad_())
    return *tables, torch.randint(1, c, (n,), generator=generator)  # type: ignore[return-value]


@st.composite
def buckets_of(draw: st.DrawFn, n: int, c: int) -> Buckets:
    """Return buckets that follow no scores, possibly none, or of no states or items."""
    n_b = draw(st.integers(0, 5))
    b_x, b_y = draw(st.integers(0, n)), draw(st.integers(0, c))
    return Buckets(
        *(
            torch.tensor(
                [draw(st.permutations(range(size)))[:k] for _ in range(n_b)], dtype=torch.int64
            ).view(n_b, k)
            for size, k in ((n, b_x), (c, b_y))
        )
    )


def gradients_of(loss: Tensor, *leaves: Tensor) -> list[Tensor]:
    return [
        torch.zeros_like(leaf) if gradient is None else gradient
        for leaf, gradient in zip(leaves, torch.autograd.grad(loss, leaves, allow_unused=True))
    ]


def assert_agree(
    ours: Callable[[Tensor, Tensor], Tensor],
    slow: Callable[[Tensor, Tensor], Tensor],
    hidden: Tensor,
    items: Tensor,
    with_gradients: bool = True,
) -> None:
    """Compare with the reference in double precision of the same, rounded, numbers."""
    exact = [leaf.detach().double().requires_grad_() for leaf in (hidden, items)]
    actual, expected = ours(hidden, items), slow(*exact)
    assert actual.dtype == (torch.float64 if hidden.dtype == torch.float64 else torch.float32)
    # Differences of logits: what they are summed of may be much larger than they are.
    size = max((exact[0].norm(dim=1).max() * exact[1].norm(dim=1).max()).item() if len(hidden) else 0.0, 1.0)
    computed = TOLERANCE[torch.float64 if hidden.dtype == torch.float64 else torch.float32]
    assert abs(actual.item() - expected.item()) <= computed * size
    if not with_gradients:
        return
    for leaf, got, want in zip(
        (hidden, items), gradients_of(actual, hidden, items), gradients_of(expected, *exact)
    ):
        assert got.dtype == leaf.dtype
        largest, longest = (
            table.detach().abs().max().item() if table.numel() else 0.0
            for table in (want, exact[0] if leaf is items else exact[1])
        )
        # Rounded at the end; and made of slopes, each off as far as its logits are.
        atol = TOLERANCE[leaf.dtype] * largest + min(1.0, computed * size) * longest
        tiny = torch.finfo(leaf.dtype).smallest_normal
        assert torch.allclose(got.double(), want, rtol=0, atol=atol + tiny)


@given(data=st.data())
def test_given_buckets(data: st.DataObject) -> None:
    hidden, items, targets = data.draw(inputs())
    buckets = data.draw(buckets_of(len(hidden), len(items)))
    exact = (hidden.detach().double(), items.detach().double())
    # Where two buckets give a state nearly the same loss, either may win, and its gradient with it.
    clear = all(
        len(losses) < 2
        or (top := torch.stack(losses).topk(2).values)[0] - top[1] > 1e-3 * max(1.0, top[0].item())
        for losses in reference.bucket_losses(*exact, targets, *buckets)
    )
    assert_agree(
        lambda x, w: scalable_cross_entropy(x, w, targets, buckets),
        lambda x, w: reference.scalable_cross_entropy(x, w, targets, *buckets) + 0 * (x.sum() + w.sum()),
        hidden,
        items,
        clear,
    )


@given(inputs(), st.integers(1, 6), st.integers(1, 12), st.integers(1, 14), st.booleans())
def test_chosen_buckets_give_a_loss_below_the_exact_one(
    tensors: tuple[Tensor, Tensor, Tensor], n_b: int, b_x: int, b_y: int, mix_x: bool
) -> None:
    """Fewer negatives, smaller sums: no state can lose more than in the full softmax."""
    hidden, items, targets = tensors
    loss_fn = ScalableCrossEntropyLoss(
        complete_softmax=False, n_buckets=n_b, bucket_size_x=b_x, bucket_size_y=b_y, mix_x=mix_x
    )
    loss = loss_fn(hidden, items, targets, torch.Generator().manual_seed(0))
    logits = hidden.detach().double() @ items.detach().double()[1:].T
    worst = F.cross_entropy(logits, targets - 1, reduction="none").max().item() if len(hidden) else 0.0
    assert 0 <= loss.item() <= worst + 1e-5 * max(1.0, logits.abs().max().item() if len(hidden) else 0.0)
    assert all(gradient.isfinite().all() for gradient in gradients_of(loss, hidden, items))
    assert 0 <= loss_fn.last_stats.bucket_coverage <= 1


@given(inputs(), st.booleans())
def test_exact_cross_entropy(tensors: tuple[Tensor, Tensor, Tensor], with_padding: bool) -> None:
    hidden, items, targets = tensors
    first = 0 if with_padding else 1
    assert_agree(
        lambda x, w: CrossEntropyLoss(() if with_padding else (0,))(x, w, targets),
        lambda x, w: F.cross_entropy(x @ w[first:].T, targets - first) if len(x) else 0 * (x.sum() + w.sum()),
        hidden,
        items,
    )


@pytest.mark.parametrize("loss_type", ["CE-", "gBCE", "BCE"])
@given(tensors=inputs(), n_negatives=st.integers(1, 20), calibration=st.floats(0, 1), seed=st.integers(0, 99))
def test_sampled_losses(
    loss_type: str, tensors: tuple[Tensor, Tensor, Tensor], n_negatives: int, calibration: float, seed: int
) -> None:
    hidden, items, targets = tensors
    n_others = len(items) - 2
    makers: dict[str, Callable[[], nn.Module]] = {
        "CE-": lambda: SampledCrossEntropyLoss(n_negatives),
        "gBCE": lambda: GBCELoss(n_negatives, calibration),
        "BCE": lambda: BCELoss(n_negatives),
    }
    generator = torch.Generator().manual_seed(seed)
    negatives = uniform_negatives(targets, len(items), n_negatives, generator=generator)
    assert negatives.shape == (len(hidden), n_negatives if n_others else 0)
    assert not ((negatives == 0) | (negatives == targets.unsqueeze(1))).any()
    beta = 1.0
    if loss_type == "gBCE" and n_others:
        rate = min(1.0, n_negatives / n_others)
        beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)

    def slow(x: Tensor, w: Tensor) -> Tensor:
        own = (x * w[targets]).sum(1)
        others = (x.unsqueeze(1) * w[negatives]).sum(2)
        if loss_type == "CE-":
            losses = torch.cat([own.unsqueeze(1), others], 1).logsumexp(1) - own
        else:
            none = own.new_zeros(())  # log(1 + exp(s)) is what exp(s) and exp(0) add up to
            terms = beta * torch.logaddexp(none, -own) + torch.logaddexp(none, others).sum(1)
            losses = terms / (negatives.size(1) + 1)
        return losses.sum() / max(len(x), 1)

    assert_agree(
        lambda x, w: makers[loss_type]()(x, w, targets, torch.Generator().manual_seed(seed)),
        slow,
        hidden,
        items,
    )
