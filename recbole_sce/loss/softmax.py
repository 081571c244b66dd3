"""Exact softmax cross-entropy over the whole catalogue that never holds all logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Generator, Tensor

from recbole_sce.loss.base import ItemLoss
from recbole_sce.loss.inputs import check_inputs, excluded_rows
from recbole_sce.loss.ops.eager import never_compiled, refuse_second_gradient
from recbole_sce.loss.ops.logits import compute_dtype, target_logits
from recbole_sce.loss.ops.memory import lazy_zeros, tile_bytes
from recbole_sce.utils.devices import to_device

#: States a tile of logits; the items are as many as then fit in a workspace. On an accelerator a tile costs
#: launches, so that few large ones are better.
_STATES = 256
_STATES_ON_DEVICE = 2**14
#: The gradient is made with the loss where the logits of as many states, of all items, fit in four tiles.
_WHOLE_ROWS = 48


class CrossEntropyLoss(ItemLoss):
    """Exact cross-entropy of each target against the whole catalogue, averaged over states.

    With states x, targets y and the items I that are not excluded::

        mean over states of  log( sum_{i in I} exp(x . w_i) ) - x . w_y

    The value and the gradients are those of ``torch.nn.functional.cross_entropy(hidden @
    item_embeddings[I].T, targets)``, computed tile by tile: memory depends on neither N nor C. On the CPU,
    up to about 43,000 items, each logit is made once, and the gradients, which are as large as the inputs,
    are made with the loss and kept until backward.

    Args:
        exclude_items: rows of the item embeddings that are no items and stay out of the softmax. With
            ``()`` all rows are in, as in RecBole's built-in cross-entropy, whose softmax holds the padding
            item, row 0.
    """

    name = "CE"
    allows_later_targets = True

    def __init__(self, exclude_items: Sequence[int] = (0,)) -> None:
        super().__init__()
        self.exclude_items = tuple(exclude_items)

    def forward(
        self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Return the loss.

        Args:
            hidden: (N, d) floating point.
            item_embeddings: (C, d) floating point.
            targets: (N,) int64, rows of ``item_embeddings`` that are not excluded.
            generator: not used; the losses share one call.

        Returns:
            A scalar in float32 (float64 for float64 states); zero for no states. It can be differentiated
            once.

        Raises:
            ValueError: a tensor has the wrong shape, dtype or device.
        """
        check_inputs(hidden, item_embeddings, targets, self.exclude_items)
        self._n_states = len(hidden)
        excluded = excluded_rows(self.exclude_items, len(item_embeddings))
        return exact_cross_entropy(hidden, item_embeddings, targets, excluded)

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return f"exclude_items={self.exclude_items}"


def exact_cross_entropy(
    hidden: Tensor, table: Tensor, targets: Tensor, excluded: Sequence[int], sparse_grad: bool = False
) -> Tensor:
    """Return the loss of :class:`CrossEntropyLoss`, of inputs that are checked.

    Args:
        hidden: (N, d) floating point.
        table: (C, d) floating point.
        targets: (N,) int64, rows of ``table`` that are not excluded.
        excluded: rows of ``table`` that stay out of the softmax, each once.
        sparse_grad: whether the gradient of ``table`` is a sparse (COO) tensor, which here names
            all rows that have one.
    """
    at_once = torch.is_grad_enabled() and 4 * _rows_in_a_tile(hidden, table) >= _WHOLE_ROWS
    apply = _apply_at_once if at_once and hidden.device.type == "cpu" else _apply
    loss: Tensor = apply(hidden, table, targets, excluded, sparse_grad)
    return loss


class _CrossEntropyAtOnce(torch.autograd.Function):
    """Forward makes the gradients with the loss, for a gradient of 1; backward scales them."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, excluded: Sequence[int], sparse_grad: bool
    ) -> Tensor:
        dtype, n_states = compute_dtype(hidden), max(len(hidden), 1)
        states, weights = hidden.to(dtype), table.to(dtype)
        grad_hidden = torch.empty_like(states) if ctx.needs_input_grad[0] else None  # (N, d)
        grad_weights = weights.new_zeros(weights.T.shape) if ctx.needs_input_grad[1] else None  # (d, C)
        n_rows = min(max(_rows_in_a_tile(hidden, table), _WHOLE_ROWS), _STATES)
        space = states.new_empty(min(n_rows, n_states), len(weights))
        columns = torch.tensor(list(excluded), dtype=torch.int64)
        with torch.autocast(hidden.device.type, enabled=False):
            own = target_logits(hidden, table, targets).unsqueeze(1)  # (N, 1)
            losses = torch.empty_like(own)
            for first in range(0, len(states), n_rows):
                rows = slice(first, min(first + n_rows, len(states)))
                logits = torch.mm(states[rows], weights.T, out=space[: rows.stop - first])
                logits.index_fill_(1, columns, -torch.inf)
                peaks = logits.amax(1, keepdim=True)
                slopes = logits.sub_(peaks).exp_()
                sums = slopes.sum(1, keepdim=True)
                losses[rows] = (sums.log() + peaks).sub_(own[rows])
                # Probabilities, less 1 at the target; all times the sum.
                slopes.scatter_add_(1, targets[rows].unsqueeze(1), -sums)
                scale = (sums * n_states).reciprocal_()
                if grad_hidden is not None:
                    torch.mm(slopes, weights, out=grad_hidden[rows]).mul_(scale)
                if grad_weights is not None:
                    # Transposed: with the logits on the right, the product is a third faster on the CPU.
                    grad_weights.addmm_((states[rows] * scale).T.contiguous(), slopes)
            loss = losses.clamp_(min=0).sum() / n_states
        ctx.sparse_grad, ctx.dtypes = sparse_grad, (hidden.dtype, table.dtype)
        ctx.save_for_backward(grad_hidden, grad_weights)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_gradient("CrossEntropyLoss")
        grad_hidden, grad_weights = ctx.saved_tensors
        grad_items = None
        if grad_weights is not None:
            grad_items = (grad_weights.T * grad).to(ctx.dtypes[1]).contiguous()
            if ctx.sparse_grad:
                grad_items = grad_items.to_sparse(1)
        if grad_hidden is not None:
            grad_hidden = (grad_hidden * grad).to(ctx.dtypes[0])
        return grad_hidden, grad_items, None, None, None


class _CrossEntropy(torch.autograd.Function):
    """Forward keeps one log-sum-exp a state; backward scores the tiles again."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, table: Tensor, targets: Tensor, excluded: Sequence[int], sparse_grad: bool
    ) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            own = target_logits(hidden, table, targets).unsqueeze(1)  # (N, 1)
            # Finite from the start, since a tile may hold excluded items only.
            peaks = torch.full_like(own, torch.finfo(own.dtype).min)
            sums = torch.zeros_like(own)
            for _, _, tiles in _item_chunks(hidden, table, excluded):
                for rows, logits in tiles:
                    # A running log-sum-exp: the sum so far shrinks when a larger logit turns up.
                    peak = torch.maximum(peaks[rows], logits.amax(1, keepdim=True))
                    sums[rows].mul_((peaks[rows] - peak).exp_())
                    sums[rows].add_(logits.sub_(peak).exp_().sum(1, keepdim=True))
                    peaks[rows] = peak
            # Never below zero, but own logits are sums in another order: where large, rounding shows.
            losses = sums.log().add_(peaks - own).clamp_(min=0)
            loss = losses.sum() / max(len(hidden), 1)
        ctx.excluded, ctx.sparse_grad = excluded, sparse_grad
        ctx.save_for_backward(hidden, table, targets, peaks, sums)
        return loss

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_gradient("CrossEntropyLoss")
        hidden, table, targets, peaks, sums = ctx.saved_tensors
        # Peak and sum apart: as one number, a large peak would round the logarithm of the sum away.
        scale = grad.to(sums.dtype) / max(len(hidden), 1) / sums  # (N, 1)
        scaled = (hidden.to(sums.dtype) * scale).T.contiguous()  # (d, N)
        grad_hidden = torch.zeros_like(hidden, dtype=sums.dtype)
        grad_items = None
        if ctx.needs_input_grad[1]:
            grad_items = lazy_zeros(table.shape, table.dtype, table.device)
        with torch.autocast(hidden.device.type, enabled=False):
            for start, weights, tiles in _item_chunks(hidden, table, ctx.excluded):
                # Transposed: with the logits on the right, the product is a third faster on the CPU.
                grad_weights = scaled.new_zeros(scaled.size(0), len(weights))  # (d, c)
                for rows, logits in tiles:
                    # (n, c): probabilities, less 1 at the target; all times the sum
                    slopes = logits.sub_(peaks[rows]).exp_()
                    column = (targets[rows] - start).unsqueeze(1)
                    place = column.clamp(0, slopes.size(1) - 1)  # of other targets: nothing is added there
                    slopes.scatter_add_(1, place, torch.where(column == place, -sums[rows], 0))
                    if ctx.needs_input_grad[0]:
                        grad_hidden[rows].addmm_(slopes, weights)
                    if grad_items is not None:
                        grad_weights.addmm_(scaled[:, rows], slopes)
                if grad_items is not None:
                    grad_items[start : start + len(weights)] = grad_weights.T
        if grad_items is not None and ctx.sparse_grad:
            grad_items = grad_items.to_sparse(1)
        of_hidden = grad_hidden.mul_(scale).to(hidden.dtype) if ctx.needs_input_grad[0] else None
        return of_hidden, grad_items, None, None, None


# Tiles are written in place, which torch.compile would undo: it calls these as they are.
_apply = never_compiled(_CrossEntropy.apply)
_apply_at_once = never_compiled(_CrossEntropyAtOnce.apply)


def _rows_in_a_tile(hidden: Tensor, table: Tensor) -> int:
    """Return how many states' logits of all items fit in a tile."""
    row_bytes = max(1, len(table)) * compute_dtype(hidden).itemsize
    return tile_bytes(hidden.device) // row_bytes


def _item_chunks(
    hidden: Tensor, table: Tensor, excluded: Sequence[int]
) -> Iterator[tuple[int, Tensor, Iterator[tuple[slice, Tensor]]]]:
    """Yield the first row of each run of items, its vectors (c, d), and its logits tile by tile.

    A tile are some states and their logits (n, c), to be used before the next; of excluded rows -inf.
    """
    states = hidden.to(compute_dtype(hidden))
    numbers = tile_bytes(hidden.device) // states.element_size()
    most = _STATES if hidden.device.type == "cpu" else _STATES_ON_DEVICE
    n_rows = max(1, min(len(states), most))
    n_items = max(1, min(len(table), numbers // n_rows))
    space = states.new_empty(n_rows * n_items)
    for start in range(0, len(table), n_items):
        weights = table[start : start + n_items].to(states.dtype)
        inside = [row - start for row in excluded if start <= row < start + len(weights)]
        columns = to_device(torch.tensor(inside, dtype=torch.int64), states.device) if inside else None

        def tiles(
            weights: Tensor = weights, columns: Tensor | None = columns
        ) -> Iterator[tuple[slice, Tensor]]:
            for first in range(0, len(states), n_rows):
                rows = slice(first, min(first + n_rows, len(states)))
                size = rows.stop - rows.start
                logits = space[: size * len(weights)].view(size, len(weights))
                torch.mm(states[rows], weights.T, out=logits)
                if columns is not None:
                    logits.index_fill_(1, columns, -torch.inf)
                yield rows, logits

        yield start, weights, tiles()
