"""The losses as their papers define them, one number after the other. Slow, independent, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def bucket_losses(
    hidden: Tensor, item_embeddings: Tensor, targets: Tensor, rows: Tensor, items: Tensor
) -> list[list[Tensor]]:
    """Return for each state the list of its losses, one a bucket that it is in."""
    losses: list[list[Tensor]] = [[] for _ in range(len(hidden))]
    for bucket_rows, bucket_items in zip(rows.tolist(), items.tolist()):
        for row in bucket_rows:
            own = torch.dot(hidden[row], item_embeddings[targets[row]])
            logits = [own]
            for item in bucket_items:
                if item != int(targets[row]):
                    logits.append(torch.dot(hidden[row], item_embeddings[item]))
            losses[row].append(torch.stack(logits).logsumexp(0) - own)
    return losses


def scalable_cross_entropy(
    hidden: Tensor, item_embeddings: Tensor, targets: Tensor, rows: Tensor, items: Tensor
) -> Tensor:
    """Return the mean over covered states of the largest of their losses; zero where there are none."""
    largest = []
    for losses in bucket_losses(hidden, item_embeddings, targets, rows, items):
        if losses:
            values = [loss.item() for loss in losses]
            largest.append(losses[values.index(max(values))])
    if not largest:
        return 0.0 * (hidden.sum() + item_embeddings.sum())
    return torch.stack(largest).sum() / len(largest)


def top_rows(queries: Tensor, table: Tensor, k: int, excluded: tuple[int, ...] = ()) -> list[set[int]]:
    """Return for each query the set of the k allowed rows with the largest inner products."""
    best = []
    for query in queries:
        scored = [
            (float(torch.dot(query, row)), index) for index, row in enumerate(table) if index not in excluded
        ]
        best.append({index for _, index in sorted(scored, reverse=True)[:k]})
    return best


def sampled_softmax(positive: float, negatives: list[float]) -> float:
    """CE- of one state."""
    return -math.log(math.exp(positive) / (math.exp(positive) + sum(math.exp(s) for s in negatives)))


def gbce(positive: float, negatives: list[float], n_candidates: int, calibration: float) -> float:
    """gBCE of one state (arXiv 2308.07192, equations 9 and 10); calibration 0 is binary cross-entropy."""
    rate = len(negatives) / (n_candidates - 1)
    beta = rate * (calibration * (1 - 1 / rate) + 1 / rate)
    total = math.log((1 / (1 + math.exp(-positive))) ** beta)
    for score in negatives:
        total += math.log(1 - 1 / (1 + math.exp(-score)))
    return -total / (len(negatives) + 1)


def completed_scalable_cross_entropy(
    hidden: Tensor,
    item_embeddings: Tensor,
    targets: Tensor,
    rows: Tensor,
    items: Tensor,
    sampled: list[int],
    excluded: tuple[int, ...],
    histories: list[list[int]] | None = None,
) -> Tensor:
    """Return the mean over states of the loss of their bucket with the largest, and of what is outside.

    The items of a state's history are in the sum. ``sampled`` are items that stand for all others.
    """
    candidates = {index for index in range(len(item_embeddings)) if index not in excluded}
    of_states = []
    for row, (state, target) in enumerate(zip(hidden, targets.tolist())):
        logits = item_embeddings @ state
        of_buckets = [set(own) for members, own in zip(rows.tolist(), items.tolist()) if row in members]
        seen = [sorted(bucket | {target}) for bucket in of_buckets] or [[target]]
        inside = max(seen, key=lambda own: float(logits[own].detach().logsumexp(0)))
        inside = sorted({*inside, *(histories[row] if histories else [])})
        outside = candidates - set(inside)
        terms = list(logits[inside])
        standing = sorted(outside & set(sampled))
        if standing:
            terms += [logits[item] + math.log(len(outside) / len(standing)) for item in standing]
        of_states.append(torch.stack(terms).logsumexp(0) - logits[target])
    return torch.stack(of_states).mean()
