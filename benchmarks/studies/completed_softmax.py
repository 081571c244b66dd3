"""A study: SCE whose partial softmax is completed by something else than ``complete_softmax: True``.

SCE leaves out what lies outside a bucket, so it takes the normaliser for smaller than it is.

``uniform_loss``: a batch shares ``n_uniform`` uniform negatives, and each counts for as many items of the
catalogue as it stands for; states in no bucket are trained by these alone.

``moments_loss``: the mean of exp(x . w) comes from mean and covariance of all items, those of the bucket too,
which the package takes out: exp(x . mu + v / 2), v the variance of the logits, or by ``taylor`` Taylor's
expansion exp(x . mu) (1 + v / 2). By ``over_buckets`` a state in several buckets counts with the largest of
its losses (``amax``, as in the package) or with their ``mean``.

Plain operations of torch: for quality, not for speed. ``run.py`` trains them.
"""

import math
from functools import partial
from typing import Any, Callable

import torch
from torch import Tensor, nn

from recbole_sce import SASRecSCE, register_model, select_buckets
from recbole_sce.loss.buckets import Buckets, bucket_centers


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


def uniform_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, b_y: int, n_uniform: int, alpha: float
) -> Tensor:
    c = len(table)
    buckets = drawn_buckets(hidden, table, b_y, alpha)
    rows, items = buckets
    own = (hidden * table[targets]).sum(1)  # (N,)
    uniform = torch.randint(1, c, (n_uniform,))
    outside = hidden @ table[uniform].T  # (N, u)
    is_target = uniform == targets[:, None]  # (N, u)

    in_bucket = torch.zeros(len(items), c, dtype=torch.bool).scatter_(1, items, True)[:, uniform]  # (k, u)
    dead = in_bucket[:, None, :] | is_target[rows]  # (k, x, u)
    weight = torch.log(max(c - 1 - items.size(1), 0) / (~dead).sum(2).clamp(min=1))  # (k, x)
    rest = outside[rows].masked_fill(dead, -math.inf).logsumexp(2) + weight
    sums = torch.stack([inside(hidden, table, targets, buckets), own[rows], rest])  # (3, k, x)
    alone = outside.masked_fill(is_target, -math.inf).logsumexp(1) + math.log((c - 1) / n_uniform)
    return of_states(sums.logsumexp(0) - own[rows], torch.logaddexp(own, alone) - own, rows)


def moments_loss(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    b_y: int,
    alpha: float,
    taylor: bool,
    over_buckets: str = "amax",
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
    losses = sums.logsumexp(0) - own[rows]
    return of_states(losses, torch.logaddexp(own, alone) - own, rows, over_buckets)


class StudiedLoss(nn.Module):
    """In the place of the package's loss, about which the trainer would tell what is not so here."""

    def __init__(self, loss_fn: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.loss_fn = loss_fn

    def forward(self, hidden: Tensor, table: Tensor, targets: Tensor) -> Tensor:
        return self.loss_fn(hidden, table, targets)


@register_model
class SASRecUniformSCE(SASRecSCE):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        sizes = {"b_y": self.loss_fct.bucket_size_y, "alpha": self.loss_fct.alpha}
        self.loss_fct = StudiedLoss(partial(uniform_loss, **sizes, n_uniform=int(config["n_uniform"])))


@register_model
class SASRecMomentsSCE(SASRecSCE):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        sizes = {"b_y": self.loss_fct.bucket_size_y, "alpha": self.loss_fct.alpha}
        choices = {"taylor": bool(config["taylor"]), "over_buckets": str(config["over_buckets"] or "amax")}
        self.loss_fct = StudiedLoss(partial(moments_loss, **sizes, **choices))
