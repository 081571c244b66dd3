"""Scalable Cross-Entropy (arXiv 2409.18721): the largest logits, and if wanted a sample of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from recbole_sce.loss.base import ItemLoss, LossStats, display_name
from recbole_sce.loss.inputs import check_count, check_inputs, excluded_rows
from recbole_sce.loss.sce.buckets import Buckets, bucket_centers, select_buckets
from recbole_sce.loss.sce.fused import bucket_loss
from recbole_sce.loss.sce.histories import Histories, check_histories
from recbole_sce.loss.sce.outside import ItemSample, check_sample, sample_items
from recbole_sce.loss.softmax import exact_cross_entropy


def scalable_cross_entropy(
    hidden: Tensor,
    item_embeddings: Tensor,
    targets: Tensor,
    buckets: Buckets,
    sample: ItemSample | None = None,
    histories: Histories | None = None,
) -> Tensor:
    """Return the mean, over the states that fell into a bucket, of each state's largest bucket loss.

    The loss of state x with target y in a bucket with items I is the cross-entropy over I and y::

        log( sum_{i in I + {y}} exp(x . w_i) ) - x . w_y

    A state in several buckets counts with the largest of its losses (arXiv 2409.18721, section 3).

    With ``sample`` the sum of this bucket also holds all other items: those of x's own history, one by one,
    and for all others the sample, each item of which is counted for as many as it stands for (see
    :mod:`recbole_sce.loss.sce.outside`). The mean is then over all states: one in no bucket has the loss of
    its target against these alone.

    Args:
        hidden: (N, d) floating point.
        item_embeddings: (C, d) floating point.
        targets: (N,) int64, rows of ``item_embeddings``.
        buckets: the states and items of each bucket, from :func:`select_buckets`.
        sample: of the rows of ``item_embeddings``, from :func:`sample_items`, with the same excluded rows as
            the buckets; None for the loss of the paper.
        histories: with ``sample``, the items of each state's history; rows that the sample excludes count for
            nothing in them. None for empty ones.

    Returns:
        A scalar in float32 (float64 for float64 states); zero where no state is trained. It can be
        differentiated once.

    Raises:
        ValueError: a tensor has the wrong shape, dtype or device, ``sample`` or ``histories`` are of another
            catalogue, or there are ``histories`` without a ``sample``.
    """
    check_inputs(hidden, item_embeddings, targets)
    if sample is not None:
        check_sample(sample, item_embeddings)
    if histories is not None:
        if sample is None:
            raise ValueError("histories must be None without a sample, which completes the softmax")
        check_histories(histories, hidden, item_embeddings)
    loss, _ = bucket_loss(hidden, item_embeddings, targets, buckets, sample=sample, histories=histories)
    return loss


class ScalableCrossEntropyLoss(ItemLoss):
    """Scalable Cross-Entropy with buckets drawn anew at each call (arXiv 2409.18721).

    Args:
        n_buckets: number of buckets n_b; None is int(alpha * sqrt(N)).
        bucket_size_x: states a bucket b_x; None is int(alpha * sqrt(N)).
        bucket_size_y: items a bucket b_y.
        alpha: factor of the automatic sizes.
        mix_x: whether bucket centres are mixtures of the hidden states.
        complete_softmax: whether the softmax of a bucket also holds the items outside it, those of the
            state's history and a sample of the others, and states in no bucket are trained by these (see
            :func:`scalable_cross_entropy`). Without it is the loss of the paper, SCE (paper).
        n_outside: of ``complete_softmax``, the size of the sample, which all states share. Where it holds
            all candidates nothing is estimated: the loss is exact cross-entropy, without buckets.
        catalog_chunk: items scored at a time; None chooses.
        exclude_items: rows of the item embeddings that are never negatives. RecBole's row 0 is padding.

    Raises:
        ValueError: a size is not a whole number of at least 1, or alpha not a number above 0.
    """

    allows_sparse_grad = True

    def __init__(
        self,
        n_buckets: int | None = None,
        bucket_size_x: int | None = None,
        bucket_size_y: int = 256,
        alpha: float = 2.0,
        mix_x: bool = True,
        complete_softmax: bool = True,
        n_outside: int = 2048,
        catalog_chunk: int | None = None,
        exclude_items: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        self.n_buckets = n_buckets
        self.bucket_size_x = bucket_size_x
        self.bucket_size_y = bucket_size_y
        self.alpha = alpha
        self.mix_x = mix_x
        self.complete_softmax = complete_softmax
        self.n_outside = n_outside
        self.catalog_chunk = catalog_chunk
        self.exclude_items = tuple(exclude_items)
        for name in ("n_buckets", "bucket_size_x", "bucket_size_y", "n_outside", "catalog_chunk"):
            check_count(name, getattr(self, name))
        if not (isinstance(alpha, (int, float)) and math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha must be a number above 0, got {alpha!r}")
        self.name = display_name("SCE", complete_softmax)
        self.needs_histories = self.allows_later_targets = complete_softmax
        #: Sizes of the buckets of the last call, and the number of states in them.
        self._last: tuple[int, int, int, Tensor] | None = None

    def forward(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
        targets: Tensor,
        generator: torch.Generator | None = None,
        histories: Histories | None = None,
    ) -> Tensor:
        """Draw buckets and return their loss.

        Args:
            hidden: (N, d) floating point; real positions only, no padding.
            item_embeddings: (C, d) floating point.
            targets: (N,) int64, rows of ``item_embeddings``.
            generator: source of the bucket centres and of the items that are drawn; None is torch's global
                one.
            histories: the items of each state's history, which ``complete_softmax`` scores one by one;
                excluded rows in them, padding for instance, count for nothing. None for empty ones.

        Returns:
            A scalar in float32 (float64 for float64 inputs).

        Raises:
            ValueError: a tensor has the wrong shape, dtype or device.
        """
        check_inputs(hidden, item_embeddings, targets, self.exclude_items)
        n_states = self._n_states = len(hidden)
        excluded = excluded_rows(self.exclude_items, len(item_embeddings))
        n_items = len(item_embeddings) - len(excluded)
        self._last = None
        if self.complete_softmax and self.n_outside >= n_items:
            return exact_cross_entropy(hidden, item_embeddings, targets, excluded, self.sparse_grad)
        automatic = max(1, int(self.alpha * math.sqrt(n_states)))
        centers = bucket_centers(hidden, self.n_buckets or automatic, self.mix_x, generator)
        sizes = self.bucket_size_x or automatic, self.bucket_size_y
        buckets = select_buckets(
            hidden, item_embeddings, centers, *sizes, self.exclude_items, self.catalog_chunk
        )
        sample = None
        if self.complete_softmax:
            n_rows, device = len(item_embeddings), hidden.device
            sample = sample_items(n_rows, self.n_outside, self.exclude_items, generator, device)
            if histories is not None:
                check_histories(histories, hidden, item_embeddings)
        loss, n_covered = bucket_loss(
            hidden, item_embeddings, targets, buckets, self.sparse_grad, sample, histories
        )
        self._last = (*buckets.rows.shape, buckets.items.size(1), n_covered)
        return loss

    @property
    def last_stats(self) -> LossStats:
        """What the last call did.

        Where the sample held all candidates there were no buckets, and nothing was estimated.
        """
        if self._last is None:
            return super().last_stats
        *sizes, n_covered = self._last
        n_states, covered = self._n_states, int(n_covered)
        n_trained = n_states if self.complete_softmax else covered
        return LossStats(n_states, n_trained, self.complete_softmax, covered / max(n_states, 1), *sizes)

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return (
            f"n_buckets={self.n_buckets}, bucket_size_x={self.bucket_size_x}, "
            f"bucket_size_y={self.bucket_size_y}, alpha={self.alpha}, mix_x={self.mix_x}, "
            f"complete_softmax={self.complete_softmax}, n_outside={self.n_outside}, "
            f"catalog_chunk={self.catalog_chunk}, exclude_items={self.exclude_items}"
        )
