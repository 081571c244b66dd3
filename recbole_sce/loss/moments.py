"""What a softmax holds of the items that nobody scores, from two moments of the item embeddings.

For a state x the logits l_i = x . w_i of m items have mean x . mu and variance x' Sigma x, mu and Sigma being
mean and covariance of the item embeddings: d * d operations a state, however many items there are. Where k of
the items are scored, their logits are taken out of both, exactly, which leaves mean and variance of the
others. By the cumulant expansion up to the second order, exact for normally distributed logits::

    log sum_{others} exp(l_i)  =  log(m - k) + mean + variance / 2

Where logits spread further, to a standard deviation above sqrt(2 log(m - k)), none of m - k is found where
this has its mass. The largest ones then make up the sum, about mean + sqrt(2 log(m - k) variance) (the
random energy model, Derrida 1981). Both meet with equal slopes.
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
    if n_rows - len(excluded) <= _SAMPLE:
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


def check_moments(moments: ItemMoments, item_embeddings: Tensor) -> None:
    """Check that ``moments`` can be those of ``item_embeddings`` (C, d).

    Raises:
        ValueError: they are of another width or device, or of more items than ``item_embeddings`` has rows.
    """
    n_rows, width = item_embeddings.shape
    if moments.mean.shape != (width,) or moments.n_items > n_rows:
        raise ValueError(
            f"moments: those of {moments.n_items} items of width {len(moments.mean)} are not allowed with "
            f"item_embeddings of shape ({n_rows}, {width}); item_moments(item_embeddings) are"
        )
    if moments.mean.device != item_embeddings.device:
        raise ValueError(
            f"moments: {moments.mean.device} is not allowed; {item_embeddings.device}, the device of "
            "item_embeddings, is"
        )


class LogitMoments(NamedTuple):
    """Mean and variance of the logits of states over a catalogue of ``n_items``; both of one shape."""

    mean: Tensor
    variance: Tensor
    n_items: int

    def at(self, states: Tensor) -> LogitMoments:
        """Return those of ``states``, int64 of any shape."""
        return LogitMoments(self.mean[states], self.variance[states], self.n_items)

    def without(self, n_scored: Tensor, sums: Tensor, squares: Tensor) -> Outside:
        """Take scored items out, and estimate the sum of exp over the others.

        Args:
            n_scored: how many items were scored.
            sums: of their logits less ``mean``.
            squares: of the same differences, squared.
        """
        n_left = self.n_items - n_scored
        n_items = n_left.clamp(min=1)
        shift = sums / n_items
        variance = (self.n_items * self.variance - squares) / n_items - shift.square()
        mean, log_n = self.mean - shift, n_items.log()
        # sqrt(2 log n variance) is log n + variance / 2 with the variance bent down to that.
        most = 2 * log_n
        bent = torch.where(variance > most, 2 * (most * variance).clamp(min=0).sqrt() - most, variance)
        log = (mean + bent.clamp(min=0) / 2 + log_n).masked_fill_(n_left < 1, -torch.inf)
        curved = (most / variance).clamp(max=1).sqrt().masked_fill_(variance <= 0, 0)
        return Outside(log, mean, shift, n_items, curved)


class Outside(NamedTuple):
    """What items that were not scored add to a sum, and what its gradient is made of; all of one shape.

    ``log`` is the logarithm of the sum, -inf where there are no such items, ``mean`` that of their logits,
    ``shift`` how far it lies below the catalogue's, ``n_items`` their number (1 where it is 0), and
    ``curved`` twice the slope of ``log`` with their variance: 1, or less where they spread far, or 0.
    """

    log: Tensor
    mean: Tensor
    shift: Tensor
    n_items: Tensor
    curved: Tensor

    def of(self, pairs: Tensor) -> Outside:
        """Return the entries that int64 ``pairs`` (T,) names."""
        return Outside(*(full.view(-1)[pairs] for full in self))

    def joined(self, other: Outside) -> Outside:
        """Return the entries of both, which have one dimension, one behind the other."""
        return Outside(*(torch.cat(both) for both in zip(self, other)))


def logit_moments(hidden: Tensor, moments: ItemMoments) -> LogitMoments:
    """Return mean and variance (N,) of the logits of states (N, d), from the moments of the items."""
    dtype = compute_dtype(hidden)
    mean, covariance = moments.mean.to(dtype), moments.covariance.to(dtype)
    means, variances = (hidden.new_empty(len(hidden), dtype=dtype) for _ in range(2))
    for part in row_slices(len(hidden), 3 * hidden.size(1), hidden):
        states = hidden[part].to(dtype)  # (n, d)
        means[part] = states @ mean
        variances[part] = torch.linalg.vecdot(states @ covariance, states).clamp_(min=0)
    return LogitMoments(means, variances, moments.n_items)


class Slopes(NamedTuple):
    """By how much losses grow, through what is outside, with logits: all (T,).

    With a logit l inside: -(``base`` + ``tilt`` * l). With mean and variance of all logits: ``of_mean`` and
    ``of_variance``.
    """

    base: Tensor
    tilt: Tensor
    of_mean: Tensor
    of_variance: Tensor


def slopes_of(outside: Outside, totals: Tensor, n_items: int) -> Slopes:
    """Return the slopes of losses log(sum) - own, given the logarithms of their sums.

    Args:
        outside: of each state (T,).
        totals: (T,).
        n_items: of the catalogue.
    """
    share = torch.exp(outside.log - totals) / outside.n_items  # of a single item outside
    return Slopes(
        base=share * (1 - outside.curved * outside.mean),
        tilt=share * outside.curved,
        of_mean=share * n_items * (1 + outside.curved * outside.shift),
        of_variance=share * n_items * outside.curved / 2,
    )


def add_gradients(
    slopes_of_mean: Tensor,
    slopes_of_variance: Tensor,
    hidden: Tensor,
    item_embeddings: Tensor,
    moments: ItemMoments,
    grad_hidden: Optional[Tensor],
    grad_items: Optional[RowGradient],
) -> None:
    """Add the gradient through mean and variance of each state's logits to those of states and items.

    With s and t a state's slopes, it receives s mu + 2 t Sigma x. An item receives sum(s x) / m +
    sum(2 t x x') (w - mu) / m, with sums over states.

    Args:
        slopes_of_mean: (N,) in the compute dtype, by which the loss grows with each state's mean logit.
        slopes_of_variance: (N,), the same of the variance.
        hidden: (N, d).
        item_embeddings: (C, d).
        moments: of ``item_embeddings``.
        grad_hidden: (N or more, d) in the compute dtype.
        grad_items: the gradient of the items. One that is None is not computed.
    """
    dtype, width = compute_dtype(hidden), hidden.size(1)
    mean, covariance = moments.mean.to(dtype), moments.covariance.to(dtype)
    of_mean, of_covariance = torch.zeros_like(mean), torch.zeros_like(covariance)  # (d,), (d, d)
    for part in row_slices(len(hidden), 4 * width, hidden):
        states = hidden[part].to(dtype)  # (n, d)
        first, second = slopes_of_mean[part].unsqueeze(1), slopes_of_variance[part].unsqueeze(1)  # (n, 1)
        if grad_hidden is not None:
            grad_hidden[part].addcmul_(first, mean).addcmul_(second, states @ covariance, value=2)
        if grad_items is not None:
            of_mean += (first * states).sum(0)
            of_covariance.addmm_(states.T, second * states, alpha=2)
    if grad_items is None:
        return
    n = max(len(moments.rows), 1)
    for part in row_slices(len(moments.rows), 4 * width, hidden):
        rows = moments.rows[part]
        apart = gather_rows(item_embeddings, rows, dtype) - mean  # (c, d)
        grad_items.add(rows, torch.addmm(of_mean, apart, of_covariance).div_(n))
