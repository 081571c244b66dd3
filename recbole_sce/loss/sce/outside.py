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
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_sce.loss.inputs import candidate_rows, check_count, excluded_rows
from recbole_sce.loss.ops.logits import gather_rows, rows_at_once, softmax_
from recbole_sce.loss.ops.memory import RowGradient
from recbole_sce.loss.sce.histories import Histories
from recbole_sce.utils.devices import to_device

#: Up to so many times the size of the sample the catalogue is shuffled, which leaves out doubles.
_SHUFFLE = 16
#: Most states of one history that are scored together, so that few long histories cost others little padding.
_PIECE = 64
#: The table of the sample is filled up with zeros to a multiple of so many rows, at least one of them.
_ALIGNED = 16
#: Most bytes that say which items of histories are in which bucket.
_MEMBER_BYTES = 16 * 2**20


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
    generator: torch.Generator | None = None,
    device: torch.device | None = None,
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
        raise ValueError("size must be a whole number of at least 1, got None")
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
            f"sample must be sample_items({n_rows}, size), of as many rows as item_embeddings has, got one "
            f"of {sample.n_rows} rows"
        )
    if sample.rows.device != device:
        raise ValueError(
            f"sample must be on {device}, the device of item_embeddings, got {sample.rows.device}"
        )
    if device.type == "cpu":
        bounds = torch.cat([sample.rows.new_tensor([-1]), sample.rows, sample.rows.new_tensor([n_rows])])
        if not (bounds.diff() > 0).all():
            raise ValueError(
                f"sample must be what sample_items gives, rows ascending from 0 to {n_rows - 1}, got others"
            )


@dataclass
class Gradients:
    """The gradients to compute, and what they are multiplied with.

    ``scale`` is a scalar. ``hidden`` (N, d) in the compute dtype and ``items`` are added to; one that is None
    is not computed.
    """

    scale: Tensor
    hidden: Tensor | None = None
    items: RowGradient | None = None


class Outside:
    """What a sample and the states' histories hold outside the buckets of all states.

    Args:
        hidden: (N, d); N is at least 1.
        item_embeddings: (C, d).
        targets: (N,) int64, the target of each state.
        sample: of the catalogue.
        histories: of the states; in each an item is once.
        items: (n_b, b_y) int64, the items of each bucket.
        bucket: (N,) int64, the bucket of each state; n_b stands for none.
        inside: (N,) bool, whether the target is among the items of the state's bucket.
    """

    def __init__(
        self,
        hidden: Tensor,
        item_embeddings: Tensor,
        targets: Tensor,
        sample: ItemSample,
        histories: Histories,
        items: Tensor,
        bucket: Tensor,
        inside: Tensor,
    ) -> None:
        self._hidden, self._item_embeddings, self._targets = hidden, item_embeddings, targets
        self._bucket, self._items = bucket, items
        self._history, owner = histories
        self._rows, self._size = sample.rows, len(sample.rows)
        # Where the sample has an item of the catalogue; its size where it has not.
        place = torch.full((sample.n_rows,), self._size, device=targets.device)
        place[sample.rows] = torch.arange(self._size, device=targets.device)
        # (n_b + 1, b_y), where the sample has the items of a bucket; the last row is that of no bucket.
        self._held = torch.cat([place[items], items.new_full((1, items.size(1)), self._size)])
        n_held = (self._held < self._size).sum(1)
        self._target_sampled = place[targets]  # (N,)
        self._own_sampled = place[self._history].masked_fill_(self._history < 0, self._size)  # (G, L)
        # (C,), which of a tile's items an item of the catalogue is, from 1 on; 0 where it is none.
        self._column = place.zero_()
        alone = (~inside).long()
        # (N,), how many items are in no sum yet, and how many of them are sampled; histories come off later.
        self._n_outside = sample.n_items - items.size(1) * (bucket < len(items)) - alone
        self._n_sampled = self._size - n_held[bucket] - alone * (self._target_sampled < self._size)
        # The states of one list, cut into P pieces: where in the batch a piece begins, and whose list it has.
        owner = owner.cpu()
        of_list = torch.arange(len(owner)) - torch.searchsorted(owner, owner)  # (N,), states before in it
        starts = (of_list % _PIECE == 0).nonzero().squeeze(1)
        self._bounds = [*starts.tolist(), len(owner)]
        self._starts = to_device(starts, targets.device)
        self._owner = to_device(owner[starts], targets.device)

    def complete(self, totals: Tensor, gradients: Gradients | None) -> tuple[Tensor, Tensor]:
        """Add the sums of exp over the items outside to the sums over those inside, and their gradients.

        Args:
            totals: (N,), the logarithms of the sums over those inside, the target among them.
            gradients: of the mean of the logarithms of the completed sums; what the items outside
                contribute is added to them. None for none.

        Returns:
            ``peaks`` and ``sums`` (N,): the completed sums are exp(peaks) * sums. As one number, as which
            ``totals`` come, a large peak would round the logarithm of the sum away.
        """
        peaks, sums = torch.empty_like(totals), torch.empty_like(totals)
        # (K', d), the embeddings of the sample, and zeros as its last rows.
        n_rows = self._size + _ALIGNED - self._size % _ALIGNED
        table = self._hidden.new_zeros(n_rows, self._hidden.size(1), dtype=totals.dtype)
        table[: self._size] = self._item_embeddings[self._rows]
        of_sample = table.new_zeros(table.size(1), len(table))  # (d, K'), which products fill faster
        for tile in self._tiles(table):
            part, inside = tile.part, totals[tile.part]
            self._mask(tile)
            # Softmaxes over the sample and over the history, each with its part of the completed sum.
            parts = [softmax_(logits) for logits in (tile.sampled, tile.own) if logits.size(1)]
            parts[0][1].mul_(self._weights(tile))
            highest = reduce(torch.maximum, (peak for peak, _ in parts), inside)
            shares = [(peak - highest).exp_().mul_(sum_) for peak, sum_ in parts]
            peaks[part] = highest
            sums[part] = total = (inside - highest).exp_().add_(sum(shares))
            if gradients is not None:
                shares = [(share * (gradients.scale / total)).unsqueeze(1) for share in shares]
                self._add_gradients(tile, table, of_sample, shares, gradients)
        if gradients is not None and gradients.items is not None:
            gradients.items.add(self._rows, of_sample[:, : self._size].T)
        return peaks, sums

    def touched(self) -> tuple[Tensor, Tensor]:
        """Return the rows that the gradient of the items has something for, beside targets."""
        return self._rows, torch.where(self._history < 0, self._targets[:1], self._history)[self._owner]

    def _mask(self, tile: _Tile) -> None:
        """Make logits of items that are in a sum already so small that nothing comes of them.

        They stay finite, for a softmax of nothing else is to have no effect, and is to be a number.
        """
        nothing = torch.finfo(tile.sampled.dtype).min
        tile.sampled[:, self._size :] = nothing
        for in_a_sum in (
            self._held[self._bucket[tile.part]],
            self._own_sampled[self._owner[tile.pieces]][tile.piece],
            self._target_sampled[tile.part].unsqueeze(1),
        ):
            tile.sampled.scatter_(1, in_a_sum, nothing)
        tile.own.masked_fill_(~tile.outside, nothing)

    def _weights(self, tile: _Tile) -> Tensor:
        """Return (n,): how many items that are in no sum each sampled one of them stands for."""
        sampled = self._own_sampled[self._owner[tile.pieces]] < self._size  # (p, L)
        n_outside = self._n_outside[tile.part] - tile.outside.sum(1)
        n_sampled = self._n_sampled[tile.part] - (tile.outside & sampled[tile.piece]).sum(1)
        n_outside = n_outside.clamp_(min=0).masked_fill_(n_sampled < 1, 0)
        return n_outside.to(tile.sampled.dtype) / n_sampled.clamp_(min=1)

    def _add_gradients(
        self, tile: _Tile, table: Tensor, of_sample: Tensor, shares: list[Tensor], gradients: Gradients
    ) -> None:
        """Add a tile's gradients, those of the sample's embeddings to ``of_sample`` (d, K')."""
        if gradients.hidden is not None:
            gradients.hidden[tile.part] += (tile.sampled @ table).mul_(shares[0])
        if gradients.items is not None:
            of_sample.addmm_((tile.states * shares[0]).T, tile.sampled)
        if len(shares) > 1:
            own = tile.padded(tile.own.mul_(shares[1]))  # (p, s, L)
            if gradients.hidden is not None:
                gradients.hidden[tile.part] += tile.real(own @ tile.own_items)
            if gradients.items is not None:
                gradients.items.add(tile.own_rows, own.mT @ tile.padded(tile.states))

    def _tiles(self, table: Tensor) -> Iterator[_Tile]:
        """Yield all states, those of some pieces at a time, with their logits outside."""
        d, length = self._hidden.size(1), self._history.size(1)
        of_state = 3 * length + len(table) + 3 * d  # numbers
        most_numbers = rows_at_once(1, self._hidden)
        most_pieces = max(1, _MEMBER_BYTES // (max(length, 1) * (len(self._items) + 1)))
        space = table.new_empty(0)
        bounds = self._bounds
        first = 0
        while first < len(self._starts):
            # As many pieces as a workspace holds with their padding; one, which is small, in any case.
            last, most, numbers = first, 0, 0
            while last < len(self._starts) and (
                last == first or (numbers <= most_numbers and last - first < most_pieces)
            ):
                most = max(most, bounds[last + 1] - bounds[last])
                last += 1
                of_piece = length * d + most * (length + d)
                numbers = (bounds[last] - bounds[first]) * of_state + (last - first) * of_piece
            part = slice(bounds[first], bounds[last])
            n_numbers = (part.stop - part.start) * len(table)
            if len(space) < n_numbers:
                space = table.new_empty(n_numbers)
            sampled = space[:n_numbers].view(-1, len(table))
            yield self._tile(table, slice(first, last), most, part, sampled)
            first = last

    def _tile(self, table: Tensor, pieces: slice, most: int, part: slice, sampled: Tensor) -> _Tile:
        starts = self._starts[pieces] - part.start  # (p,)
        listed = self._history[self._owner[pieces]]  # (p, L)
        states = self._hidden[part].to(table.dtype)
        place = torch.arange(len(states), device=starts.device)
        piece = torch.searchsorted(starts, place, right=True) - 1  # (n,)
        # A row that has a gradient anyhow stands where a list has no item; nothing comes of it.
        own_rows = torch.where(listed < 0, self._targets[0], listed)
        of_state = listed[piece]  # (n, L)
        outside = (of_state >= 0).logical_and_(of_state != self._targets[part].unsqueeze(1))
        outside.logical_and_(~self._in_buckets(own_rows, self._bucket[part], piece))
        tile = _Tile(
            part=part,
            pieces=pieces,
            most=most,
            piece=piece,
            places=piece * most + place - starts[piece],
            states=states,
            own_rows=own_rows,
            own_items=gather_rows(self._item_embeddings, own_rows, table.dtype),
            outside=outside,
            own=table.new_empty(0, 0),
            sampled=torch.mm(states, table.T, out=sampled),
        )
        return tile._replace(own=tile.real(tile.padded(states) @ tile.own_items.mT))

    def _in_buckets(self, listed: Tensor, bucket: Tensor, piece: Tensor) -> Tensor:
        """Return (n, L) bool: whether the ``bucket`` (n,) of a state holds the items of its list.

        That is the one of ``listed`` (p, L) that ``piece`` (n,) names.
        """
        n_columns = listed.numel() + 1  # the first one takes all other items
        flat = listed.reshape(-1)
        # An item in several lists has one of their columns.
        self._column[flat] = torch.arange(1, n_columns, device=listed.device)
        holds = torch.zeros(len(self._items) + 1, n_columns, dtype=torch.bool, device=listed.device)
        holds[:-1].scatter_(1, self._column[self._items], True)
        cell = (bucket * n_columns).unsqueeze(1) + self._column[listed][piece]  # (n, L)
        self._column[flat] = 0
        return holds.view(-1)[cell]


class _Tile(NamedTuple):
    """The n states of p pieces, with their logits outside, to be used before the next tile.

    A piece has up to s of them, so that (n, ...) tensors become (p, s, ...) ones.
    """

    part: slice  # of the states
    pieces: slice  # of the pieces
    most: int  # s
    piece: Tensor  # (n,) int64, the piece of each state, from 0
    places: Tensor  # (n,) int64, where states are among p * s
    states: Tensor  # (n, d) in the compute dtype
    own_rows: Tensor  # (p, L) int64, the items of the pieces' histories
    own_items: Tensor  # (p, L, d) in the compute dtype
    outside: Tensor  # (n, L) bool, which items of a state's history are outside its bucket and not its target
    own: Tensor  # (n, L), the logits of the history
    sampled: Tensor  # (n, K'), the logits of the sample

    def padded(self, rows: Tensor) -> Tensor:
        """Return (p, s, m) from (n, m), with zeros where a piece has fewer states."""
        n_pieces = len(self.own_items)
        space = rows.new_zeros(n_pieces * self.most, rows.size(1))
        return space.index_copy_(0, self.places, rows).view(n_pieces, self.most, rows.size(1))

    def real(self, padded: Tensor) -> Tensor:
        """Return (n, m) from (p, s, m)."""
        return padded.flatten(0, 1)[self.places]
