"""A study: SCE whose partial softmax is completed in other ways than the package completes it.

SCE leaves out what lies outside a bucket, so it takes the normaliser for smaller than it is.

``sampled_loss`` is the package's: the items of a state's history are scored, a batch shares ``n_outside``
uniform items, and those that are neither in the history nor in a bucket stand for all such items. Without
``near`` the sample stands for all outside the bucket. By ``over_buckets`` the one bucket that counts is that
with the ``largest`` loss inside, as in the package, or all of them do, with the ``mean`` of their losses.
``partial_loss`` is the paper's, by ``over_buckets`` as well.

``moments_loss``: the mean of exp(x . w) comes from mean and covariance of all items: exp(x . mu + v / 2), v
the variance of the logits, exact for normally distributed ones, or by ``taylor`` Taylor's expansion
exp(x . mu) (1 + v / 2).

Plain operations of torch: for quality, not for speed. ``run.py`` trains them.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from recbole_sce import SASRecSCE, register_model, sample_items, select_buckets
from recbole_sce.loss import ItemLoss
from recbole_sce.loss.sce.buckets import Buckets, bucket_centers
from recbole_sce.loss.sce.histories import Histories


def drawn_buckets(hidden: Tensor, table: Tensor, b_y: int, alpha: float) -> Buckets:
    """Draw the package's buckets: rows (k, x), items (k, y)."""
    size = max(1, int(alpha * math.sqrt(len(hidden))))
    centers = bucket_centers(hidden.detach(), size)
    return select_buckets(hidden.detach(), table.detach(), centers, size, b_y)


def inside(hidden: Tensor, table: Tensor, targets: Tensor, buckets: Buckets) -> Tensor:
    """Return the log of the sum of exp over the items of a bucket but for the target, (k, x)."""
    rows, items = buckets
    logits = torch.einsum("kxd,kyd->kxy", hidden[rows], table[items])
    return logits.masked_fill(items[:, None, :] == targets[rows][:, :, None], -math.inf).logsumexp(2)


def of_states(in_buckets: Tensor, alone: Tensor, rows: Tensor, over_buckets: str = "amax") -> Tensor:
    """Return the mean of the losses of states, from those in buckets (k, x) and those in none (N,).

    ``over_buckets`` is what scatter_reduce makes of the losses of a state in several buckets.
    """
    states, n = rows.flatten(), len(alone)
    losses = torch.zeros(n).scatter_reduce(0, states, in_buckets.flatten(), over_buckets, include_self=False)
    covered = torch.zeros(n, dtype=torch.bool)
    covered[states] = True
    return torch.where(covered, losses, alone).mean()


def partial_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, b_y: int, alpha: float, over_buckets: str
) -> Tensor:
    rows, _ = buckets = drawn_buckets(hidden, table, b_y, alpha)
    own = (hidden * table[targets]).sum(1)  # (N,)
    losses = torch.logaddexp(inside(hidden, table, targets, buckets), own[rows]) - own[rows]  # (k, x)
    over = {"largest": "amax", "mean": "mean"}[over_buckets]
    return of_states(losses, torch.zeros_like(own), rows, over)  # a state in no bucket is not trained


def sampled_loss(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    b_y: int,
    alpha: float,
    n_outside: int,
    over_buckets: str = "largest",
    histories: Histories | None = None,
) -> Tensor:
    c, n = len(table), len(hidden)
    buckets = drawn_buckets(hidden, table, b_y, alpha)
    rows, items = buckets
    own = (hidden * table[targets]).sum(1)  # (N,)
    sample = sample_items(c, n_outside).rows
    of_sample = hidden @ table[sample].T  # (N, K)
    near = torch.zeros(n, 0, dtype=torch.long)
    if histories is not None:
        near = histories.items.clamp(min=0)[histories.owner]  # (N, L), 0 is padding
    of_near = torch.einsum("nd,nld->nl", hidden, table[near])
    scored = torch.zeros(n, c, dtype=torch.bool).scatter_(1, near, True).scatter_(1, targets[:, None], True)
    scored[:, 0] = True  # padding, which no sum needs

    def completed(rows: Tensor, held: Tensor, inside: Tensor) -> Tensor:
        """Return the losses (k, x) of states ``rows`` whose buckets' items are ``held`` (k, c)."""
        held = held[:, None, :]
        near_here = near[rows]  # (k, x, L)
        left_out = (near_here == 0) | (near_here == targets[rows][..., None])
        left_out |= held.expand(-1, rows.size(1), -1).gather(2, near_here)
        outside = (~(scored[rows] | held)).sum(2)  # (k, x)
        left = ~(scored[rows][..., sample] | held[..., sample])  # (k, x, K)
        rest = of_sample[rows].masked_fill(~left, -math.inf).logsumexp(2)
        rest = rest + torch.log(outside / left.sum(2).clamp(min=1))
        of_history = of_near[rows].masked_fill(left_out, -math.inf).logsumexp(2)
        return torch.stack([own[rows], inside, of_history, rest]).logsumexp(0) - own[rows]

    in_bucket = torch.zeros(len(items), c, dtype=torch.bool).scatter_(1, items, True)
    partial = inside(hidden, table, targets, buckets)
    losses = completed(rows, in_bucket, partial)  # (k, x)
    every = torch.arange(n)[None, :]
    nothing = torch.full((1, n), -math.inf)
    of_alone = completed(every, torch.zeros(1, c, dtype=torch.bool), nothing).squeeze(0)  # (N,)
    if over_buckets == "mean":
        return of_states(losses, of_alone, rows, "mean")
    seen = torch.logaddexp(partial, own[rows]) - own[rows]  # (k, x)
    largest = torch.full_like(own, -math.inf).scatter_reduce(0, rows.flatten(), seen.flatten(), "amax")
    return of_states(losses.masked_fill(seen < largest[rows], -math.inf), of_alone, rows)


def moments_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, b_y: int, alpha: float, taylor: bool
) -> Tensor:
    n_items = len(table) - 1  # row 0 is padding
    buckets = drawn_buckets(hidden, table, b_y, alpha)
    rows, items = buckets
    own = (hidden * table[targets]).sum(1)  # (N,)
    mean = table[1:].mean(0)
    covariance = (table[1:] - mean).T @ (table[1:] - mean) / n_items
    variance = ((hidden @ covariance) * hidden).sum(1)
    # (N,), the log of the mean exponential
    of_one = hidden @ mean + (torch.log1p(variance / 2) if taylor else variance / 2)

    rest = of_one[rows] + (math.log(n_items - items.size(1)) if items.size(1) < n_items else -math.inf)
    sums = torch.stack([inside(hidden, table, targets, buckets), own[rows], rest])  # (3, k, x)
    alone = of_one + math.log(max(n_items - 1, 1))
    return of_states(sums.logsumexp(0) - own[rows], torch.logaddexp(own, alone) - own, rows)


class StudiedLoss(ItemLoss):
    """In the place of the package's loss, with statistics of none."""

    def __init__(self, loss_fn: Callable[..., Tensor], needs_histories: bool = False) -> None:
        super().__init__()
        self.loss_fn = loss_fn
        self.needs_histories = needs_histories

    def forward(self, hidden: Tensor, table: Tensor, targets: Tensor, **given: Histories) -> Tensor:
        return self.loss_fn(hidden, table, targets, **given)


class NextItemSASRec(SASRecSCE):
    """SASRecSCE with the next item as the only target, on whatever data: the studies change the loss."""

    def __init__(self, config: Any, dataset: Any) -> None:
        config["target_discount"] = 0.0
        super().__init__(config, dataset)


@register_model
class SASRecSampledSCE(NextItemSASRec):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        sizes = {**sizes_of(self.loss_fct), "n_outside": self.loss_fct.n_outside}
        loss_fn = partial(sampled_loss, **sizes, over_buckets=chosen_over_buckets(config))
        self.loss_fct = StudiedLoss(loss_fn, needs_histories=bool(config["near"]))


@register_model
class SASRecPartialSCE(NextItemSASRec):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        over_buckets = chosen_over_buckets(config)
        self.loss_fct = StudiedLoss(
            partial(partial_loss, **sizes_of(self.loss_fct), over_buckets=over_buckets)
        )


@register_model
class SASRecMomentsSCE(NextItemSASRec):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        loss_fn = partial(moments_loss, **sizes_of(self.loss_fct), taylor=bool(config["taylor"]))
        self.loss_fct = StudiedLoss(loss_fn)


def sizes_of(loss: Any) -> dict[str, Any]:
    return {"b_y": loss.bucket_size_y, "alpha": loss.alpha}


def chosen_over_buckets(config: Any) -> str:
    over_buckets = str(config["over_buckets"])
    if over_buckets not in ("largest", "mean"):
        raise ValueError(f"over_buckets must be largest or mean, got {over_buckets!r}")
    return over_buckets
