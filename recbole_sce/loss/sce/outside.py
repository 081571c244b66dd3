"""What a softmax holds of the items outside a bucket: those of the state's history, a sample of the others.

A bucket holds the items that score high against its centre, and not all that score high against a state x.
Those that it misses are above all the items of x's own history (see ``histories``), which are near x: all of
them are scored. The states of one history share its items, so that these logits are products of matrices.

All other items outside are many, and their logits are small. A uniform sample stands for them, which a whole
batch shares. Of n such items k are in the sample::

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
from recbole_sce.loss.ops.logits import compute_dtype, gather_rows, row_slices, rows_at_once
from recbole_sce.loss.ops.memory import RowGradient
from recbole_sce.loss.sce.buckets import contains
from recbole_sce.loss.sce.histories import Histories

#: Up to so many times the size of the sample the catalogue is shuffled, which leaves out doubles.
_SHUFFLE = 16
#: Most states of one history that are scored together, so that few long histories cost others little padding.
_PIECE = 64


class ItemSample(NamedTuple):
    """Items drawn uniformly from the ``n_items`` candidates of a catalogue of ``n_rows`` rows.

    ``rows`` (K,) int64 are ascending, each once. The ``excluded`` rows are no candidates; they must be in no
    bucket either.
    """

    rows: Tensor
    n_items: int
    n_rows: int
    excluded: tuple[int, ...] = ()


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
    return ItemSample(candidate_rows(ranks, excluded), n_items, n_rows, tuple(excluded))


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
    """Which items of a sample, and which of the states' histories, lie outside the buckets of all states.

    ``rows`` (K,) int64 are the sampled items, ascending, each once. ``held`` (n_b + 1, m) int64 says which of
    ``rows``, 0 to K - 1, a bucket holds, filled up with K; its last row, of fillings alone, is that of states
    in no bucket. Of each state, int64, ``bucket`` (N,) is its bucket, n_b for none, and ``target_sampled``
    (N,) says which of ``rows`` is its target, K for none.

    ``history`` (G, L) int64 are lists of items, each once, -1 where there is none. The states of one list are
    cut into P pieces of at most ``_PIECE``: ``starts`` (P,) int64 says where in the batch a piece begins, and
    ``owner`` (P,) int64 whose list it has. ``own`` (N, L) bool: the items of a state's history that are
    outside its bucket, and not its target. ``weights`` (N,): how many items that are in no sum each sampled
    one of them stands for. ``filling`` (1,) int64, a row that has a gradient anyhow, stands where a list has
    no item; nothing comes of it.
    """

    rows: Tensor
    held: Tensor
    bucket: Tensor
    target_sampled: Tensor
    history: Tensor
    starts: Tensor
    owner: Tensor
    own: Tensor
    weights: Tensor
    filling: Tensor

    @classmethod
    def of(
        cls,
        hidden: Tensor,
        sample: ItemSample,
        histories: Histories,
        items: Tensor,
        bucket: Tensor,
        targets: Tensor,
        inside: Tensor,
    ) -> Outside:
        """Take what the buckets hold out of a sample and out of the states' histories.

        Args:
            hidden: (N, d).
            sample: of the catalogue.
            histories: of the states; in each an item is once.
            items: (n_b, b_y) int64, the items of each bucket.
            bucket: (N,) int64, the bucket of each state; n_b stands for none.
            targets: (N,) int64, the target of each state.
            inside: (N,) bool, whether the target is among the items of the state's bucket.
        """
        history, owner = histories
        rows, size = sample.rows, len(sample.rows)
        held, n_held = _held(rows, items)
        target_sampled = _places(rows, targets)
        n_outside = sample.n_items - items.size(1) * (bucket < len(items)) - (~inside).long()  # (N,)
        n_sampled = size - n_held[bucket] - (~inside & (target_sampled < size)).long()  # (N,)
        own = torch.empty(len(targets), history.size(1), dtype=torch.bool, device=history.device)
        ordered = torch.cat([items, items.new_full((1, items.size(1)), -1)]).sort(1).values
        for part in row_slices(len(targets), 2 * items.size(1) + 8 * history.size(1), hidden):
            listed = history[owner[part]]  # (n, L)
            own[part] = (listed >= 0) & (listed != targets[part].unsqueeze(1))
            own[part] &= ~contains(ordered[bucket[part]], listed)
            n_outside[part] -= own[part].sum(1)
            n_sampled[part] -= (own[part] & (_places(rows, listed) < size)).sum(1)
        n_outside.masked_fill_(n_sampled < 1, 0)
        states = torch.arange(len(owner), device=owner.device)
        of_list = states - torch.searchsorted(owner, owner)  # (N,), how many states of its list come before
        starts = (of_list % _PIECE == 0).nonzero().squeeze(1)
        return cls(
            rows=rows,
            held=held,
            bucket=bucket,
            target_sampled=target_sampled,
            history=history,
            starts=starts,
            owner=owner[starts],
            own=own,
            weights=n_outside.clamp_(min=0).to(compute_dtype(hidden)) / n_sampled.clamp_(min=1),
            filling=targets[:1],
        )

    def touched(self) -> tuple[Tensor, Tensor]:
        """Return the rows that the gradient of the items has something for."""
        listed = self.history[self.owner]
        return self.rows, listed[listed >= 0]

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
            peak = torch.maximum(totals[tile.part], tile.logits.amax(1))
            own, sampled = tile.split(tile.logits.sub_(peak.unsqueeze(1)).exp_())
            inside = (totals[tile.part] - peak).exp_()
            weighted = sampled.sum(1).mul_(self.weights[tile.part])
            peaks[tile.part], sums[tile.part] = peak, inside.add_(weighted).add_(own.sum(1))
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
            factors = (scale / sums[tile.part]).unsqueeze(1)  # (n, 1)
            weights = factors * self.weights[tile.part].unsqueeze(1)  # (n, 1)
            slopes = tile.logits.sub_(peaks[tile.part].unsqueeze(1)).exp_()  # without their factors
            own, sampled = tile.split(slopes)  # (n, L), (n, K + 1)
            own = tile.padded(own.mul_(factors))  # (p, s, L)
            if grad_hidden is not None:
                grad_hidden[tile.part] += (sampled @ table).mul_(weights)
                grad_hidden[tile.part] += tile.real(own @ tile.own_items)
            if grad_items is not None:
                of_sample.addmm_(sampled.T, tile.states * weights)
                grad_items.add(tile.own_rows, own.mT @ tile.padded(tile.states))
        if grad_items is not None:
            grad_items.add(self.rows, of_sample[:-1])

    def _table(self, hidden: Tensor, item_embeddings: Tensor) -> Tensor:
        """Return the embeddings of the sample, and zeros as its last row: (K + 1, d) in the compute dtype."""
        sampled = gather_rows(item_embeddings, self.rows, compute_dtype(hidden))
        return torch.cat([sampled, sampled.new_zeros(1, sampled.size(1))])

    def _tiles(self, hidden: Tensor, item_embeddings: Tensor, table: Tensor) -> Iterator[_Tile]:
        """Yield all states, those of some pieces at a time, with their logits outside."""
        (n_states, d), length = hidden.shape, self.history.size(1)
        of_state = 3 * length + len(table) + 3 * d  # numbers
        most_numbers = rows_at_once(1, hidden)
        bounds = [*self.starts.tolist(), n_states]
        first = 0
        while first < len(self.starts):
            # As many pieces as a workspace holds with their padding; one, which is small, in any case.
            last, most, numbers = first, 0, 0
            while last < len(self.starts) and (last == first or numbers <= most_numbers):
                most = max(most, bounds[last + 1] - bounds[last])
                last += 1
                of_piece = length * d + most * (length + d)
                numbers = (bounds[last] - bounds[first]) * of_state + (last - first) * of_piece
            part = slice(bounds[first], bounds[last])
            yield self._tile(hidden, item_embeddings, table, slice(first, last), most, part)
            first = last

    def _tile(
        self, hidden: Tensor, item_embeddings: Tensor, table: Tensor, pieces: slice, most: int, part: slice
    ) -> _Tile:
        history, starts = self.history[self.owner[pieces]], self.starts[pieces] - part.start  # (p, L), (p,)
        states = hidden[part].to(table.dtype)
        place = torch.arange(len(states), device=starts.device)
        piece = torch.searchsorted(starts, place, right=True) - 1  # (n,)
        own_rows = torch.where(history < 0, self.filling, history)
        tile = _Tile(
            part=part,
            most=most,
            places=piece * most + place - starts[piece],
            states=states,
            own_rows=own_rows,
            own_items=gather_rows(item_embeddings, own_rows, table.dtype),
            logits=table.new_empty(len(states), history.size(1) + len(table)),
        )
        own, sampled = tile.split(tile.logits)
        own.copy_(tile.real(tile.padded(states) @ tile.own_items.mT))
        own.masked_fill_(~self.own[part], -torch.inf)
        torch.mm(states, table.T, out=sampled)
        for in_a_sum in (
            self.held[self.bucket[part]],
            _places(self.rows, history)[piece],
            self.target_sampled[part].unsqueeze(1),
        ):
            sampled.scatter_(1, in_a_sum, -torch.inf)
        return tile


class _Tile(NamedTuple):
    """The n states of p pieces, with their logits outside, to be used before the next tile.

    A piece has up to s of them, so that (n, ...) tensors become (p, s, ...) ones.
    """

    part: slice  # of the states
    most: int  # s
    places: Tensor  # (n,) int64, where states are among p * s
    states: Tensor  # (n, d) in the compute dtype
    own_rows: Tensor  # (p, L) int64, the items of the pieces' histories
    own_items: Tensor  # (p, L, d) in the compute dtype
    logits: Tensor  # (n, L + K + 1), -inf where an item is in a sum already, and in the last column

    def split(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the columns of the history (n, L) and those of the sample (n, K + 1)."""
        length = self.own_items.size(1)
        return logits[:, :length], logits[:, length:]

    def padded(self, rows: Tensor) -> Tensor:
        """Return (p, s, m) from (n, m), with zeros where a piece has fewer states."""
        n_pieces = len(self.own_items)
        space = rows.new_zeros(n_pieces * self.most, rows.size(1))
        return space.index_copy_(0, self.places, rows).view(n_pieces, self.most, rows.size(1))

    def real(self, padded: Tensor) -> Tensor:
        """Return (n, m) from (p, s, m)."""
        return padded.flatten(0, 1)[self.places]


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
