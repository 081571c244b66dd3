"""What a softmax holds of the items outside a bucket, from a uniform sample that a whole batch shares.

Of a state x whose bucket and target leave n items of the catalogue outside, k are in the sample. Each of them
stands for n / k::

    sum_{outside} exp(x . w_i)  ~  n / k * sum_{outside, sampled} exp(x . w_i)

which is right on average over samples, whatever the distribution of the logits, and exact where the sample
holds the whole catalogue. The sample is shared, so that its logits are one product of matrices.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

import torch
from torch import Tensor

from recbole_sce.loss.inputs import candidate_rows, check_count, excluded_rows
from recbole_sce.loss.logits import compute_dtype, gather_rows, row_slices
from recbole_sce.loss.memory import RowGradient

#: Up to so many times the size of the sample the catalogue is shuffled, which leaves out doubles.
_SHUFFLE = 16


class ItemSample(NamedTuple):
    """Items drawn uniformly from a catalogue of ``n_items``: ``rows`` (K,) int64, ascending, each once."""

    rows: Tensor
    n_items: int


def sample_items(
    n_rows: int,
    size: int,
    exclude_items: Sequence[int] = (0,),
    generator: Optional[torch.Generator] = None,
    device: Optional[torch.device] = None,
) -> ItemSample:
    """Draw items uniformly from a catalogue, each at most once; all of them where there are no more.

    Args:
        n_rows: number of rows of the item embeddings, C.
        size: how many to draw. From a catalogue of more than 16 times as many up to 3 % fewer come, since
            what is drawn twice counts once.
        exclude_items: rows that are never drawn. RecBole's row 0 is padding.
        generator: source of randomness, on ``device``; None is torch's global one.
        device: of the rows; None is the CPU.

    Raises:
        ValueError: ``size`` is not a whole number of at least 1.
    """
    check_count("size", size)
    excluded = excluded_rows(exclude_items, n_rows)
    n_items = n_rows - len(excluded)
    if n_items <= size:
        ranks = torch.arange(n_items, device=device)
    elif n_items <= _SHUFFLE * size:
        ranks = torch.randperm(n_items, generator=generator, device=device)[:size].sort().values
    else:
        ranks = torch.unique(torch.randint(n_items, (size,), generator=generator, device=device))
    return ItemSample(candidate_rows(ranks, excluded), n_items)


def check_sample(sample: ItemSample, item_embeddings: Tensor) -> None:
    """Check that ``sample`` can be one of the rows of ``item_embeddings`` (C, d).

    Raises:
        ValueError: it is of a larger catalogue, or on another device.
    """
    if sample.n_items > len(item_embeddings):
        raise ValueError(
            f"sample: one of {sample.n_items} items is not allowed with item_embeddings of "
            f"{len(item_embeddings)} rows; sample_items(len(item_embeddings), size) is"
        )
    if sample.rows.device != item_embeddings.device:
        raise ValueError(
            f"sample: {sample.rows.device} is not allowed; {item_embeddings.device}, the device of "
            "item_embeddings, is"
        )


class Outside:
    """The sampled items that lie outside the buckets of given states, and are not their targets.

    Args:
        sample: of the catalogue.
        items: (n_b, b_y) int64, the items of each bucket.
        buckets: (T,) int64, the bucket of each state; n_b stands for none.
        targets: (T,) int64, the target of each state.
        inside: (T,) bool, whether a state's target is among the items of its bucket.
        dtype: of sums.
    """

    def __init__(
        self,
        sample: ItemSample,
        items: Tensor,
        buckets: Tensor,
        targets: Tensor,
        inside: Tensor,
        dtype: torch.dtype,
    ) -> None:
        self.rows = sample.rows
        size, (n_buckets, bucket_size_y) = len(sample.rows), items.shape
        # (n_b + 1, K + 1), which of the sample each bucket holds; the last column takes what is not sampled.
        self._held = torch.zeros(n_buckets + 1, size + 1, dtype=torch.bool, device=items.device)
        self._held[:-1].scatter_(1, self._columns(items), True)
        self._buckets, self._own = buckets, self._columns(targets)
        n_own = (~inside).long()  # (T,), the target where it is none of the bucket's items
        n_scored = n_own + torch.where(buckets < n_buckets, bucket_size_y, 0)
        n_sampled = size - self._held[:, :-1].sum(1)[buckets] - n_own * (self._own < size)
        #: (T,) how many items outside each sampled one of them stands for; 0 where there are none.
        n_outside = (sample.n_items - n_scored).masked_fill_(n_sampled < 1, 0).clamp_(min=0)
        self.weights = n_outside.to(dtype) / n_sampled.clamp(min=1)

    def _columns(self, items: Tensor) -> Tensor:
        """Return where the sample has int64 ``items`` of any shape; K where it has not."""
        size = len(self.rows)
        if size == 0:
            return torch.zeros_like(items)
        columns = torch.searchsorted(self.rows, items)
        return columns.masked_fill_(self.rows[columns.clamp(max=size - 1)] != items, size)

    def _logits(
        self, hidden: Tensor, table: Tensor, states: Tensor
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield the logits of ``states`` (T,) int64, rows of ``hidden`` (N, d), a part after the other.

        With each part come its hidden states (n, d) and its logits (n, K) with the sample's embeddings
        ``table`` (K, d), in the dtype of ``table``; they are -inf where an item is not outside.
        """
        if len(table) == 0:
            return
        for part in row_slices(len(states), len(table) + hidden.size(1), hidden):
            of_part = gather_rows(hidden, states[part], table.dtype)
            held = self._held[self._buckets[part]].scatter_(1, self._own[part].unsqueeze(1), True)
            yield part, of_part, (of_part @ table.T).masked_fill_(held[:, :-1], -torch.inf)

    def complete(
        self, hidden: Tensor, item_embeddings: Tensor, states: Tensor, totals: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Add the estimated sums of exp over the items outside to the sums over those inside.

        Args:
            hidden: (N, d).
            item_embeddings: (C, d).
            states: (T,) int64, rows of ``hidden``.
            totals: (T,), the logarithms of the sums over those inside.

        Returns:
            ``peaks`` and ``sums`` (T,): the completed sums are exp(peaks) * sums. As one number, a large peak
            would round the logarithm of the sum away.
        """
        table = gather_rows(item_embeddings, self.rows, compute_dtype(hidden))  # (K, d)
        peaks, sums = totals.clone(), torch.ones_like(totals)
        for part, _, logits in self._logits(hidden, table, states):
            peak = torch.maximum(totals[part], logits.amax(1))
            outside = logits.sub_(peak.unsqueeze(1)).exp_().sum(1).mul_(self.weights[part])
            peaks[part], sums[part] = peak, outside.add_((totals[part] - peak).exp_())
        return peaks, sums

    def add_gradients(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
        states: Tensor,
        peaks: Tensor,
        sums: Tensor,
        scale: Tensor,
        grad_hidden: Optional[Tensor],
        grad_items: Optional[RowGradient],
    ) -> None:
        """Add to the gradients what the sampled items contribute to the losses of the states.

        Args:
            hidden: (N, d).
            item_embeddings: (C, d).
            states: (T,) int64, rows of ``hidden``.
            peaks: (T,), from :meth:`complete`.
            sums: (T,), the same.
            scale: scalar, what the gradients are multiplied with.
            grad_hidden: (N or more, d) in the compute dtype.
            grad_items: the gradient of the items. One that is None is not computed.
        """
        table = gather_rows(item_embeddings, self.rows, compute_dtype(hidden))  # (K, d)
        factors = (self.weights / sums).mul_(scale).unsqueeze(1)  # (T, 1)
        of_items = torch.zeros_like(table)
        for part, of_part, logits in self._logits(hidden, table, states):
            slopes = logits.sub_(peaks[part].unsqueeze(1)).exp_().mul_(factors[part])  # (n, K)
            if grad_hidden is not None:
                grad_hidden.index_add_(0, states[part], slopes @ table)
            if grad_items is not None:
                of_items.addmm_(slopes.T, of_part)
        if grad_items is not None:
            grad_items.add(self.rows, of_items)
