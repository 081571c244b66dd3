"""The loss of all buckets as one differentiable step that never holds their logits.

One group of buckets after the other is scored, and a log-sum-exp kept for each (state, bucket) pair. Only the
pair with a state's largest loss, the winning one, carries gradient: with the automatic bucket sizes a quarter
of the pairs at most. Nothing of size (n_b, b_x, b_y) is ever stored.

With a sample of the catalogue, the winning sum is completed by what the items outside the bucket add to it
(see ``outside``), and a state in no bucket is trained as well: by its target and these alone.

Forward computes the gradients as well, while the logits of a tile are at hand; backward multiplies them with
that of the loss. Of the items' gradient only the rows that the loss touches are kept in between.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from recbole_sce.loss.ops.eager import never_compiled, refuse_second_gradient
from recbole_sce.loss.ops.kernels import kernels_for
from recbole_sce.loss.ops.logits import compute_dtype, gather_rows, row_slices, softmax_, target_logits
from recbole_sce.loss.ops.memory import RowGradient, workspace_bytes
from recbole_sce.loss.sce.buckets import Buckets, contains
from recbole_sce.loss.sce.histories import Histories
from recbole_sce.loss.sce.outside import Gradients, ItemSample, Outside


def bucket_loss(
    hidden: Tensor,
    item_embeddings: Tensor,
    targets: Tensor,
    buckets: Buckets,
    sparse_grad: bool = False,
    sample: ItemSample | None = None,
    histories: Histories | None = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of :func:`recbole_sce.scalable_cross_entropy` and its number of covered states.

    Args:
        hidden: (N, d) floating point.
        item_embeddings: (C, d) floating point.
        targets: (N,) int64, rows of ``item_embeddings``.
        buckets: the states and items of each bucket.
        sparse_grad: whether the gradient of ``item_embeddings`` is a sparse (COO) tensor.
        sample: of the rows of ``item_embeddings``; None leaves out what is outside the buckets.
        histories: with ``sample``, those of the states; its excluded rows count for nothing in them. None for
            empty ones.

    Returns:
        The loss, a scalar in float32 (float64 for float64 states), and the number of states that are in a
        bucket, a scalar int64 on the CPU. The loss can be differentiated once.
    """
    buckets = Buckets(buckets.rows.contiguous(), buckets.items.contiguous())
    if histories is None or len(targets) == 0:
        histories = Histories.none(targets)
    elif sample is not None:
        histories = histories.distinct(sample.excluded)
    recorded = torch.is_grad_enabled()
    loss, n_covered = _apply(
        hidden, item_embeddings, targets, buckets, sparse_grad, sample, histories, recorded
    )
    return loss, n_covered


class _BucketLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        table: Tensor,
        targets: Tensor,
        buckets: Buckets,
        sparse_grad: bool,
        sample: ItemSample | None,
        histories: Histories,
        recorded: bool,
    ) -> tuple[Tensor, Tensor]:
        rows, items = buckets
        kernels = kernels_for(hidden)
        dtype = compute_dtype(hidden)
        with torch.autocast(hidden.device.type, enabled=False):
            own_of_all = target_logits(hidden, table, targets)  # (N,)
            own = own_of_all[rows]  # (n_b, b_x)
            if kernels is None:
                inside = contains(items.sort(1).values, targets[rows])  # (n_b, b_x)
                sums = _bucket_sums(hidden, table, rows, items)  # (n_b, b_x), as logarithms
            else:
                sums, inside = kernels.bucket_totals(hidden, table, targets, rows, items)
            # A target that is among the bucket's items is in the sums already.
            totals = torch.where(inside, sums, torch.logaddexp(sums, own))
            winners = _winning_pairs((totals - own).view(-1), rows.view(-1), len(hidden))
            covered = rows.view(-1)[winners]
            own, sums, totals, inside = (full.view(-1)[winners] for full in (own, sums, totals, inside))
            # From here on, of each state that is trained (T,): those of the winning pairs, or all.
            trained, of_outside = covered, None
            if sample is not None:
                trained, own = torch.arange(len(hidden), device=hidden.device), own_of_all
                # A state in no bucket has its target and nothing else inside.
                totals = own.index_copy(0, covered, totals)
                inside = torch.zeros_like(own, dtype=torch.bool).index_copy_(0, covered, inside)
                bucket = torch.full_like(trained, len(rows))
                bucket.index_copy_(0, covered, winners // max(rows.size(1), 1))
                if len(hidden):
                    of_outside = Outside(hidden, table, targets, sample, histories, items, bucket, inside)
            gradients = None
            if recorded and any(ctx.needs_input_grad[:2]):
                gradients = Gradients(own.new_full((), 1 / max(len(trained), 1)))
                if ctx.needs_input_grad[0]:
                    # The last row takes what padding writes.
                    gradients.hidden = hidden.new_zeros(len(hidden) + 1, hidden.size(1), dtype=dtype)
                if ctx.needs_input_grad[1]:
                    touched = [items, targets, *(of_outside.touched() if of_outside is not None else ())]
                    # Which rows are touched, an accelerator would have to be waited for to know.
                    compact = hidden.device.type == "cpu"
                    gradients.items = RowGradient(table, dtype, *touched, sparse=sparse_grad, compact=compact)
            if of_outside is not None:
                peaks, of_peaks = of_outside.complete(totals, gradients)
            else:
                peaks, of_peaks = totals, torch.ones_like(totals)
            # Never below zero, but own logits are sums in another order: where large, rounding shows.
            losses = (peaks - own).add_(of_peaks.log()).clamp_(min=0)
            loss = losses.sum() / max(len(trained), 1)
            # Adds zero. A state that is no number may fall into no bucket, but must not go unnoticed: times
            # its gradient of zero, it is no number in the encoder's gradient.
            loss = loss + own_of_all.mul(0).sum()
            if gradients is not None:
                # The derivative of a state's loss by its own logit is exp(-loss) - 1; inside the bucket, the
                # first term comes with the bucket's items.
                own_slope = torch.expm1(-losses).masked_fill_(inside, -1.0).mul_(gradients.scale)
                _add_own(hidden, table, targets, trained, own_slope, gradients)
                if of_outside is not None:
                    peaks, of_peaks = peaks[covered], of_peaks[covered]
                # The kernels sum in an order that varies, so they stand back where that is not wanted.
                if kernels is None or torch.are_deterministic_algorithms_enabled():
                    shares = (sums - peaks).exp_().div_(of_peaks).mul_(gradients.scale)
                    _add_gradients(hidden, table, buckets, winners, shares, gradients)
                else:
                    of_winners = None if gradients.hidden is None else torch.zeros_like(gradients.hidden)
                    pairs = (rows, items, winners, peaks + of_peaks.log())
                    kernels.add_gradients(hidden, table, *pairs, gradients.scale, of_winners, gradients.items)
                    if gradients.hidden is not None and of_winners is not None:
                        gradients.hidden += of_winners
        ctx.gradients = gradients
        ctx.dtype = hidden.dtype
        n_covered = torch.tensor(len(winners))  # known on the CPU already
        ctx.mark_non_differentiable(n_covered)
        return loss, n_covered

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_gradient("scalable_cross_entropy")
        gradients: Gradients = ctx.gradients
        scale = grad.to(gradients.scale.dtype)
        of_hidden = None if gradients.hidden is None else (gradients.hidden[:-1] * scale).to(ctx.dtype)
        of_items = None if gradients.items is None else gradients.items.result(scale)
        return of_hidden, of_items, *(None,) * 6


# What it computes depends on the data (which pairs win), so torch.compile calls it as it is.
_apply = never_compiled(_BucketLoss.apply)


def _add_own(
    hidden: Tensor, table: Tensor, targets: Tensor, trained: Tensor, slope: Tensor, gradients: Gradients
) -> None:
    """Add what the targets' own logits contribute to the losses of the states trained.

    These are ``trained`` (T,) int64, ascending; ``slope`` (T,) is the derivative by each of their own logits.
    """
    for part in row_slices(len(trained), 3 * hidden.size(1), hidden):
        state, of_part = trained[part], slope[part].unsqueeze(1)
        if gradients.hidden is not None:
            own_items = gather_rows(table, targets[state], slope.dtype)
            gradients.hidden.index_add_(0, state, own_items.mul_(of_part))
        if gradients.items is not None:
            gradients.items.add(targets[state], gather_rows(hidden, state, slope.dtype) * of_part)


def _add_gradients(
    hidden: Tensor, table: Tensor, buckets: Buckets, winners: Tensor, shares: Tensor, gradients: Gradients
) -> None:
    """Add what the buckets' items contribute to the losses of the winning pairs.

    These are ``winners`` (W,) int64, ascending, no state twice; ``shares`` (W,) say how much of the sum of a
    state is its bucket's, times the scale of the gradients.
    """
    rows, items = buckets
    if len(winners) == 0 or items.size(1) == 0:
        return
    bucket_of = winners // rows.size(1)
    counts = rows.new_zeros(len(rows)).scatter_add_(0, bucket_of, torch.ones_like(bucket_of))
    starts = counts.cumsum(0) - counts
    # Buckets with about as many pairs come together, padded to w pairs.
    order = counts.argsort(descending=True)
    widths = counts[order].tolist()
    states_of = rows.view(-1)[winners]
    done = 0
    while done < len(widths) and widths[done] > 0:
        bucket = order[done : done + _buckets_at_once(widths[done], items.size(1), hidden)]  # (g,)
        column = torch.arange(widths[done], device=rows.device)
        padding = column >= counts[bucket].unsqueeze(1)  # (g, w)
        pair = (starts[bucket].unsqueeze(1) + column).clamp_(max=len(winners) - 1)
        weights = gather_rows(table, items[bucket], shares.dtype)  # (g, b_y, d)
        states = gather_rows(hidden, states_of[pair], shares.dtype)  # (g, w, d)
        share = shares[pair].masked_fill_(padding, 0).unsqueeze(2)  # (g, w, 1)
        slopes = torch.bmm(states, weights.mT)  # (g, w, b_y)
        torch.softmax(slopes, 2, out=slopes)
        if gradients.hidden is not None:
            owners = states_of[pair].masked_fill_(padding, len(hidden)).view(-1)
            gradients.hidden.index_add_(0, owners, (slopes @ weights).mul_(share).flatten(0, 1))
        if gradients.items is not None:
            gradients.items.add(items[bucket], slopes.mT @ states.mul_(share))
        done += len(bucket)


def _bucket_sums(hidden: Tensor, table: Tensor, rows: Tensor, items: Tensor) -> Tensor:
    """Return log sum_i exp(x . w_i) over the bucket's items of each pair, (n_b, b_x)."""
    dtype = compute_dtype(hidden)
    totals = hidden.new_full(rows.shape, -torch.inf, dtype=dtype)
    if totals.numel() == 0 or items.size(1) == 0:
        return totals
    step = _buckets_at_once(rows.size(1), items.size(1), hidden)
    space = hidden.new_empty(step, rows.size(1), items.size(1), dtype=dtype)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        states = gather_rows(hidden, rows[part], dtype)  # (step, b_x, d)
        weights = gather_rows(table, items[part], dtype)  # (step, b_y, d)
        peaks, sums = softmax_(torch.bmm(states, weights.mT, out=space[: len(states)]))
        totals[part] = sums.log_().add_(peaks)
    return totals


def _buckets_at_once(n_states: int, n_items: int, hidden: Tensor) -> int:
    """Return how many buckets to score together: logits and gathered rows fill half a workspace.

    The other half is for what is made of them.
    """
    numbers = n_states * n_items + (n_states + n_items) * hidden.size(1)
    return max(1, workspace_bytes(hidden.device) // (2 * numbers * compute_dtype(hidden).itemsize))


def _winning_pairs(losses: Tensor, rows: Tensor, n_states: int) -> Tensor:
    """Return, ascending, each state's pair with the largest loss, from losses and states (P,) of pairs."""
    largest = losses.new_full((n_states,), -torch.inf).scatter_reduce_(0, rows, losses, "amax")
    # Written so that a loss that is no number wins, and is seen. Of equal losses the first pair wins.
    pairs = torch.arange(len(losses), device=losses.device)
    candidates = torch.where(losses < largest[rows], len(losses), pairs)
    first = torch.full_like(largest, len(losses), dtype=torch.int64)
    first.scatter_reduce_(0, rows, candidates, "amin")
    return first[first < len(losses)].sort().values
