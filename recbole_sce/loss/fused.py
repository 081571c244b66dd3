"""The loss of all buckets as one differentiable step that never holds their logits.

Forward scores one group of buckets after the other and keeps a log-sum-exp for each (state, bucket) pair.
Only the pair with a state's largest loss, the winning one, carries gradient: with the automatic bucket sizes
a quarter of the pairs at most. Backward scores the winning pairs again and adds their gradients straight to
those of the inputs. Nothing of size (n_b, b_x, b_y) is ever stored.

With moments of the item embeddings, each sum also holds an estimate of what the items outside the bucket add
to it (see ``moments``), and a state in no bucket is trained as well: by its target and the estimate alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Optional

import torch
from torch import Tensor

from recbole_sce.loss.buckets import Buckets
from recbole_sce.loss.kernels import kernels_for
from recbole_sce.loss.logits import compute_dtype, gather_rows, row_slices, target_logits
from recbole_sce.loss.memory import RowGradient, workspace_bytes
from recbole_sce.loss.moments import ItemMoments, Slopes, logit_moments, slopes_of
from recbole_sce.loss.moments import add_gradients as add_gradients_of_moments


def bucket_loss(
    hidden: Tensor,
    item_embeddings: Tensor,
    targets: Tensor,
    buckets: Buckets,
    sparse_grad: bool = False,
    moments: Optional[ItemMoments] = None,
) -> tuple[Tensor, Tensor]:
    """Return the loss of :func:`recbole_sce.scalable_cross_entropy` and its number of covered states.

    Args:
        hidden: (N, d) floating point.
        item_embeddings: (C, d) floating point.
        targets: (N,) int64, rows of ``item_embeddings``.
        buckets: the states and items of each bucket.
        sparse_grad: whether the gradient of ``item_embeddings`` is a sparse (COO) tensor.
        moments: of ``item_embeddings``; None leaves out what is outside the buckets.

    Returns:
        The loss, a scalar in float32 (float64 for float64 states), and the number of states that are in a
        bucket, a scalar int64. The loss can be differentiated once.
    """
    rows, items = buckets.rows.contiguous(), buckets.items.contiguous()
    loss, n_covered = _apply(hidden, item_embeddings, targets, rows, items, sparse_grad, moments)
    return loss, n_covered


class _BucketLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        item_embeddings: Tensor,
        targets: Tensor,
        rows: Tensor,
        items: Tensor,
        sparse_grad: bool,
        moments: Optional[ItemMoments],
    ) -> tuple[Tensor, Tensor]:
        ctx.sparse_grad = sparse_grad
        # The kernels know the paper's loss alone.
        ctx.kernels = kernels_for(hidden) if moments is None else None
        with torch.autocast(hidden.device.type, enabled=False):
            own_of_all = target_logits(hidden, item_embeddings, targets)  # (N,)
            own = own_of_all[rows]  # (n_b, b_x)
            of_logits = None if moments is None else logit_moments(hidden, moments)  # (N,)
            if ctx.kernels is None:
                inside = _contains(items, targets[rows])  # (n_b, b_x)
                means = None if of_logits is None else of_logits.mean
                totals, apart = _bucket_sums(hidden, item_embeddings, rows, items, means)  # (n_b, b_x)
            else:
                totals, inside = ctx.kernels.bucket_totals(hidden, item_embeddings, targets, rows, items)
            # A target that is among the bucket's items is in the sums already.
            totals = torch.where(inside, totals, torch.logaddexp(totals, own))
            if of_logits is not None:
                n_scored = items.size(1) + (~inside).to(own.dtype)
                apart += _powers((own - of_logits.mean[rows]).masked_fill_(inside, 0))
                outside = of_logits.at(rows).without(n_scored, *apart)
                totals = torch.logaddexp(totals, outside.log)
            # Never below zero, but own logits are sums in another order: where large, rounding shows.
            losses = (totals - own).clamp_(min=0).view(-1)
            winners = _winning_pairs(losses, rows.view(-1), len(hidden))
            # From here on, of each state that is trained (T,): first those of the winning pairs.
            trained = rows.view(-1)[winners]
            losses, own, totals, inside = (full.view(-1)[winners] for full in (losses, own, totals, inside))
            if of_logits is not None:
                alone = _left_out(trained, len(hidden))
                own_alone, of_alone = own_of_all[alone], of_logits.at(alone)
                apart = own_alone - of_alone.mean  # the target and nothing else
                rest = of_alone.without(torch.ones_like(apart), *_powers(apart))
                totals_alone = torch.logaddexp(own_alone, rest.log)
                trained, own = torch.cat([trained, alone]), torch.cat([own, own_alone])
                totals = torch.cat([totals, totals_alone])
                losses = torch.cat([losses, (totals_alone - own_alone).clamp_(min=0)])
                inside = torch.cat([inside, torch.zeros_like(alone, dtype=torch.bool)])
                outside = outside.of(winners).joined(rest)
            loss = losses.sum() / max(len(trained), 1)
            # Adds zero. A state that is no number may fall into no bucket, but must not go unnoticed: times
            # its gradient of zero, it is no number in the encoder's gradient.
            loss = loss + own_of_all.mul(0).sum()
            # The derivative of a state's loss by its own logit is exp(own - total) - 1; inside the bucket,
            # the first term comes with the bucket's items.
            own_slope = torch.expm1(own - totals).masked_fill_(inside, -1.0)
            of_outside: tuple[Tensor, ...] = ()
            if moments is not None:
                slopes = slopes_of(outside, totals, moments.n_items)
                own_slope -= (slopes.base + slopes.tilt * own).masked_fill_(inside, 0)
                of_outside = (*slopes, moments.mean, moments.covariance, moments.rows)
                ctx.n_items = moments.n_items
        ctx.save_for_backward(
            hidden,
            item_embeddings,
            targets,
            rows,
            items,
            winners,
            totals,
            trained,
            own_slope,
            *of_outside,
        )
        n_covered = torch.tensor(len(winners), device=hidden.device)
        ctx.mark_non_differentiable(n_covered)
        return loss, n_covered

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Optional[Tensor], ...]:
        if torch.is_grad_enabled():
            raise RuntimeError(
                "scalable_cross_entropy can be differentiated once only: its gradient has no graph of its "
                "own, so create_graph=True and gradients of gradients are not possible"
            )
        hidden, item_embeddings, targets, rows, items, winners, totals, trained, *more = ctx.saved_tensors
        own_slope, *of_outside = more
        slopes = moments = None
        if of_outside:
            mean, covariance, sampled = of_outside[4:]
            slopes = Slopes(*of_outside[:4])
            moments = ItemMoments(mean, covariance, sampled, ctx.n_items)
        dtype = compute_dtype(hidden)
        scale = grad.to(dtype) / max(len(trained), 1)
        # The last row takes what padding writes.
        grad_hidden = hidden.new_zeros(len(hidden) + 1, hidden.size(1), dtype=dtype)
        grad_items = None
        if ctx.needs_input_grad[1]:
            touched = [items, targets] if moments is None else [items, targets, moments.rows]
            grad_items = RowGradient(item_embeddings, dtype, *touched, sparse=ctx.sparse_grad)
        wanted_hidden = grad_hidden if ctx.needs_input_grad[0] else None
        with torch.autocast(hidden.device.type, enabled=False):
            pairs = (hidden, item_embeddings, rows, items, winners, totals[: len(winners)], scale)
            # The kernels sum in an order that varies, so they stand back where that is not wanted.
            if ctx.kernels is None or torch.are_deterministic_algorithms_enabled():
                _add_gradients(*pairs, wanted_hidden, grad_items, slopes)
            else:
                ctx.kernels.add_gradients(*pairs, wanted_hidden, grad_items)
            for part in row_slices(len(trained), 3 * hidden.size(1), hidden):
                state, slope = trained[part], (own_slope[part] * scale).unsqueeze(1)
                if wanted_hidden is not None:
                    own_items = gather_rows(item_embeddings, targets[state], dtype)
                    wanted_hidden.index_add_(0, state, slope * own_items)
                if grad_items is not None:
                    grad_items.add(targets[state], slope * gather_rows(hidden, state, dtype))
            if slopes is not None and moments is not None:
                of_mean, of_variance = (
                    torch.empty_like(slope).index_copy_(0, trained, slope * scale)  # (N,)
                    for slope in (slopes.of_mean, slopes.of_variance)
                )
                add_gradients_of_moments(
                    of_mean, of_variance, hidden, item_embeddings, moments, wanted_hidden, grad_items
                )
        return (
            grad_hidden[:-1].to(hidden.dtype) if ctx.needs_input_grad[0] else None,
            grad_items.result() if grad_items is not None else None,
            None,
            None,
            None,
            None,
            None,
        )


# What it computes depends on the data (which pairs win), so torch.compile calls it as it is.
_apply = torch.compiler.disable(_BucketLoss.apply)  # type: ignore[no-untyped-call]


def _add_gradients(
    hidden: Tensor,
    item_embeddings: Tensor,
    rows: Tensor,
    items: Tensor,
    winners: Tensor,
    totals: Tensor,
    scale: Tensor,
    grad_hidden: Optional[Tensor],
    grad_items: Optional[RowGradient],
    outside: Optional[Slopes] = None,
) -> None:
    """Add to the gradients what the buckets' items contribute to the losses of the winning pairs.

    Args:
        hidden: (N, d).
        item_embeddings: (C, d).
        rows: (n_b, b_x) int64.
        items: (n_b, b_y) int64.
        winners: (W,) int64, ascending, the winning pairs; no state twice.
        totals: (W,), the log-sum-exp of these.
        scale: scalar, what the gradients are multiplied with.
        grad_hidden: (N + 1, d), zeros, in the dtype of ``totals``; the last row takes what padding writes.
        grad_items: the gradient of the items. One that is None is not computed.
        outside: of these pairs first, how the estimate of what is outside depends on the logits inside.
    """
    for tile in _tiles(winners, totals, rows, items, hidden, outside):
        weights = gather_rows(item_embeddings, tile.items, totals.dtype)  # (g, b_y, d)
        states = gather_rows(hidden, tile.states, totals.dtype)  # (g, w, d)
        shift = -tile.totals.unsqueeze(2)  # (g, w, 1)
        logits = torch.baddbmm(shift, states, weights.mT)  # (g, w, b_y), less the totals
        outward = None
        if tile.base is not None and tile.tilt is not None:
            tilt = tile.tilt.unsqueeze(2)  # (g, w, 1)
            outward = torch.addcmul(tile.base.unsqueeze(2) - tilt * shift, tilt, logits)  # (g, w, b_y)
        # Logarithms of probabilities, so at most 0, but for the rounding of large logits.
        slopes = logits.clamp_(max=0).exp_()
        if outward is not None:
            slopes -= outward
        slopes *= scale
        if grad_hidden is not None:
            grad_hidden.index_copy_(0, tile.owners.view(-1), (slopes @ weights).flatten(0, 1))
        if grad_items is not None:
            grad_items.add(tile.items, slopes.mT @ states)


def _contains(items: Tensor, wanted: Tensor) -> Tensor:
    """Return which of the items ``wanted`` (n_b, b_x) are among their bucket's ``items`` (n_b, b_y)."""
    if items.size(1) == 0:
        return torch.zeros_like(wanted, dtype=torch.bool)
    ordered = items.sort(1).values
    position = torch.searchsorted(ordered, wanted).clamp_(max=items.size(1) - 1)
    return ordered.gather(1, position) == wanted


def _bucket_sums(
    hidden: Tensor, item_embeddings: Tensor, rows: Tensor, items: Tensor, means: Optional[Tensor] = None
) -> tuple[Tensor, Tensor]:
    """Return log sum_i exp(x . w_i) over the bucket's items of each pair, (n_b, b_x).

    With ``means`` (N,), one a state, also the sums of x . w_i - mean and of its squares, (2, n_b, b_x).
    """
    dtype = compute_dtype(hidden)
    totals = hidden.new_full(rows.shape, -torch.inf, dtype=dtype)
    apart = hidden.new_zeros(0 if means is None else 2, *rows.shape, dtype=dtype)
    if totals.numel() == 0 or items.size(1) == 0:
        return totals, apart
    step = _buckets_at_once(rows.size(1), items.size(1), hidden)
    space = hidden.new_empty(step, rows.size(1), items.size(1), dtype=dtype)
    for start in range(0, len(rows), step):
        part = slice(start, start + step)
        states = gather_rows(hidden, rows[part], dtype)  # (step, b_x, d)
        weights = gather_rows(item_embeddings, items[part], dtype)  # (step, b_y, d)
        logits = torch.bmm(states, weights.mT, out=space[: len(states)])  # (step, b_x, b_y)
        offset = totals.new_zeros(())
        if means is not None:
            offset = means[rows[part]]
            logits.sub_(offset.unsqueeze(2))
            apart[0, part] = logits.sum(2)
            apart[1, part] = torch.linalg.vector_norm(logits, dim=2).square_()
        largest = logits.amax(2, keepdim=True)
        totals[part] = logits.sub_(largest).exp_().sum(2).log_().add_(largest.squeeze(2)).add_(offset)
    return totals, apart


def _powers(numbers: Tensor) -> Tensor:
    """Return numbers and their squares, (2, *numbers.shape)."""
    return torch.stack([numbers, numbers.square()])


def _buckets_at_once(n_states: int, n_items: int, hidden: Tensor) -> int:
    """Return how many buckets to score together: logits and gathered rows fill half a workspace.

    The other half is for what is made of them.
    """
    numbers = n_states * n_items + (n_states + n_items) * hidden.size(1)
    return max(1, workspace_bytes(hidden.device) // (2 * numbers * compute_dtype(hidden).itemsize))


def _winning_pairs(losses: Tensor, rows: Tensor, n_states: int) -> Tensor:
    """Return, ascending, the pair with the largest loss of each state that is in a bucket.

    Args:
        losses: (P,) of the pairs.
        rows: (P,) int64, the state of each pair.
        n_states: N.
    """
    largest = losses.new_full((n_states,), -torch.inf).scatter_reduce_(0, rows, losses, "amax")
    # Written so that a loss that is no number wins, and is seen. Of equal losses the first pair wins.
    candidates = (~(losses < largest[rows])).nonzero().squeeze(1)
    first = torch.full_like(largest, len(losses), dtype=torch.int64)
    first.scatter_reduce_(0, rows[candidates], candidates, "amin")
    return first[first < len(losses)].sort().values


def _left_out(states: Tensor, n_states: int) -> Tensor:
    """Return, ascending, which of 0 to ``n_states`` - 1 are not among int64 ``states``."""
    left = torch.ones(n_states, dtype=torch.bool, device=states.device)
    return left.index_fill_(0, states, False).nonzero().squeeze(1)


class _Tile(NamedTuple):
    """Winning pairs of g buckets, padded to w a bucket."""

    items: Tensor  # (g, b_y) int64
    states: Tensor  # (g, w) int64, any state where it is padding
    owners: Tensor  # (g, w) int64, the states again, N where it is padding
    totals: Tensor  # (g, w), the largest number where it is padding, so that nothing comes of it
    base: Optional[Tensor]  # (g, w) each, 0 where it is padding: see Slopes
    tilt: Optional[Tensor]


def _tiles(
    winners: Tensor, totals: Tensor, rows: Tensor, items: Tensor, hidden: Tensor, outside: Optional[Slopes]
) -> Iterator[_Tile]:
    """Group the winning pairs by bucket, buckets with about as many pairs together."""
    if len(winners) == 0 or items.size(1) == 0:
        return
    counts = torch.bincount(winners // rows.size(1), minlength=len(rows))
    starts = counts.cumsum(0) - counts
    order = counts.argsort(descending=True)
    widths = counts[order].tolist()
    states = rows.view(-1)[winners]
    done = 0
    while done < len(widths) and widths[done] > 0:
        bucket = order[done : done + _buckets_at_once(widths[done], items.size(1), hidden)]
        column = torch.arange(widths[done], device=rows.device)
        real = column < counts[bucket].unsqueeze(1)  # (g, w)
        pair = (starts[bucket].unsqueeze(1) + column).clamp_(max=len(winners) - 1)
        yield _Tile(
            items=items[bucket],
            states=states[pair],
            owners=states[pair].masked_fill_(~real, len(hidden)),
            totals=totals[pair].masked_fill_(~real, torch.finfo(totals.dtype).max),
            base=None if outside is None else outside.base[pair].masked_fill_(~real, 0),
            tilt=None if outside is None else outside.tilt[pair].masked_fill_(~real, 0),
        )
        done += len(bucket)
