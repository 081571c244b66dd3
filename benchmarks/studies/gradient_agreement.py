"""How well losses agree with exact cross-entropy at a trained model: their value and their gradients.

    python benchmarks/studies/gradient_agreement.py saved/SASRecSCE-....pth --batches 4 --draws 10

For hidden states and item table: the cosine between a loss's gradient and the exact one, of a single draw of
buckets or negatives (noise and bias) and of the mean over draws (bias). Also how far logits spread.
"""

import argparse
import math
from functools import partial

import torch
from completed_softmax import StudiedLoss, moments_loss, partial_loss, sampled_loss
from recbole.quick_start import load_data_and_model
from torch import Tensor
from torch.nn.functional import cross_entropy

from recbole_sce import Histories, ScalableCrossEntropyLoss
from recbole_sce.loss.sampled import SampledCrossEntropyLoss

WITHOUT = ", without histories"

LOSSES = {
    "SCE b_y=64": ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=64),
    "SCE b_y=256, alpha=2": ScalableCrossEntropyLoss(complete_softmax=False),
    "SCE b_y=256, no mix": ScalableCrossEntropyLoss(complete_softmax=False, mix_x=False),
    "SCE b_y=256, alpha=4": ScalableCrossEntropyLoss(complete_softmax=False, alpha=4.0),
    "SCE b_y=1024": ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=1024),
    "SCE b_y=4096": ScalableCrossEntropyLoss(complete_softmax=False, bucket_size_y=4096),
    "CE-, 256 uniform": SampledCrossEntropyLoss(n_negatives=256),
    **{
        f"SCE b_y={b_y}, completed by {n:,} items": ScalableCrossEntropyLoss(
            bucket_size_y=b_y, complete_softmax=True, n_outside=n
        )
        for b_y, n in ((64, 2048), (256, 256), (256, 1024), (256, 2048), (256, 4096), (1024, 1024))
    },
    f"SCE b_y=256, completed by 2,048 items{WITHOUT}": ScalableCrossEntropyLoss(complete_softmax=True),
    "SCE b_y=256, the mean over buckets": partial(partial_loss, b_y=256, alpha=2.0, over_buckets="mean"),
    "SCE b_y=256, completed by 2,048 items, the mean over buckets": StudiedLoss(
        partial(sampled_loss, b_y=256, alpha=2.0, n_outside=2048, over_buckets="mean"), needs_histories=True
    ),
    "SCE b_y=256, completed by moments": lambda h, w, y: moments_loss(h, w, y, 256, 2.0, False),
    "SCE b_y=256, completed by the same, Taylor": lambda h, w, y: moments_loss(h, w, y, 256, 2.0, True),
}


def cosine(a: Tensor, b: Tensor) -> float:
    return float((a * b).sum() / (a.norm() * b.norm()))


def agreement(model: torch.nn.Module, batch: object, draws: int) -> tuple[float, dict[str, list[float]]]:
    """Return the exact loss, and of each loss: value, then single and mean cosine of states, of items."""
    with torch.no_grad():
        states, targets, rows = model.training_states(batch)
        histories = Histories(model.row_items(batch), rows)
        items = model.item_table().detach()
    hidden, table = states.clone().requires_grad_(), items.clone().requires_grad_()
    logits = hidden @ table.T
    exact = cross_entropy(logits[:, 1:], targets - 1)  # row 0 is padding
    exact_gradients = torch.autograd.grad(exact, (hidden, table))
    by_loss = {}
    for name, loss_fn in LOSSES.items():
        values, gradients = [], []
        with_them = getattr(loss_fn, "needs_histories", False) and WITHOUT not in name
        given = {"histories": histories} if with_them else {}
        for _ in range(draws):
            loss = loss_fn(hidden, table, targets, **given)
            values.append(float(loss))
            gradients.append(torch.autograd.grad(loss, (hidden, table)))
        row = [sum(values) / draws]
        for own, reference in zip(zip(*gradients), exact_gradients):
            row.append(sum(cosine(one, reference) for one in own) / draws)
            row.append(cosine(sum(own), reference))
        by_loss[name] = row
    return float(exact), by_loss


def spread(model: torch.nn.Module, batch: object) -> tuple[float, float, float]:
    """Return, of a state's logits, deviation, half variance, and log mean exponential less the mean."""
    with torch.no_grad():
        states, _, _ = model.training_states(batch)
        logits = states @ model.item_table()[1:].T  # (N, items)
    above = logits.logsumexp(1) - math.log(logits.size(1)) - logits.mean(1)
    deviation, half_variance, above_mean = (
        float(of_states.mean()) for of_states in (logits.std(1), logits.var(1) / 2, above)
    )
    return deviation, half_variance, above_mean


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--batches", type=int, default=4)
    parser.add_argument("--draws", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    _, model, _, train_data, _, _ = load_data_and_model(arguments.checkpoint)
    torch.manual_seed(arguments.seed)
    model.train()
    batches = [batch for batch, _ in zip(train_data, range(arguments.batches))]
    agreements = [agreement(model, batch, arguments.draws) for batch in batches]
    deviation, half_variance, above = (
        sum(column) / len(batches) for column in zip(*(spread(model, batch) for batch in batches))
    )
    exact = sum(value for value, _ in agreements) / len(agreements)
    print(f"exact cross-entropy {exact:.3f}, of ln(items) = {math.log(len(model.item_table()) - 1):.3f}\n")
    print(
        f"logits of a state: standard deviation {deviation:.2f}, half their variance {half_variance:.2f}, "
        f"log of the mean exponential less the mean {above:.2f}\n"
    )
    print("| loss | value | states, one draw | states, mean | items, one draw | items, mean |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in LOSSES:
        figures = [sum(column) / len(agreements) for column in zip(*(rows[name] for _, rows in agreements))]
        print(f"| {name} | " + " | ".join(f"{figure:.3f}" for figure in figures) + " |")


if __name__ == "__main__":
    main()
