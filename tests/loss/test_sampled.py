from __future__ import annotations

import pytest
import reference
import torch
from test_scalable import assert_agree, gradients, make
from torch import Tensor, nn
from torch.nn import functional as F

from recbole_sce.loss import BCELoss, CrossEntropyLoss, GBCELoss, SampledCrossEntropyLoss
from recbole_sce.loss.ops import memory
from recbole_sce.loss.sampled import uniform_negatives

LOSSES = [SampledCrossEntropyLoss, GBCELoss, BCELoss]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def by_hand(loss_fn: nn.Module, logits: Tensor, n_candidates: int) -> list[float]:
    values = []
    for positive, *negatives in logits.tolist():
        if isinstance(loss_fn, SampledCrossEntropyLoss):
            values.append(reference.sampled_softmax(positive, negatives))
        else:
            values.append(reference.gbce(positive, negatives, n_candidates, loss_fn.calibration))
    return values


@pytest.mark.parametrize(
    "loss_fn",
    [SampledCrossEntropyLoss(7), GBCELoss(7, 0.75), GBCELoss(7, 1.0), GBCELoss(7, 0.0), BCELoss(7)],
    ids=str,
)
def test_values_are_those_of_the_definition(loss_fn: nn.Module) -> None:
    hidden, items, targets = make(25, 40, 6)
    negatives = uniform_negatives(targets, 40, 7, (0,), seeded(3))
    logits = torch.stack(
        [torch.stack([h @ items[i] for i in (y, *row)]) for h, y, row in zip(hidden, targets, negatives)]
    )
    expected = sum(by_hand(loss_fn, logits, 39)) / 25
    assert float(loss_fn(hidden, items, targets, seeded(3))) == pytest.approx(expected, rel=1e-10)


@pytest.mark.parametrize("loss_class", LOSSES)
def test_gradients_are_those_of_autograd(
    loss_class: type[nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_CPU_WORKSPACE", 4000)  # several chunks
    hidden, items, targets = make(25, 40, 6)
    loss_fn = loss_class(n_negatives=30)
    actual = loss_fn(hidden, items, targets, seeded())
    rows = torch.cat([targets.unsqueeze(1), uniform_negatives(targets, 40, 30, (0,), seeded())], 1)
    logits = (items[rows] * hidden.unsqueeze(1)).sum(-1)
    assert_agree(actual, loss_fn.state_losses(logits, 40).mean(), (hidden, items), 1e-10)


def test_calibration_one_leaves_the_sampling_rate() -> None:
    # Only the target's term is left: beta = K / (n - 1).
    logits = torch.tensor([[0.5, -1e9, -1e9]], dtype=torch.float64)
    loss = GBCELoss(2, 1.0).state_losses(logits, n_items=12)
    assert float(loss) == pytest.approx(2 / 10 * float(F.softplus(torch.tensor(-0.5))) / 3, rel=1e-6)


def test_every_other_item_is_drawn_equally_often() -> None:
    targets = torch.tensor([1, 4, 9])
    drawn = uniform_negatives(targets, 10, 60_000, (0, 5), seeded())
    assert drawn.shape == (3, 60_000)
    for target, row in zip(targets.tolist(), drawn):
        counts = torch.bincount(row, minlength=10)
        allowed = [item for item in range(10) if item not in (0, 5, target)]
        assert counts[[0, 5, target]].sum() == 0
        assert torch.allclose(counts[allowed] / 60_000, torch.tensor(1 / 7), atol=0.01)


def test_without_another_item_there_are_no_negatives() -> None:
    assert uniform_negatives(torch.tensor([1, 1]), 2, 5, (0,)).shape == (2, 0)
    hidden, items, targets = make(5, 2, 3)
    assert float(SampledCrossEntropyLoss()(hidden, items, targets)) == pytest.approx(0.0, abs=1e-12)
    expected = F.softplus(-(hidden @ items[1])).mean()
    for loss_fn in (GBCELoss(), BCELoss()):
        assert_agree(loss_fn(hidden, items, targets), expected, (hidden, items), 1e-10)


def test_many_negatives_come_close_to_the_exact_loss() -> None:
    hidden, items, targets = make(4, 12, 3)
    exact = CrossEntropyLoss()(hidden, items, targets)
    logits = hidden @ items.T
    sampled = []
    for seed in range(2):
        negatives = uniform_negatives(targets, 12, 100_000, (0,), seeded(seed))
        # Ten other items: a draw stands for ten hundred-thousandths of the sum.
        others = logits.gather(1, negatives).exp().mean(1) * 10
        own = logits.gather(1, targets.unsqueeze(1)).squeeze(1)
        sampled.append(float((torch.log(own.exp() + others) - own).mean()))
    assert sampled == pytest.approx([float(exact)] * 2, rel=0.02)


@pytest.mark.parametrize("loss_class", LOSSES)
def test_the_same_seed_gives_the_same_loss(loss_class: type[nn.Module]) -> None:
    hidden, items, targets = make(25, 400, 6)
    first, again, other = (float(loss_class(9)(hidden, items, targets, seeded(s))) for s in (1, 1, 2))
    assert first == again != other


@pytest.mark.parametrize("loss_class", LOSSES)
def test_no_state_is_a_zero_with_a_graph(loss_class: type[nn.Module]) -> None:
    hidden, items, targets = make(0, 7, 3)
    loss = loss_class()(hidden, items, targets)
    assert float(loss) == 0.0
    assert gradients(loss, hidden)[0].shape == (0, 3)
    assert not gradients(loss, items)[0].any()


@pytest.mark.parametrize("loss_class", LOSSES)
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_sums_in_float32(loss_class: type[nn.Module], dtype: torch.dtype) -> None:
    hidden, items, targets = make(64, 300, 16, dtype=torch.float32)
    half = [x.detach().to(dtype).requires_grad_() for x in (hidden, items)]
    with torch.autocast("cpu", torch.bfloat16):
        actual = loss_class(30)(*half, targets, seeded())
    expected = loss_class(30)(*(x.double() for x in half), targets, seeded())
    assert actual.dtype == torch.float32
    assert float(actual) == pytest.approx(float(expected), rel=1e-5)
    for ours, theirs in zip(gradients(actual, *half), gradients(expected, *half)):
        assert torch.allclose(ours.float(), theirs.float(), rtol=0.02, atol=1e-6)


def test_frozen_inputs_and_second_gradients() -> None:
    hidden, items, targets = make(20, 30, 6)
    loss_fn = BCELoss(5)
    grad_hidden, grad_items = gradients(loss_fn(hidden, items, targets, seeded()), hidden, items)
    only_hidden = loss_fn(hidden, items.detach(), targets, seeded())
    assert torch.equal(gradients(only_hidden, hidden)[0], grad_hidden)
    only_items = loss_fn(hidden.detach(), items, targets, seeded())
    assert torch.equal(gradients(only_items, items)[0], grad_items)
    with pytest.raises(RuntimeError, match="differentiated once"):
        torch.autograd.grad(only_hidden, hidden, create_graph=True)


@pytest.mark.parametrize("loss_class", LOSSES)
def test_bad_settings_are_named(loss_class: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match="n_negatives must be a whole number of at least 1, got 0"):
        loss_class(n_negatives=0)


@pytest.mark.parametrize("calibration", [-0.1, 1.1, float("nan")])
def test_bad_calibration_is_named(calibration: float) -> None:
    with pytest.raises(ValueError, match="calibration must be a number from 0 to 1, got "):
        GBCELoss(calibration=calibration)
