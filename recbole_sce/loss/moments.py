"""The mean of exp(x . w) over a catalogue, from moments: what a softmax holds of items that nobody scores.

For a state x the logits x . w_i of a catalogue have mean x . mu and variance x' Sigma x, mu and Sigma being
mean and covariance of the item embeddings. By the cumulant expansion up to the second order, exact for
logits that are normally distributed::

    log mean_i exp(x . w_i)  =  x . mu + x' Sigma x / 2

That is d * d numbers a catalogue and d * d operations a state, however many items there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from recbole_sce.loss.inputs import excluded_rows
from recbole_sce.loss.logits import compute_dtype, gather_rows, row_slices
from recbole_sce.loss.memory import RowGradient

#: Moments of a larger catalogue come from a sample of so many of its items, drawn anew each time: its
#: covariance is then right to about one percent, and costs no more than that of a small catalogue.
_SAMPLE = 2**14
#: So many items take the gradient of all, each the larger share of it, where gradients are to be sparse.
_SPARSE_ROWS = 2**12


class ItemMoments(NamedTuple):
    """Mean and covariance of the item embeddings of a catalogue.

    ``mean`` (d,) and ``covariance`` (d, d) are in float32 (float64 for float64 embeddings). ``rows`` (m,)
    int64 are the rows that receive the gradient, each 1/m of it: all, or drawn by chance from all, so that it
    is right on average. ``n_items`` is how many items there are.
    """

    mean: Tensor
    covariance: Tensor
    rows: Tensor
    n_items: int


@torch.no_grad()
def item_moments(
    item_embeddings: Tensor,
    exclude_items: Sequence[int] = (0,),
    generator: Optional[torch.Generator] = None,
    sparse_grad: bool = False,
) -> ItemMoments:
    """Return mean and covariance of item embeddings: of all, or of a sample where there are over 16,384.

    Args:
        item_embeddings: (C, d) floating point.
        exclude_items: rows that are no items. RecBole's row 0 is padding.
        generator: source of the sample, on the device of ``item_embeddings``; None is torch's global one.
        sparse_grad: whether at most 4,096 rows, drawn by chance, are to receive the gradient.
    """
    n_rows, device = len(item_embeddings), item_embeddings.device
    excluded = torch.tensor(excluded_rows(exclude_items, n_rows), dtype=torch.int64, device=device)
    if n_rows <= _SAMPLE:
        rows = torch.arange(n_rows, device=device)
    else:
        rows = torch.randint(n_rows, (_SAMPLE,), generator=generator, device=device)
    rows = rows[torch.isin(rows, excluded, invert=True)]
    width, dtype = item_embeddings.size(1), compute_dtype(item_embeddings)
    mean = torch.zeros(width, dtype=dtype, device=device)
    covariance = torch.zeros(width, width, dtype=dtype, device=device)
    n = max(len(rows), 1)
    with torch.autocast(device.type, enabled=False):
        for part in row_slices(len(rows), 2 * width, item_embeddings):
            mean += gather_rows(item_embeddings, rows[part], dtype).sum(0) / n
        # In a second pass: the difference of raw moments would be mostly rounding where the mean is long.
        for part in row_slices(len(rows), 3 * width, item_embeddings):
            apart = gather_rows(item_embeddings, rows[part], dtype) - mean  # (c, d)
            covariance.addmm_(apart.T, apart, alpha=1 / n)
    if sparse_grad and len(rows) > _SPARSE_ROWS:
        rows = rows[torch.randint(len(rows), (_SPARSE_ROWS,), generator=generator, device=device)]
    return ItemMoments(mean, covariance, rows, n_rows - len(excluded))


def log_mean_exp(hidden: Tensor, moments: ItemMoments) -> Tensor:
    """Return log mean_i exp(x . w_i) of each state, (N,), up to the second order of the logits.

    Args:
        hidden: (N, d) floating point.
        moments: of the item embeddings.
    """
    means = hidden.new_empty(len(hidden), dtype=moments.mean.dtype)
    for part in row_slices(len(hidden), 3 * hidden.size(1), hidden):
        states = hidden[part].to(means.dtype)  # (n, d)
        variance = torch.linalg.vecdot(states @ moments.covariance, states)
        means[part] = states @ moments.mean + variance / 2
    return means


def add_gradients(
    slopes: Tensor,
    hidden: Tensor,
    item_embeddings: Tensor,
    moments: ItemMoments,
    grad_hidden: Optional[Tensor],
    grad_items: Optional[RowGradient],
) -> None:
    """Add the gradient of sum_i slopes_i * log_mean_exp_i to those of states and items.

    A state receives slope * (mu + Sigma x); an item 1/m times sum(slope * x) + sum(slope * x x') (w - mu),
    with sums over states.

    Args:
        slopes: (N,) in the dtype of the moments.
        hidden: (N, d).
        item_embeddings: (C, d).
        moments: of ``item_embeddings``.
        grad_hidden: (N or more, d) in the dtype of the moments.
        grad_items: the gradient of the items. One that is None is not computed.
    """
    dtype, width = moments.mean.dtype, hidden.size(1)
    of_mean = torch.zeros_like(moments.mean)  # (d,)
    of_covariance = torch.zeros_like(moments.covariance)  # (d, d)
    for part in row_slices(len(hidden), 4 * width, hidden):
        states, slope = hidden[part].to(dtype), slopes[part].unsqueeze(1)  # (n, d), (n, 1)
        if grad_hidden is not None:
            grad_hidden[part].addcmul_(slope, states @ moments.covariance + moments.mean)
        if grad_items is not None:
            weighed = slope * states  # (n, d)
            of_mean += weighed.sum(0)
            of_covariance.addmm_(states.T, weighed)
    if grad_items is None:
        return
    n = max(len(moments.rows), 1)
    for part in row_slices(len(moments.rows), 4 * width, hidden):
        rows = moments.rows[part]
        apart = gather_rows(item_embeddings, rows, dtype) - moments.mean  # (c, d)
        grad_items.add(rows, torch.addmm(of_mean, apart, of_covariance).div_(n))
