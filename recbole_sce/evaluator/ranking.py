"""Ranking over a large catalogue in bounded memory: scores are made and used chunk by chunk.

RecBole scores a batch against all items at once, (B, C) numbers, and ranks that matrix. Here a block of rows
meets a chunk of items at a time; what a ranking metric needs of the scores is kept, the scores are not. The
results are those of the dense matrix (``Trainer._full_sort_batch_eval``, ``Collector.eval_batch_collect``):

* Order among the first k is by score. Where two of the first k + 1 scores of a row are exactly equal, the
  order is what ``torch.topk`` makes of the row's dense scores, as in RecBole: torch promises none, and chunks
  cannot reproduce it, so these rows (rare, unless a model has collapsed) are scored again in full.
* The rank of a target is the mean of the ranks that items of its score share.

Pairs, of targets and of items left out, are sorted and cut into chunks on the CPU, where they come from. An
accelerator is waited for once a block of rows, to see whether scores are equal.

Scores that differ by rounding alone may be ordered otherwise, as they are in RecBole between two values of
``eval_batch_size``.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from recbole_sce.evaluator.pairs import Pairs, PairsByChunk, distinct, on_cpu, slice_rows, without
from recbole_sce.loss.ops.logits import contenders
from recbole_sce.utils.devices import to_device

#: What automatic memory means, in bytes.
_AUTOMATIC_BYTES = 256 * 2**20
#: On a CPU, chunks are to stay in cache; what is left is for dense rows.
_CPU_CHUNK_BYTES = 16 * 2**20
#: Most rows of a block. More would read the table less often, which is cheap beside the products.
_CPU_ROWS = 512
_DEVICE_ROWS = 4096
#: Least chunk of items, and a step of rows that makes no difference to how a product is rounded.
_LEAST_ITEMS = 256
_ROW_STEP = 16
#: Scores of a block, of which an accelerator looks at the largest first.
_BLOCK = 32


@dataclass(frozen=True)
class Ranking:
    """What metrics need of the scores of B rows.

    Attributes:
        scores: (B, k) the largest scores, descending.
        items: (B, k) int64, their items; 0 where a row has fewer than k candidates.
        n_candidates: (B,) int64 on the CPU, number of items that were ranked.
        targets: the targets, each once, by row, on the CPU; or None.
        target_ranks: (P,) float32, rank of each target from 1 on, a mean where scores are equal; or None.
    """

    scores: Tensor
    items: Tensor
    n_candidates: Tensor
    targets: Pairs | None = None
    target_ranks: Tensor | None = None


def join_rankings(parts: Sequence[Ranking]) -> Ranking:
    """Return the ranking of the rows of all ``parts``, at least one, one after the other."""
    starts = list(itertools.accumulate((len(part.items) for part in parts), initial=0))
    targets = [
        Pairs(part.targets.rows + start, part.targets.items)
        for part, start in zip(parts, starts)
        if part.targets is not None
    ]
    ranks = [part.target_ranks for part in parts if part.target_ranks is not None]
    return Ranking(
        torch.cat([part.scores for part in parts]),
        torch.cat([part.items for part in parts]),
        torch.cat([part.n_candidates for part in parts]),
        Pairs(*(torch.cat(columns) for columns in zip(*targets))) if targets else None,
        torch.cat(ranks) if ranks else None,
    )


@torch.no_grad()
def rank_catalogue(
    hidden: Tensor,
    item_table: Tensor,
    k: int,
    targets: Pairs | None = None,
    exclude: Pairs | None = None,
    with_ranks: bool = False,
    memory_mb: int | None = None,
) -> Ranking:
    """Rank all items but 0, RecBole's padding item, for each row by hidden state times item.

    Args:
        hidden: (B, d) floating point.
        item_table: (C, d) floating point.
        k: length of the list to keep; 1 to C.
        targets: the items that should have been predicted, best on the CPU; with ``exclude`` they stay
            candidates.
        exclude: items that are no candidates, best on the CPU.
        with_ranks: whether to compute ``target_ranks``, which takes a second pass over the catalogue.
        memory_mb: upper bound in MiB of what is needed beside inputs and result, but for one dense row of
            scores (C,) where scores are equal; None is automatic.

    Raises:
        ValueError: ``k`` is not possible.
    """
    n_items = len(item_table)
    _check_k(k, n_items)
    if targets is not None:
        targets = distinct(targets, n_items)
    if exclude is not None:
        exclude = without(distinct(exclude, n_items), targets, n_items)
    plan = _plan(len(hidden), k, item_table, memory_mb)
    blocks = []
    for start in range(0, max(len(hidden), 1), plan.rows):
        stop = min(start + plan.rows, len(hidden))
        scorer = _Scorer(hidden[start:stop], item_table, slice_rows(exclude, start, stop), plan)
        blocks.append(_rank_block(scorer, k, slice_rows(targets, start, stop), with_ranks))
    ranking = join_rankings(blocks)
    return replace(ranking, items=ranking.items.where(ranking.scores > -torch.inf, 0))


@torch.no_grad()
def rank_candidates(
    candidates: Pairs,
    scores: Tensor,
    n_rows: int,
    n_items: int,
    k: int,
    targets: Pairs,
    memory_mb: int | None = None,
) -> Ranking:
    """Rank a few candidates of each row, as RecBole's ``Trainer._neg_sample_batch_eval`` does.

    Args:
        candidates: the candidates, best on the CPU; where a cell occurs repeatedly the last score counts.
        scores: (P,) floating point, their scores.
        n_rows: B.
        n_items: C.
        k: length of the list to keep; 1 to C.
        targets: candidates that should have been predicted, best on the CPU.
        memory_mb: as for :func:`rank_catalogue`.

    Raises:
        ValueError: ``k`` is not possible.
    """
    _check_k(k, n_items)
    targets = distinct(targets, n_items)
    candidates = on_cpu(candidates)
    keys = candidates.rows * n_items + candidates.items  # (P,)
    order = keys.argsort(stable=True)
    last = torch.ones_like(keys, dtype=torch.bool)
    last[:-1] = keys[order][1:] != keys[order][:-1]
    order = order[last]
    rows, items = candidates.rows[order], candidates.items[order]  # (Q,) by row
    counts = torch.bincount(rows, minlength=n_rows)  # (B,)
    places = torch.arange(len(rows)) - (counts.cumsum(0) - counts)[rows]
    width = max(k + 1, int(counts.max()))
    device = scores.device
    scores = scores[to_device(order, device)]  # (Q,)
    cells = to_device(rows, device), to_device(places, device)
    table = scores.new_full((n_rows, width), -torch.inf)  # (B, most candidates of a row)
    table[cells] = scores
    item_of_place = torch.zeros_like(table, dtype=torch.int64)
    item_of_place[cells] = to_device(items, device)

    def dense(of_rows: Tensor) -> Tensor:
        chosen = torch.isin(rows, of_rows).nonzero().squeeze(1)
        full = scores.new_full((len(of_rows), n_items), -torch.inf)
        at = torch.searchsorted(of_rows, rows[chosen])
        full[to_device(at, device), to_device(items[chosen], device)] = scores[to_device(chosen, device)]
        return full

    best, best_places = table.topk(min(k + 1, n_items))
    plan = _plan(n_rows, k, table.new_empty(0, 1), memory_mb)
    top = _settle_ties(best, item_of_place.gather(1, best_places), k, dense, plan.dense_rows(n_items))
    at = torch.searchsorted(keys[order], targets.rows * n_items + targets.items)
    target_scores = scores[to_device(at, device)].unsqueeze(1)  # (T, 1)
    others = table[to_device(targets.rows, device)]  # (T, width)
    ranks = _mean_rank((others > target_scores).sum(1), (others == target_scores).sum(1))
    best_scores, best_items = top
    return Ranking(best_scores, best_items.where(best_scores > -torch.inf, 0), counts, targets, ranks)


class _Plan(NamedTuple):
    """Sizes of a block of rows and of a chunk of items, and the bytes that they may take."""

    rows: int
    items: int
    n_bytes: int
    item_bytes: int

    def dense_rows(self, n_items: int) -> int:
        """Return how many dense rows of scores fit: scores, and what ``torch.topk`` makes of them."""
        return max(1, self.n_bytes // (n_items * (self.item_bytes + 16)))


def _plan(n_rows: int, k: int, item_table: Tensor, memory_mb: int | None) -> _Plan:
    on_cpu = item_table.device.type == "cpu"
    n_bytes = _AUTOMATIC_BYTES if memory_mb is None else memory_mb * 2**20
    for_chunks = min(n_bytes, _CPU_CHUNK_BYTES) if on_cpu else n_bytes
    item_bytes = item_table.element_size()
    cell_bytes = 3 * item_bytes  # a score, a comparison of it, and a copy of rows that have new items
    list_bytes = (k + 1) * 8 * (item_bytes + 8)  # a row's list, its update, and their sorting
    most = for_chunks // (4 * _LEAST_ITEMS * cell_bytes + list_bytes)
    most = max(_ROW_STEP, min(most, _CPU_ROWS if on_cpu else _DEVICE_ROWS))
    # Blocks of even size: a product with very few rows is rounded differently.
    n_blocks = max(1, -(-n_rows // most))
    rows = max(_ROW_STEP, _round_up(-(-n_rows // n_blocks), _ROW_STEP))
    items = (for_chunks - rows * list_bytes) // (rows * cell_bytes)
    return _Plan(rows, max(_LEAST_ITEMS, items // _LEAST_ITEMS * _LEAST_ITEMS), n_bytes, item_bytes)


def _round_up(number: int, step: int) -> int:
    return -(-number // step) * step


class _Scorer:
    """Scores of a block of rows, one chunk of items after the other, in one reused buffer."""

    def __init__(self, hidden: Tensor, item_table: Tensor, exclude: Pairs | None, plan: _Plan) -> None:
        self.hidden = hidden  # (R, d)
        self.item_table = item_table  # (C, d)
        self.exclude = None if exclude is None else PairsByChunk(exclude, len(item_table), plan.items, hidden)
        self.plan = plan
        self._buffer = hidden.new_empty(len(hidden) * min(plan.items, len(item_table)))

    def chunks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield the first item of each chunk and the scores (R, items); -inf marks what is no candidate."""
        for chunk, start in enumerate(range(0, len(self.item_table), self.plan.items)):
            items = self.item_table[start : start + self.plan.items]  # (c, d)
            scores = self._buffer[: len(self.hidden) * len(items)].view(len(self.hidden), len(items))
            torch.mm(self.hidden, items.t(), out=scores)
            if start == 0:
                scores[:, 0] = -torch.inf
            if self.exclude is not None:
                rows, excluded = self.exclude.of(chunk)
                scores[rows, excluded - start] = -torch.inf
            yield start, scores

    def dense(self, rows: Tensor) -> Tensor:
        """Return the scores (T, C) of the rows ``rows`` (T,) of the block, ascending and on the CPU."""
        device = self.hidden.device
        repeats = torch.arange(_round_up(len(rows), _ROW_STEP)) % len(rows)
        repeated = self.hidden[to_device(rows[repeats], device)]
        full = self.hidden.new_empty(len(rows), len(self.item_table))
        for start, scores in _Scorer(repeated, self.item_table, None, self.plan).chunks():
            full[:, start : start + scores.size(1)] = scores[: len(rows)]
        if self.exclude is not None:
            pairs = self.exclude.pairs
            kept = torch.isin(pairs.rows, rows)
            at = torch.searchsorted(rows, pairs.rows[kept])
            full[to_device(at, device), to_device(pairs.items[kept], device)] = -torch.inf
        return full


def _rank_block(scorer: _Scorer, k: int, targets: Pairs | None, with_ranks: bool) -> Ranking:
    n_rows, n_items = len(scorer.hidden), len(scorer.item_table)
    best = _RunningTopK(n_rows, min(k + 1, n_items), scorer.hidden)
    by_item = None
    if with_ranks and targets is not None:
        by_item = PairsByChunk(targets, n_items, scorer.plan.items, scorer.hidden)
    of_targets = []  # by item
    for chunk, (start, scores) in enumerate(scorer.chunks()):
        best.update(start, scores)
        if by_item is not None:
            rows, items = by_item.of(chunk)
            of_targets.append(scores[rows, items - start])
    top = _settle_ties(best.scores, best.items, k, scorer.dense, scorer.plan.dense_rows(n_items))
    n_candidates = torch.full((n_rows,), n_items - 1)
    if scorer.exclude is not None:
        n_candidates -= torch.bincount(scorer.exclude.pairs.rows, minlength=n_rows)
    ranks = None
    if by_item is not None and targets is not None:
        place = to_device(by_item.order.argsort(), scorer.hidden.device)
        ranks = _target_ranks(scorer, targets, torch.cat(of_targets)[place])
    return Ranking(*top, n_candidates, targets, ranks)


class _RunningTopK:
    """The largest ``k`` scores of each row among the chunks seen so far."""

    def __init__(self, n_rows: int, k: int, like: Tensor) -> None:
        self.scores = like.new_full((n_rows, k), -torch.inf)  # descending
        self.items = torch.zeros(n_rows, k, dtype=torch.int64, device=like.device)

    def update(self, start: int, scores: Tensor) -> None:
        """Take in the scores (R, c) of the items from ``start`` on."""
        k = self.scores.size(1)
        n_items, on_cpu = scores.size(1), scores.device.type == "cpu"
        rows: Tensor | slice = slice(None)
        if on_cpu:
            # Few rows have a new item among their largest once some chunks have been seen: sort those alone.
            # ``not <=`` lets NaN pass, which torch ranks above all numbers. An accelerator would have to be
            # waited for to know which rows these are.
            rows = (~(scores.amax(1) <= self.scores[:, -1])).nonzero().squeeze(1)  # (h,)
        if on_cpu or n_items % _BLOCK or n_items < 2 * k * _BLOCK:
            largest, places = scores[rows].topk(min(k, n_items))
        else:
            largest, places = contenders(scores, k, _BLOCK)
        both = torch.cat([self.scores[rows], largest], 1)
        items = torch.cat([self.items[rows], places + start], 1)
        self.scores[rows], order = both.topk(k)
        self.items[rows] = items.gather(1, order)


def _settle_ties(
    scores: Tensor, items: Tensor, k: int, dense: Callable[[Tensor], Tensor], rows_at_once: int
) -> tuple[Tensor, Tensor]:
    """Return the first k of each row; where scores (B, k + 1) are equal, as ``torch.topk`` orders them.

    Scores descend, and are (B, k) where there are no more items. ``dense`` gives the scores (T, C) of rows
    (T,), ascending and on the CPU, ``rows_at_once`` of them at most.
    """
    tied = (scores[:, 1:] == scores[:, :-1]).any(1).cpu().nonzero().squeeze(1)  # (T,)
    scores, items = scores[:, :k].clone(), items[:, :k].clone()
    for start in range(0, len(tied), rows_at_once):
        rows = tied[start : start + rows_at_once]
        at = to_device(rows, scores.device)
        scores[at], items[at] = dense(rows).topk(k)
    return scores, items


def _target_ranks(scorer: _Scorer, targets: Pairs, target_scores: Tensor) -> Tensor:
    """Return the rank (P,) of each target; its score must come of the same chunks."""
    greater = torch.zeros(len(target_scores), dtype=torch.int64, device=target_scores.device)
    equal = torch.zeros_like(greater)
    bounds = target_scores.unsqueeze(1)  # (P, 1)
    one_each = torch.equal(targets.rows, torch.arange(len(scorer.hidden)))
    rows = to_device(targets.rows, target_scores.device)
    for _, scores in scorer.chunks():
        against = scores if one_each else scores[rows]  # (P, c)
        # Sums of floating-point ones: several times faster than sums of booleans, exact for any chunk.
        flags = torch.empty_like(against, dtype=torch.float32)
        greater += torch.gt(against, bounds, out=flags).sum(1).long()
        equal += torch.eq(against, bounds, out=flags).sum(1).long()
    return _mean_rank(greater, equal)


def _mean_rank(greater: Tensor, equal: Tensor) -> Tensor:
    """Return the mean rank, from 1 on, of ``equal`` items behind ``greater`` others."""
    return greater.float() + 0.5 * (equal.float() + 1)


def _check_k(k: int, n_items: int) -> None:
    if not 1 <= k <= n_items:
        raise ValueError(f"k must be 1 to {n_items}, the number of items, got {k}")
