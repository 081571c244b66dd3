"""A study: SCE whose partial softmax is completed in other ways than the package completes it.

SCE leaves out what lies outside a bucket, so it takes the normaliser for smaller than it is.

``sampled_loss`` is the package's: the items of a state's history are scored, a batch shares ``n_outside``
uniform items, and those that are neither in the history nor in a bucket stand for all such items. Without
``near`` the sample stands for all outside the bucket. By ``over_buckets`` the one bucket that counts is that
with the ``largest`` loss inside, as in the package, or all of them do, with the ``mean`` of their losses.

``moments_loss``: the mean of exp(x . w) comes from mean and covariance of all items: exp(x . mu + v / 2), v
the variance of the logits, exact for normally distributed ones, or by ``taylor`` Taylor's expansion
exp(x . mu) (1 + v / 2).

Plain operations of torch: for quality, not for speed. ``run.py`` trains them.
"""

import math
from functools import partial
from typing import Any, Callable, Optional

import torch
from torch import Tensor, nn

from recbole_sce import SASRecSCE, register_model, sample_items, select_buckets
from recbole_sce.loss.buckets import Buckets, bucket_centers
from recbole_sce.loss.histories import Histories


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
    """Return the mean of the losses of states, from those in buckets (k, x) and those in none (N,)."""
    states, n = rows.flatten(), len(alone)
    losses = torch.zeros(n).scatter_reduce(0, states, in_buckets.flatten(), over_buckets, include_self=False)
    covered = torch.zeros(n, dtype=torch.bool)
    covered[states] = True
    return torch.where(covered, losses, alone).mean()


def sampled_loss(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    b_y: int,
    alpha: float,
    n_outside: int,
    over_buckets: str = "largest",
    histories: Optional[Histories] = None,
) -> Tensor:
    c, n = len(table), len(hidden)
    buckets = drawn_buckets(hidden, table, b_y, alpha)
    rows, items = buckets
    own = (hidden * table[targets]).sum(1)  # (N,)
    sample = sample_items(c, n_outside).rows
    logits = hidden @ table.T  # (N, c)

    scored = torch.zeros(n, c, dtype=torch.bool).scatter_(1, targets[:, None], True)
    if histories is not None:
        scored.scatter_(1, histories.items.clamp(min=0)[histories.owner], True)
        scored[:, 0] = False  # padding
    in_bucket = torch.zeros(len(items), c, dtype=torch.bool).scatter_(1, items, True)  # (k, c)
    in_bucket = in_bucket[:, None, :].expand(-1, rows.size(1), -1)  # (k, x, c)

    def completed(of: Tensor, logits: Tensor, inside: Tensor, scored: Tensor) -> Tensor:
        """Return the losses of states with logits ``of`` their targets, from (..., c) of what a sum holds."""
        outside = ~(inside | scored)
        outside[..., 0] = False  # padding
        exact = logits.masked_fill(~(inside | scored), -math.inf).logsumexp(-1)
        left = outside[..., sample]
        stands_for = torch.log(outside.sum(-1) / left.sum(-1).clamp(min=1))
        rest = logits[..., sample].masked_fill(~left, -math.inf).logsumexp(-1) + stands_for
        return torch.logaddexp(exact, rest) - of

    losses = completed(own[rows], logits[rows], in_bucket, scored[rows])  # (k, x)
    of_alone = completed(own, logits, torch.zeros_like(scored), scored)  # (N,)
    if over_buckets == "mean":
        return of_states(losses, of_alone, rows, "mean")
    seen = torch.logaddexp(inside(hidden, table, targets, buckets), own[rows]) - own[rows]  # (k, x)
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


class StudiedLoss(nn.Module):
    """In the place of the package's loss, about which the trainer would tell what is not so here."""

    def __init__(self, loss_fn: Callable[..., Tensor], uses_histories: bool = False) -> None:
        super().__init__()
        self.loss_fn = loss_fn
        self.uses_histories = uses_histories

    def forward(self, hidden: Tensor, table: Tensor, targets: Tensor, **given: Histories) -> Tensor:
        return self.loss_fn(hidden, table, targets, **given)


@register_model
class SASRecSampledSCE(SASRecSCE):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        loss = self.loss_fct
        sizes = {"b_y": loss.bucket_size_y, "alpha": loss.alpha, "n_outside": loss.n_outside}
        over_buckets = str(config["over_buckets"])
        if over_buckets not in ("largest", "mean"):
            raise ValueError(f"over_buckets: {over_buckets!r} is not allowed; largest or mean is")
        loss_fn = partial(sampled_loss, **sizes, over_buckets=over_buckets)
        self.loss_fct = StudiedLoss(loss_fn, uses_histories=bool(config["near"]))


@register_model
class SASRecMomentsSCE(SASRecSCE):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        sizes = {"b_y": self.loss_fct.bucket_size_y, "alpha": self.loss_fct.alpha}
        self.loss_fct = StudiedLoss(partial(moments_loss, **sizes, taylor=bool(config["taylor"])))
