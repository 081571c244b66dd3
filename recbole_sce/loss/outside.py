"""What a softmax holds of the items outside a bucket, from a uniform sample that a whole batch shares.

Of a state x whose bucket and target leave n items of the catalogue outside, k are in the sample. Each of them
stands for n / k::

    sum_{outside} exp(x . w_i)  ~  n / k * sum_{outside, sampled} exp(x . w_i)

which is right on average over samples that have any outside, whatever the distribution of the logits, and
exact where the sample holds the whole catalogue. The sample is shared, so that its logits are one product of
matrices.
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
    """Items drawn uniformly from the ``n_items`` candidates of a catalogue of ``n_rows`` rows.

    ``rows`` (K,) int64 are ascending, each once. Excluded rows are no candidates; they must be in no bucket
    either.
    """

    rows: Tensor
    n_items: int
    n_rows: int


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
        size: how many to draw. From a catalogue of more than 16 times as many somewhat fewer come, on average
            by up to 3 %, since what is drawn twice counts once.
        exclude_items: rows that are never drawn. RecBole's row 0 is padding.
        generator: source of randomness, on ``device``; None is torch's global one.
        device: that of the item embeddings; None is the CPU.

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
    return ItemSample(candidate_rows(ranks, excluded), n_items, n_rows)


def check_sample(sample: ItemSample, item_embeddings: Tensor) -> None:
    """Check that ``sample`` can be one of the rows of ``item_embeddings`` (C, d).

    Raises:
        ValueError: it is of another catalogue or on another device, or (where that can be seen without
            waiting for an accelerator: on the CPU) its rows are not ascending rows of ``item_embeddings``.
    """
    device, n_rows = item_embeddings.device, len(item_embeddings)
    if sample.n_rows != n_rows:
        raise ValueError(
            f"sample: one of a catalogue of {sample.n_rows} rows is not allowed with item_embeddings of "
            f"{n_rows} rows; sample_items(len(item_embeddings), size) is"
        )
    if sample.rows.device != device:
        raise ValueError(
            f"sample: {sample.rows.device} is not allowed; {device}, the device of item_embeddings, is"
        )
    if device.type == "cpu" and not _is_ascending(sample.rows, n_rows):
        raise ValueError(
            f"sample: rows that are not ascending from 0 to {n_rows - 1}, each once, are not allowed; those "
            "of sample_items are"
        )


def _is_ascending(rows: Tensor, n_rows: int) -> bool:
    bounds = torch.cat([rows.new_tensor([-1]), rows, rows.new_tensor([n_rows])])
    return bool((bounds.diff() > 0).all())


class Outside(NamedTuple):
    """Which of K sampled items lie outside the buckets of all states, and are not their targets.

    ``rows`` (K,) int64 are the sampled items. ``held`` (n_b + 1, m) int64 says which of them, 0 to K - 1, a
    bucket holds, filled up with K; its last row, of nothing but K, is that of states in no bucket. Of each
    state ``bucket`` (N,) int64 is the row of ``held``, ``target`` (N,) int64 says which of the sample is its
    target, K for none, and ``weights`` (N,) how many items outside each sampled one of them stands for; 0
    where none is.
    """

    rows: Tensor
    held: Tensor
    bucket: Tensor
    target: Tensor
    weights: Tensor

    @classmethod
    def of(
        cls,
        sample: ItemSample,
        items: Tensor,
        bucket: Tensor,
        targets: Tensor,
        inside: Tensor,
        dtype: torch.dtype,
    ) -> Outside:
        """Take the items of buckets and the targets out of a sample.

        Args:
            sample: of the catalogue.
            items: (n_b, b_y) int64, the items of each bucket.
            bucket: (N,) int64, the bucket of each state; n_b stands for none.
            targets: (N,) int64, the target of each state.
            inside: (N,) bool, whether a state's target is among the items of its bucket.
            dtype: of the weights.
        """
        size, (n_buckets, bucket_size_y) = len(sample.rows), items.shape
        none = items.new_full((n_buckets + 1, 1), size)
        numbers = torch.cat([_numbers(sample.rows, items), none[1:]], 1).sort(1).values
        n_held = (numbers < size).sum(1)  # (n_b,)
        most = int(n_held.max()) if n_buckets else 0
        held = torch.cat([numbers[:, : most + 1], none[:1].expand(1, most + 1)])
        target = _numbers(sample.rows, targets)
        n_own = (~inside).long()  # (N,), the target where it is none of the bucket's items
        n_scored = n_own + torch.where(bucket < n_buckets, bucket_size_y, 0)
        n_sampled = size - torch.cat([n_held, n_held.new_zeros(1)])[bucket] - n_own * (target < size)
        n_left = (sample.n_items - n_scored).masked_fill_(n_sampled < 1, 0).clamp_(min=0)
        weights = n_left.to(dtype) / n_sampled.clamp(min=1)
        return cls(sample.rows, held, bucket, target, weights)

    def complete(self, hidden: Tensor, item_embeddings: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        """Add the estimated sums of exp over the items outside to the sums over those inside.

        Args:
            hidden: (N, d).
            item_embeddings: (C, d).
            totals: (N,), the logarithms of the sums over those inside, the target among them.

        Returns:
            ``peaks`` and ``sums`` (N,): the completed sums are exp(peaks) * sums. As one number, as which
            ``totals`` come, a large peak would round the logarithm of the sum away.
        """
        peaks, sums = totals.clone(), torch.ones_like(totals)
        for part, _, logits in self._tiles(hidden, self._table(hidden, item_embeddings)):
            peak = torch.maximum(totals[part], logits.amax(1))
            outside = logits.sub_(peak.unsqueeze(1)).exp_().sum(1).mul_(self.weights[part])
            peaks[part], sums[part] = peak, outside.add_((totals[part] - peak).exp_())
        return peaks, sums

    def add_gradients(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
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
            peaks: (N,), from :meth:`complete`.
            sums: (N,), the same.
            scale: scalar, what the gradients are multiplied with.
            grad_hidden: (N or more, d) in the compute dtype.
            grad_items: the gradient of the items. One that is None is not computed.
        """
        table = self._table(hidden, item_embeddings)
        factors = (self.weights / sums).mul_(scale).unsqueeze(1)  # (N, 1)
        of_items = torch.zeros_like(table)
        for part, states, logits in self._tiles(hidden, table):
            slopes = logits.sub_(peaks[part].unsqueeze(1)).exp_()  # (n, K + 1), without their factors
            if grad_hidden is not None:
                grad_hidden[part] += (slopes @ table).mul_(factors[part])
            if grad_items is not None:
                of_items.addmm_(slopes.T, states * factors[part])
        if grad_items is not None:
            grad_items.add(self.rows, of_items[:-1])

    def _table(self, hidden: Tensor, item_embeddings: Tensor) -> Tensor:
        """Return the embeddings of the sample, and zeros as its last row: (K + 1, d) in the compute dtype."""
        of_sample = gather_rows(item_embeddings, self.rows, compute_dtype(hidden))
        return torch.cat([of_sample, of_sample.new_zeros(1, of_sample.size(1))])

    def _tiles(self, hidden: Tensor, table: Tensor) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Yield states (n, d) and their logits (n, K + 1), to be used before the next ones.

        Logits are -inf where an item is not outside, and in the last column.
        """
        n_columns, width = table.shape
        space = table.new_empty(0)
        for part in row_slices(len(hidden), 2 * (n_columns + width), hidden):
            states = hidden[part].to(table.dtype)
            if len(space) == 0:
                space = table.new_empty(len(states), n_columns)
            logits = torch.mm(states, table.T, out=space[: len(states)])
            logits.scatter_(1, self.held[self.bucket[part]], -torch.inf)
            logits.scatter_(1, self.target[part].unsqueeze(1), -torch.inf)
            yield part, states, logits


def _numbers(rows: Tensor, items: Tensor) -> Tensor:
    """Return where ascending ``rows`` (K,) have int64 ``items`` of any shape; K where they have not."""
    size = len(rows)
    if size == 0:
        return torch.zeros_like(items)
    numbers = torch.searchsorted(rows, items)
    return numbers.masked_fill_(rows[numbers.clamp(max=size - 1)] != items, size)
