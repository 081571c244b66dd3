"""Scalable Cross-Entropy (arXiv 2409.18721): the largest logits, and if wanted a sample of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Optional, Union

import torch
from torch import Tensor, nn

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
    sample: Optional[ItemSample] = None,
    histories: Optional[Histories] = None,
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
            raise ValueError("histories: not allowed without a sample, which completes the softmax")
        check_histories(histories, hidden, item_embeddings)
    loss, _ = bucket_loss(hidden, item_embeddings, targets, buckets, sample=sample, histories=histories)
    return loss


class ScalableCrossEntropyLoss(nn.Module):
    """Scalable Cross-Entropy with buckets drawn anew at each call (arXiv 2409.18721).

    Args:
        n_buckets: number of buckets n_b; None is int(alpha * sqrt(N)).
        bucket_size_x: states a bucket b_x; None is int(alpha * sqrt(N)).
        bucket_size_y: items a bucket b_y.
        alpha: factor of the automatic sizes.
        mix_x: whether bucket centres are mixtures of the hidden states.
        complete_softmax: whether the softmax of a bucket also holds the items outside it, those of the
            state's history and a sample of the others, and states in no bucket are trained by these (see
            :func:`scalable_cross_entropy`). In a catalogue so small that buckets save little the loss is
            exact instead (see :meth:`is_exact`).
        n_outside: of ``complete_softmax``, the size of the sample, which all states share.
        exact_up_to: with ``complete_softmax``, catalogues of at most so many items get exact cross-entropy
            even where buckets would save time.
        catalog_chunk: items scored at a time; None chooses.
        exclude_items: rows of the item embeddings that are never negatives. RecBole's row 0 is padding.

    Raises:
        ValueError: a size is not a whole number of at least 1, or alpha not a number above 0.
    """

    #: Whether the gradient of the item embeddings is a sparse (COO) tensor that names the rows touched.
    sparse_grad = False

    def __init__(
        self,
        n_buckets: Optional[int] = None,
        bucket_size_x: Optional[int] = None,
        bucket_size_y: int = 256,
        alpha: float = 2.0,
        mix_x: bool = True,
        complete_softmax: bool = False,
        n_outside: int = 2048,
        exact_up_to: int = 0,
        catalog_chunk: Optional[int] = None,
        exclude_items: Sequence[int] = (0,),
    ) -> None:
        super().__init__()
        for name, value in (
            ("n_buckets", n_buckets),
            ("bucket_size_x", bucket_size_x),
            ("bucket_size_y", bucket_size_y),
            ("n_outside", n_outside),
            ("catalog_chunk", catalog_chunk),
        ):
            check_count(name, value)
        if not (isinstance(alpha, (int, float)) and math.isfinite(alpha) and alpha > 0):
            raise ValueError(f"alpha: {alpha!r} is not allowed; a number above 0 is")
        if not isinstance(exact_up_to, int) or isinstance(exact_up_to, bool) or exact_up_to < 0:
            raise ValueError(f"exact_up_to: {exact_up_to!r} is not allowed; a whole number of at least 0 is")
        self.n_buckets = n_buckets
        self.bucket_size_x = bucket_size_x
        self.bucket_size_y = bucket_size_y
        self.alpha = alpha
        self.mix_x = mix_x
        self.complete_softmax = complete_softmax
        self.n_outside = n_outside
        self.exact_up_to = exact_up_to
        self.catalog_chunk = catalog_chunk
        self.exclude_items = tuple(exclude_items)
        self._sizes = (0, 0, 0)
        self._covered: Union[int, Tensor] = 0
        self._states = 0

    def forward(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
        targets: Tensor,
        generator: Optional[torch.Generator] = None,
        histories: Optional[Histories] = None,
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
        n_states = self._states = len(hidden)
        excluded = excluded_rows(self.exclude_items, len(item_embeddings))
        n_items = len(item_embeddings) - len(excluded)
        if self.is_exact(n_items):
            self._sizes, self._covered = (1, n_states, n_items), n_states
            return exact_cross_entropy(hidden, item_embeddings, targets, excluded)
        automatic = max(1, int(self.alpha * math.sqrt(n_states)))
        centers = bucket_centers(hidden.detach(), self.n_buckets or automatic, self.mix_x, generator)
        buckets = select_buckets(
            hidden.detach(),
            item_embeddings.detach(),
            centers,
            self.bucket_size_x or automatic,
            self.bucket_size_y,
            self.exclude_items,
            self.catalog_chunk,
        )
        sample = None
        if self.complete_softmax:
            sample = sample_items(
                len(item_embeddings), self.n_outside, self.exclude_items, generator, hidden.device
            )
            if histories is not None:
                check_histories(histories, hidden, item_embeddings)
        loss, n_covered = bucket_loss(
            hidden, item_embeddings, targets, buckets, self.sparse_grad, sample, histories
        )
        self._sizes = (*buckets.rows.shape, buckets.items.size(1))
        self._covered = n_covered
        return loss

    def is_exact(self, n_items: int) -> bool:
        """Return whether the loss over a catalogue of ``n_items`` is exact cross-entropy, without buckets.

        It is with ``complete_softmax`` up to ``exact_up_to`` items, and where that takes no longer: up to as
        many items as a state has logits in the sample, and twice those that it has in buckets of the
        automatic sizes, alpha^2 b_y. (A bucket's logit costs more than another one, since its items have to
        be searched and gathered; histories are not counted.) Numbers of buckets or of their states set by
        hand keep their buckets; so does a sparse gradient, since an exact one touches every item.
        """
        automatic = self.n_buckets is None and self.bucket_size_x is None
        as_costly = 2 * self.alpha**2 * min(self.bucket_size_y, n_items) + self.n_outside
        few = n_items <= max(self.exact_up_to, as_costly)
        return self.complete_softmax and automatic and few and not self.sparse_grad

    @property
    def uses_histories(self) -> bool:
        """Whether the states' histories matter to the loss: they complete the softmax."""
        return self.complete_softmax

    @property
    def holds_histories(self) -> bool:
        """Whether the sum of each state holds all items of its history, where it is given."""
        return self.complete_softmax

    @property
    def n_trained(self) -> int:
        """The number of states whose mean the last call returned: all, or those that fell into a bucket."""
        return self._states if self.complete_softmax else int(self._covered)

    @property
    def last_stats(self) -> dict[str, float]:
        """Plain numbers of the last call: the share of states in a bucket, and the sizes really used.

        Exact cross-entropy counts as one bucket of all states and all items.
        """
        n_buckets, bucket_size_x, bucket_size_y = self._sizes
        return {
            "coverage": int(self._covered) / max(self._states, 1),
            "n_buckets": n_buckets,
            "bucket_size_x": bucket_size_x,
            "bucket_size_y": bucket_size_y,
        }

    def extra_repr(self) -> str:
        """Show the settings when the module is printed."""
        return (
            f"n_buckets={self.n_buckets}, bucket_size_x={self.bucket_size_x}, "
            f"bucket_size_y={self.bucket_size_y}, alpha={self.alpha}, mix_x={self.mix_x}, "
            f"complete_softmax={self.complete_softmax}, n_outside={self.n_outside}, "
            f"exact_up_to={self.exact_up_to}, catalog_chunk={self.catalog_chunk}, "
            f"exclude_items={self.exclude_items}"
        )
