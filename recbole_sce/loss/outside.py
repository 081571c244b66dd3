"""What a softmax holds of the items outside a bucket: targets of states nearby, a sample of the others.

A bucket holds the items that score high against its centre, and not all that score high against a state x.
Those that it misses are above all the items of x's own history: what a user has just had scores high, is
rarely what follows, and so is the hardest negative. Where all positions of a sequence are trained, its states
are neighbours; so the targets of the states near x, its block's and those of the block before, are all
scored. (Where one position is trained, these are other users' targets.)

All other items outside are many, and their logits are small. A uniform sample stands for them, which a whole
batch shares, so that its logits are one product of matrices. Of n such items k are in the sample::

    sum_{outside} exp(x . w_i)  ~  sum_{near} exp(x . w_i) + n / k * sum_{sampled, not near} exp(x . w_i)

which is right on average over samples that have any, whatever the distribution of the logits, and exact where
the sample holds the whole catalogue.
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
#: States a block. Two blocks are longer than most histories are, and few columns beside those of a sample.
_BLOCK = 256


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
    if size is None:
        raise ValueError("size: None is not allowed; a whole number of at least 1 is")
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
    """Which sampled items, and which targets of a batch, lie outside the buckets of all states.

    All int64. ``rows`` (K,) are the sampled items, ``near`` (M,) the targets of the batch, both ascending,
    each once. ``held`` (n_b + 1, m) says which of ``rows``, 0 to K - 1, a bucket holds, filled up with K, and
    ``near_held`` (n_b + 1, m') which of ``near``, filled up with M; the last row of both, of fillings alone,
    is that of states in no bucket. ``near_sampled`` (M,) says which of ``rows`` a target is, K for none.
    ``n_outside`` and ``n_sampled`` (n_b + 1,) are how many items, and how many of the sample, a bucket does
    not hold. Of each state ``bucket`` (N,) is its bucket, n_b for none, and ``target`` (N,) says which of
    ``near`` is its target.
    """

    rows: Tensor
    near: Tensor
    held: Tensor
    near_held: Tensor
    near_sampled: Tensor
    n_outside: Tensor
    n_sampled: Tensor
    bucket: Tensor
    target: Tensor

    @classmethod
    def of(cls, sample: ItemSample, items: Tensor, bucket: Tensor, targets: Tensor) -> Outside:
        """Take the items of buckets out of a sample, and out of the targets.

        Args:
            sample: of the catalogue.
            items: (n_b, b_y) int64, the items of each bucket.
            bucket: (N,) int64, the bucket of each state; n_b stands for none.
            targets: (N,) int64, the target of each state.
        """
        near, target = torch.unique(targets, return_inverse=True)
        held, n_held = _held(sample.rows, items)
        in_buckets = torch.full_like(n_held, items.size(1))
        in_buckets[-1] = 0
        return cls(
            rows=sample.rows,
            near=near,
            held=held,
            near_held=_held(near, items)[0],
            near_sampled=_places(sample.rows, near),
            n_outside=sample.n_items - in_buckets,
            n_sampled=len(sample.rows) - n_held,
            bucket=bucket,
            target=target,
        )

    def complete(self, hidden: Tensor, item_embeddings: Tensor, totals: Tensor) -> tuple[Tensor, Tensor]:
        """Add the sums of exp over the items outside to the sums over those inside.

        Args:
            hidden: (N, d).
            item_embeddings: (C, d).
            totals: (N,), the logarithms of the sums over those inside, the target among them.

        Returns:
            ``peaks`` and ``sums`` (N,): the completed sums are exp(peaks) * sums. As one number, as which
            ``totals`` come, a large peak would round the logarithm of the sum away.
        """
        peaks, sums = totals.clone(), torch.ones_like(totals)
        for tile in self._tiles(hidden, item_embeddings, self._table(hidden, item_embeddings)):
            peak = torch.maximum(tile.sampled.amax(1), tile.near.amax(1))
            peak = torch.maximum(totals[tile.part], peak)
            column = peak.unsqueeze(1)
            sampled = tile.sampled.sub_(column).exp_().sum(1).mul_(tile.weights)
            near = tile.near.sub_(column).exp_().sum(1)
            inside = (totals[tile.part] - peak).exp_()
            peaks[tile.part], sums[tile.part] = peak, inside.add_(sampled).add_(near)
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
        """Add to the gradients what the items outside contribute to the losses of the states.

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
        of_sample = torch.zeros_like(table)
        for tile in self._tiles(hidden, item_embeddings, table):
            column = peaks[tile.part].unsqueeze(1)
            factors = (scale / sums[tile.part]).unsqueeze(1)  # (n, 1)
            weights = factors * tile.weights.unsqueeze(1)  # (n, 1)
            sampled = tile.sampled.sub_(column).exp_()  # (n, K + 1), slopes without their factors
            near = tile.near.sub_(column).exp_().mul_(factors)  # (n, M + 1)
            if grad_hidden is not None:
                grad_hidden[tile.part] += (sampled @ table).mul_(weights).addmm_(near, tile.near_table)
            if grad_items is not None:
                of_sample.addmm_(sampled.T, tile.states * weights)
                grad_items.add(tile.near_rows, (near.T @ tile.states)[:-1])
        if grad_items is not None:
            grad_items.add(self.rows, of_sample[:-1])

    def _table(self, hidden: Tensor, item_embeddings: Tensor) -> Tensor:
        """Return the embeddings of the sample, and zeros as its last row: (K + 1, d) in the compute dtype."""
        return _with_zeros(gather_rows(item_embeddings, self.rows, compute_dtype(hidden)))

    def _tiles(self, hidden: Tensor, item_embeddings: Tensor, table: Tensor) -> Iterator[_Tile]:
        """Yield all states, a block or less at a time, with their logits outside."""
        space = table.new_empty(0)
        for start in range(0, len(hidden), _BLOCK):
            chosen = torch.unique(self.target[max(0, start - _BLOCK) : start + _BLOCK])  # (M',) of ``near``
            n_near = len(chosen)
            near_rows = self.near[chosen]
            near_table = _with_zeros(gather_rows(item_embeddings, near_rows, table.dtype))  # (M' + 1, d)
            # Where the block has each target of the batch; M' where it has not.
            column = chosen.new_full((len(self.near) + 1,), n_near)
            column[chosen] = torch.arange(n_near, device=chosen.device)
            held = column[self.near_held]  # (n_b + 1, m')
            sampled = self.near_sampled[chosen]  # (M',)
            is_sampled = torch.cat([sampled < len(self.rows), sampled.new_zeros(1, dtype=torch.bool)])
            # Of each bucket: what neither it nor the block holds, in all and of the sample. (n_b + 1,)
            n_outside = self.n_outside - n_near + (held < n_near).sum(1)
            n_sampled = self.n_sampled - is_sampled.sum() + is_sampled[held].sum(1)
            n_outside = n_outside.masked_fill(n_sampled < 1, 0).clamp_(min=0)
            weights = n_outside.to(table.dtype) / n_sampled.clamp(min=1)
            states_of_block = hidden[start : start + _BLOCK]
            numbers = len(table) + len(near_table) + hidden.size(1)
            for rows in row_slices(len(states_of_block), numbers, hidden):
                states = states_of_block[rows].to(table.dtype)
                part = slice(start + rows.start, start + rows.stop)
                bucket = self.bucket[part]
                if len(space) < len(states):
                    space = table.new_empty(len(states), len(table))
                logits = torch.mm(states, table.T, out=space[: len(states)])
                logits.scatter_(1, self.held[bucket], -torch.inf).index_fill_(1, sampled, -torch.inf)
                near = states @ near_table.T
                near.scatter_(1, held[bucket], -torch.inf)
                near.scatter_(1, column[self.target[part]].unsqueeze(1), -torch.inf)
                yield _Tile(part, states, logits, near, near_rows, near_table, weights[bucket])


class _Tile(NamedTuple):
    """States and their logits outside, to be used before the next tile.

    Logits are -inf where an item is not outside, or is the target, and in the last column.
    """

    part: slice
    states: Tensor  # (n, d) in the compute dtype
    sampled: Tensor  # (n, K + 1), with items of the sample that are not near
    near: Tensor  # (n, M' + 1), with targets near
    near_rows: Tensor  # (M',) int64
    near_table: Tensor  # (M' + 1, d), the last row zeros
    weights: Tensor  # (n,), how many items each of the sample stands for; 0 where there are none


def _with_zeros(rows: Tensor) -> Tensor:
    return torch.cat([rows, rows.new_zeros(1, rows.size(1))])


def _held(rows: Tensor, items: Tensor) -> tuple[Tensor, Tensor]:
    """Return which of ``rows`` (K,) each bucket holds, of ``items`` (n_b, b_y), and how many; see Outside."""
    size, none = len(rows), items.new_full((len(items) + 1, 1), len(rows))
    places = torch.cat([_places(rows, items), none[1:]], 1).sort(1).values  # (n_b, b_y + 1)
    counts = (places < size).sum(1)
    most = int(counts.max()) if len(items) else 0
    held = torch.cat([places[:, : most + 1], none[:1].expand(1, most + 1)])
    return held, torch.cat([counts, counts.new_zeros(1)])


def _places(rows: Tensor, items: Tensor) -> Tensor:
    """Return where ascending ``rows`` (K,) have int64 ``items`` of any shape; K where they have not."""
    size = len(rows)
    if size == 0:
        return torch.zeros_like(items)
    places = torch.searchsorted(rows, items)
    return places.masked_fill_(rows[places.clamp(max=size - 1)] != items, size)
