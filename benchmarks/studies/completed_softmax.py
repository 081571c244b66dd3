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
from typing import Any

import torch
from torch import Tensor

from recbole_sce import SASRecSCE, register_model, select_buckets
from recbole_sce.loss.buckets import bucket_centers


def uniform_loss(
    hidden: Tensor, table: Tensor, targets: Tensor, b_y: int, n_uniform: int, alpha: float
) -> Tensor:
    n, c = len(hidden), len(table)
    size = max(1, int(alpha * math.sqrt(n)))
    fixed_hidden, fixed_table = hidden.detach(), table.detach()
    centers = bucket_centers(fixed_hidden, size, True, None)
    buckets = select_buckets(fixed_hidden, fixed_table, centers, size, b_y, (0,))
    rows, items = buckets.rows, buckets.items  # (k, x), (k, y)
    own = (hidden * table[targets]).sum(1)  # (N,)
    uniform = torch.randint(1, c, (n_uniform,))
    outside = hidden @ table[uniform].T  # (N, u)
    is_target = uniform == targets[:, None]  # (N, u)

    inside = torch.einsum("kxd,kyd->kxy", hidden[rows], table[items])
    inside = inside.masked_fill(items[:, None, :] == targets[rows][:, :, None], -math.inf)
    in_bucket = torch.zeros(len(items), c, dtype=torch.bool).scatter_(1, items, True)[:, uniform]  # (k, u)
    dead = in_bucket[:, None, :] | is_target[rows]  # (k, x, u)
    weight = torch.log(max(c - 1 - items.size(1), 0) / (~dead).sum(2).clamp(min=1))  # (k, x)
    rest = outside[rows].masked_fill(dead, -math.inf).logsumexp(2) + weight
    losses = torch.logsumexp(torch.stack([inside.logsumexp(2), own[rows], rest]), 0) - own[rows]  # (k, x)

    largest = torch.zeros(n).scatter_reduce(0, rows.flatten(), losses.flatten(), "amax", include_self=False)
    covered = torch.zeros(n, dtype=torch.bool)
    covered[rows.flatten()] = True
    alone = outside.masked_fill(is_target, -math.inf).logsumexp(1) + math.log((c - 1) / n_uniform)
    return torch.where(covered, largest, torch.logaddexp(own, alone) - own).mean()


@register_model
class SASRecUniformSCE(SASRecSCE):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.n_uniform = int(config["n_uniform"])

    def calculate_loss(self, interaction: Any) -> Tensor:
        hidden, targets = self.training_states(interaction)
        b_y, alpha = self.settings.bucket_size_y, self.settings.bucket_alpha
        return uniform_loss(hidden, self.item_table(), targets, b_y, self.n_uniform, alpha)


def moments_loss(
    hidden: Tensor,
    table: Tensor,
    targets: Tensor,
    b_y: int,
    alpha: float,
    taylor: bool,
    over_buckets: str = "amax",
) -> Tensor:
    n, n_items = len(hidden), len(table) - 1  # row 0 is padding
    size = max(1, int(alpha * math.sqrt(n)))
    fixed_hidden, fixed_table = hidden.detach(), table.detach()
    centers = bucket_centers(fixed_hidden, size, True, None)
    rows, items = select_buckets(fixed_hidden, fixed_table, centers, size, b_y, (0,))  # (k, x), (k, y)
    own = (hidden * table[targets]).sum(1)  # (N,)
    mean = table[1:].mean(0)
    covariance = (table[1:] - mean).T @ (table[1:] - mean) / n_items
    variance = ((hidden @ covariance) * hidden).sum(1)
    # (N,), the log of the mean exponential
    of_one = hidden @ mean + (torch.log1p(variance / 2) if taylor else variance / 2)

    inside = torch.einsum("kxd,kyd->kxy", hidden[rows], table[items])
    inside = inside.masked_fill(items[:, None, :] == targets[rows][:, :, None], -math.inf).logsumexp(2)
    rest = of_one[rows] + (math.log(n_items - items.size(1)) if items.size(1) < n_items else -math.inf)
    losses = torch.logsumexp(torch.stack([inside, own[rows], rest]), 0) - own[rows]  # (k, x)

    of_states, values = rows.flatten(), losses.flatten()  # (k * x,)
    in_buckets = torch.zeros(n).scatter_reduce(0, of_states, values, over_buckets, include_self=False)
    covered = torch.zeros(n, dtype=torch.bool)
    covered[of_states] = True
    alone = of_one + math.log(max(n_items - 1, 1))
    return torch.where(covered, in_buckets, torch.logaddexp(own, alone) - own).mean()


@register_model
class SASRecMomentsSCE(SASRecSCE):
    def __init__(self, config: Any, dataset: Any) -> None:
        super().__init__(config, dataset)
        self.taylor = bool(config["taylor"])
        self.over_buckets = str(config["over_buckets"] or "amax")

    def calculate_loss(self, interaction: Any) -> Tensor:
        hidden, targets = self.training_states(interaction)
        b_y, alpha = self.settings.bucket_size_y, self.settings.bucket_alpha
        return moments_loss(hidden, self.item_table(), targets, b_y, alpha, self.taylor, self.over_buckets)
