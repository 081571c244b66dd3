"""Losses over a few uniformly drawn negatives: the paper's other baselines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn import functional

from recbole_sce.loss.base import ItemLoss
from recbole_sce.loss.inputs import candidate_rows, check_count, check_inputs, excluded_rows
from recbole_sce.loss.ops.eager import never_compiled, refuse_second_gradient
from recbole_sce.loss.ops.logits import compute_dtype, gather_rows, row_slices
from recbole_sce.loss.ops.memory import RowGradient
from recbole_sce.utils.devices import to_device


def uniform_negatives(
    targets: Tensor,
    n_items: int,
    n_negatives: int,
    exclude_items: Sequence[int] = (0,),
    generator: Generator | None = None,
) -> Tensor:
    """Draw items uniformly, with replacement, from all that are neither excluded nor the state's target.

    Args:
        targets: (N,) int64, rows of the catalogue that are not excluded.
        n_items: number of rows of the catalogue, C.
        n_negatives: K, negatives a state.
        exclude_items: rows that are never negatives.
        generator: source of randomness, on the device of ``targets``; None is torch's global one.

    Returns:
        (N, K) int64; (N, 0) where there is no item beside the target.
    """
    excluded = excluded_rows(exclude_items, n_items)
    n_candidates = n_items - len(excluded) - 1
    shape = (len(targets), n_negatives if n_candidates > 0 else 0)
    drawn = torch.randint(max(n_candidates, 1), shape, generator=generator, device=targets.device)
    barred = to_device(torch.tensor(excluded, dtype=torch.int64), targets.device)
    # From the rank among allowed rows to the row: first over the target's rank, then over excluded rows.
    drawn += drawn >= (targets - torch.searchsorted(barred, targets)).unsqueeze(-1)
    return candidate_rows(drawn, excluded)


class _ItemLogits(torch.autograd.Function):
    """Logits x . w_i of each state x and its own items i; the gathered w_i, (N, m, d), are never all held."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, items: Tensor, sparse_grad: bool) -> Tensor:
        ctx.sparse_grad = sparse_grad
        ctx.save_for_backward(hidden, table, items)
        dtype = compute_dtype(hidden)
        logits = hidden.new_empty(items.shape, dtype=dtype)
        with torch.autocast(hidden.device.type, enabled=False):
            for part in row_slices(len(items), items.size(1) * hidden.size(1), hidden):
                weights = gather_rows(table, items[part], dtype)  # (n, m, d)
                logits[part] = torch.bmm(weights, hidden[part].to(dtype).unsqueeze(2)).squeeze(2)
        return logits

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        refuse_second_gradient("losses over sampled negatives", "their")
        hidden, table, items = ctx.saved_tensors
        grad_hidden = torch.zeros_like(hidden) if ctx.needs_input_grad[0] else None
        grad_items = None
        if ctx.needs_input_grad[1]:
            grad_items = RowGradient(table, grad.dtype, items, sparse=ctx.sparse_grad)
        with torch.autocast(hidden.device.type, enabled=False):
            for part in row_slices(len(items), items.size(1) * hidden.size(1), hidden):
                slopes = grad[part].unsqueeze(1)  # (n, 1, m)
                if grad_hidden is not None:
                    weights = gather_rows(table, items[part], grad.dtype)  # (n, m, d)
                    grad_hidden[part] = torch.bmm(slopes, weights).squeeze(1).to(hidden.dtype)
                if grad_items is not None:
                    states = hidden[part].to(grad.dtype).unsqueeze(1)  # (n, 1, d)
                    grad_items.add(items[part], slopes.mT * states)
        return grad_hidden, None if grad_items is None else grad_items.result(), None, None


# Its chunks are written in place, which torch.compile would undo: it calls it as it is.
_item_logits = never_compiled(_ItemLogits.apply)


class _SampledLoss(ItemLoss):
    """What the losses over sampled negatives have in common; see :meth:`state_losses`."""

    allows_sparse_grad = True

    def __init__(self, n_negatives: int = 256, exclude_items: Sequence[int] = (0,)) -> None:
        super().__init__()
        check_count("n_negatives", n_negatives)
        self.n_negatives = n_negatives
        self.exclude_items = tuple(exclude_items)

    def forward(
        self, hidden: Tensor, item_embeddings: Tensor, targets: Tensor, generator: Generator | None = None
    ) -> Tensor:
        """Draw negatives and return the mean loss of the states.

        Args:
            hidden: (N, d) floating point.
            item_embeddings: (C, d) floating point.
            targets: (N,) int64, rows of ``item_embeddings`` that are not excluded.
            generator: source of the negatives; None is torch's global one.

        Returns:
            A scalar in float32 (float64 for float64 states); zero for no states. It can be differentiated
            once.

        Raises:
            ValueError: a tensor has the wrong shape, dtype or device.
        """
        check_inputs(hidden, item_embeddings, targets, self.exclude_items)
        self._n_states = len(hidden)
        n_items = len(item_embeddings)
        negatives = uniform_negatives(targets, n_items, self.n_negatives, self.exclude_items, generator)
        items = torch.cat([targets.unsqueeze(1), negatives], 1)  # (N, 1 + K)
        logits: Tensor = _item_logits(hidden, item_embeddings, items, self.sparse_grad)
        return self.state_losses(logits, n_items).sum() / max(len(hidden), 1)

    def state_losses(self, logits: Tensor, n_items: int) -> Tensor:
        """Return the loss (N,) of each state from its logits (N, 1 + K), the target's first; K may be 0."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return f"n_negatives={self.n_negatives}, exclude_items={self.exclude_items}"


class SampledCrossEntropyLoss(_SampledLoss):
    """CE-, sampled softmax: cross-entropy over the target y and K uniform negatives.

    For a state x with logits s_i = x . w_i and negatives k = 1 to K::

        log( exp(s_y) + sum_k exp(s_k) ) - s_y

    The negatives are drawn with equal probability, so no correction of their logits is applied
    (arXiv 2409.18721, where it is one of the baselines; arXiv 2402.16299).

    Args:
        n_negatives: K, negatives a state, drawn with replacement.
        exclude_items: rows of the item embeddings that are never negatives. RecBole's row 0 is padding.

    Raises:
        ValueError: ``n_negatives`` is not a whole number of at least 1.
    """

    name = "CE-"

    def state_losses(self, logits: Tensor, n_items: int) -> Tensor:
        """Return log(exp(s_y) + sum_k exp(s_k)) - s_y of each state (N,)."""
        return logits.logsumexp(1) - logits[:, 0]


class GBCELoss(_SampledLoss):
    """gBCE: binary cross-entropy that undoes the overconfidence which sampling brings (arXiv 2308.07192).

    For a state x with logits s_i = x . w_i, target y, K negatives and n candidates (all items that are not
    excluded)::

        - ( beta log sigma(s_y) + sum_k log(1 - sigma(s_k)) ) / (K + 1)
        beta = rate (t (1 - 1 / rate) + 1 / rate),   rate = K / (n - 1)

    With t = 0, beta is 1 and the loss is binary cross-entropy; with t = 1 it is the sampling rate.

    Args:
        n_negatives: K, negatives a state, drawn with replacement.
        calibration: t, from 0 to 1.
        exclude_items: rows of the item embeddings that are never negatives. RecBole's row 0 is padding.

    Raises:
        ValueError: ``n_negatives`` is not a whole number of at least 1, or ``calibration`` not in [0, 1].
    """

    name = "gBCE"

    def __init__(
        self, n_negatives: int = 256, calibration: float = 0.75, exclude_items: Sequence[int] = (0,)
    ) -> None:
        super().__init__(n_negatives, exclude_items)
        if not 0 <= calibration <= 1:
            raise ValueError(f"calibration must be a number from 0 to 1, got {calibration!r}")
        self.calibration = calibration

    def state_losses(self, logits: Tensor, n_items: int) -> Tensor:
        """Return -(beta log sigma(s_y) + sum_k log(1 - sigma(s_k))) / (K + 1) of each state (N,)."""
        n_negatives = logits.size(1) - 1
        n_others = n_items - len(excluded_rows(self.exclude_items, n_items)) - 1
        # With replacement K may exceed the number of other items; more than all of them is not sampled.
        rate = min(1.0, n_negatives / max(n_others, 1)) if n_negatives else 1.0
        beta = 1.0 - self.calibration * (1.0 - rate)  # the definition, multiplied out
        own = beta * functional.softplus(-logits[:, 0])
        return (own + functional.softplus(logits[:, 1:]).sum(1)) / (n_negatives + 1)

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return f"{super().extra_repr()}, calibration={self.calibration}"


class BCELoss(GBCELoss):
    """Binary cross-entropy of the target y against K uniform negatives; gBCE with t = 0.

    For a state x with logits s_i = x . w_i::

        - ( log sigma(s_y) + sum_k log(1 - sigma(s_k)) ) / (K + 1)

    With K = 1 it is SASRec's own loss (arXiv 1808.09781) but for a factor of 1/2.

    Args:
        n_negatives: K, negatives a state, drawn with replacement.
        exclude_items: rows of the item embeddings that are never negatives. RecBole's row 0 is padding.

    Raises:
        ValueError: ``n_negatives`` is not a whole number of at least 1.
    """

    name = "BCE"

    def __init__(self, n_negatives: int = 256, exclude_items: Sequence[int] = (0,)) -> None:
        super().__init__(n_negatives, 0.0, exclude_items)
