"""Exact search for the rows of a table that have the largest inner products with a few queries.

The table is scored chunk by chunk into one workspace. Of a chunk, only the maxima of blocks of scores are
looked at; a block is opened where its maximum beats the query's k-th best score so far. What is left beside
the product with the table is small, and memory depends neither on the table's rows nor on the number of
queries.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from recbole_sce.loss.ops.kernels import kernels_for
from recbole_sce.loss.ops.logits import compute_dtype, contenders, gather_rows, row_slices
from recbole_sce.loss.ops.memory import workspace_bytes

#: Queries searched together on the CPU: enough for a fast product, few enough to keep scores in cache.
_QUERIES = 128
#: Scores a block.
_BLOCK = 32
#: Largest relative error of rounding to bfloat16.
_BFLOAT16_ROUNDING = 2.0**-8
#: Rows a table must have for each one wanted before a coarse search in bfloat16 pays.
_COARSE_FROM = 512
#: Rows for each one wanted up to which a top-k of all scores takes less time than looking at blocks first.
_AT_ONCE_UP_TO = 24


@torch.no_grad()
def top_rows(
    queries: Tensor, table: Tensor, k: int, excluded: Sequence[int] = (), chunk: int | None = None
) -> Tensor:
    """Return, for each query, the k rows of the table with the largest inner products.

    On the CPU the ranking is that of products in float32 (float64 for float64 queries), elsewhere that of
    products in the dtype of the queries.

    Args:
        queries: (Q, d) floating point.
        table: (C, d) floating point.
        k: rows a query; all that there are where the table has fewer.
        excluded: rows of the table that are never returned, ascending.
        chunk: rows scored at a time; None chooses.

    Returns:
        (Q, min(k, C - len(excluded))) int64, no row twice, in no particular order.
    """
    k = min(k, len(table) - len(excluded))
    if k <= 0 or len(queries) == 0:
        return torch.empty(len(queries), max(k, 0), dtype=torch.int64, device=queries.device)
    with torch.autocast(queries.device.type, enabled=False):
        kernels = kernels_for(queries)
        if kernels is not None:
            best_rows: Tensor = kernels.top_rows(queries, table, k, excluded, chunk)
            return best_rows
        if queries.device.type != "cpu":
            return _merge_chunks(queries, table, k, excluded, chunk)
        if queries.dtype != torch.float64:
            queries = queries.float()
        groups = queries.chunk(-(-len(queries) // _QUERIES))
        coarse = queries.dtype == torch.float32 and len(table) >= _COARSE_FROM * k and _multiplies_bfloat16()
        search = _search_coarse_first if coarse else _search
        if len(table) <= _AT_ONCE_UP_TO * k and (chunk is None or chunk >= len(table)):
            search = _search_at_once
        return torch.cat([search(group, table, k, excluded, chunk) for group in groups])


@lru_cache(maxsize=1)
def _multiplies_bfloat16() -> bool:
    """Return whether this processor has instructions for products of bfloat16."""
    # Older releases of torch cannot say; the search then stays in float32.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    has_instructions = capabilities.get("avx512_bf16", False) or capabilities.get("amx_bf16", False)
    return bool(has_instructions and torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


def _search_at_once(
    queries: Tensor, table: Tensor, k: int, excluded: Sequence[int], chunk: int | None
) -> Tensor:
    """Search a small table by a top-k of all scores; see :func:`top_rows`."""
    scores = queries @ table.to(queries.dtype).T  # (Q, C)
    # Scores that are no numbers come last of the candidates, and rows that are none after them.
    least = torch.finfo(scores.dtype).min
    scores.nan_to_num_(nan=least, posinf=torch.inf, neginf=least)
    for row in excluded:
        scores[:, row].fill_(-torch.inf)
    return scores.topk(k, sorted=False).indices


def _search(queries: Tensor, table: Tensor, k: int, excluded: Sequence[int], chunk: int | None) -> Tensor:
    """Search in the dtype of the queries; see :func:`top_rows`."""
    return _scan(queries, table, k, excluded, chunk)[1]


def _search_coarse_first(
    queries: Tensor, table: Tensor, k: int, excluded: Sequence[int], chunk: int | None
) -> Tensor:
    """Search among the 1.5 k rows that are best in bfloat16; see :func:`top_rows`.

    The result is that of :func:`_search`. A row that is not among these scores at most what the last of
    them does, and rounding may have hidden at most ``slack`` of its true score. Queries whose k-th best row
    is not above that sum are searched again without rounding.
    """
    rounded = queries.bfloat16()
    values, rows, longest = _scan(rounded, table, k + k // 2, excluded, chunk, measure=True)
    exact = torch.empty(values.shape)  # (Q, 1.5 k)
    for part in row_slices(len(queries), exact.size(1) * queries.size(1), queries):
        candidates = gather_rows(table, rows[part], queries.dtype)  # (step, 1.5 k, d)
        exact[part] = torch.bmm(candidates, queries[part].unsqueeze(2)).squeeze(2)
    best, order = exact.topk(k, sorted=False)
    last = values.amin(1)
    rounding = (queries - rounded).norm(dim=1) + _BFLOAT16_ROUNDING * rounded.float().norm(dim=1)
    slack = 1.01 * (rounding * longest + _BFLOAT16_ROUNDING * last.abs())
    rows = rows.gather(1, order)
    unsure = ~(best.amin(1) >= last + slack)
    if unsure.any():
        rows[unsure] = _search(queries[unsure], table, k, excluded, chunk)
    return rows


def _scan(
    queries: Tensor, table: Tensor, k: int, excluded: Sequence[int], chunk: int | None, measure: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the k best scores of each query, their rows, and the largest norm of a row; CPU.

    (Q, k) in float32 or float64, (Q, k) int64, and a scalar, which is 0 unless it is to be measured.
    """
    n_queries, width = queries.shape
    chunk = min(chunk or _chunk_rows(queries, table, k), len(table))
    scores_space = queries.new_empty(n_queries * chunk)
    converted_space = queries.new_empty(chunk if table.dtype != queries.dtype else 0, width)
    running = _RunningTop(queries, k, excluded)
    longest = torch.zeros((), device=queries.device)
    for start, stop, block in _spans(len(table), chunk, k):
        part = table[start:stop]
        if measure:
            longest = torch.maximum(longest, torch.linalg.vector_norm(part, dim=1).amax())
        if part.dtype != queries.dtype:
            part = converted_space[: stop - start].copy_(part)
        scores = scores_space[: n_queries * (stop - start)].view(n_queries, stop - start)
        torch.mm(queries, part.T, out=scores)
        inside = [row - start for row in excluded if start <= row < stop]
        if inside:
            scores[:, inside] = -torch.inf
        running.add(scores, start, block)
    return *running.result(), longest


def _chunk_rows(queries: Tensor, table: Tensor, k: int) -> int:
    """Return how many rows to score at a time: a workspace full, but enough for good thresholds."""
    numbers = len(queries) + (queries.size(1) if table.dtype != queries.dtype else 0)
    fitting = workspace_bytes(queries.device) // (numbers * queries.element_size())
    fitting -= fitting % (32 * _BLOCK)
    return int(max(fitting, 4 * k, _BLOCK))


def _spans(n_rows: int, chunk: int, k: int) -> Iterator[tuple[int, int, int]]:
    """Yield (start, stop, block) over all rows; ``stop - start`` is a multiple of ``block``.

    Blocks are as large as leaves two of them for each wanted row, so that the k-th best maximum of a chunk
    is a good threshold.
    """
    start = 0
    while start < n_rows:
        length = min(chunk, n_rows - start)
        block = _BLOCK
        while block > 1 and length // block < 2 * k:
            block //= 2
        length -= length % block
        yield start, start + length, block
        start += length


class _RunningTop:
    """The k best scores seen so far of each query, and scores above the k-th best that wait to be merged."""

    def __init__(self, queries: Tensor, k: int, excluded: Sequence[int]) -> None:
        self.n_queries = n_queries = len(queries)
        self.k = k
        self.values = torch.empty(n_queries, 0, dtype=compute_dtype(queries))
        self.rows = torch.empty(n_queries, 0, dtype=torch.int64)
        # Columns 0 to k - 1 are the best, those up to `filled` wait. Scores that compare with nothing (NaN)
        # are never added: the first rows that are not excluded then stand for what is missing.
        self.filled = torch.full((n_queries,), k)
        self._grow(2 * k)
        first = torch.arange(k + len(excluded))
        self.rows[:, :k] = first[~torch.isin(first, torch.tensor(excluded, dtype=torch.int64))][:k]
        self.threshold = torch.full((n_queries, 1), -torch.inf, dtype=queries.dtype)

    def add(self, scores: Tensor, start: int, block: int) -> None:
        """Take in the scores (Q, length) of rows ``start`` to ``start + length``."""
        n_blocks = scores.size(1) // block
        blocks = scores.view(self.n_queries, block, n_blocks)  # row = start + offset * n_blocks + block
        maxima = blocks.amax(1) if block > 1 else scores  # (Q, n_blocks)
        threshold = self.threshold
        above = maxima > threshold
        compare = torch.gt
        if n_blocks > self.k and int(above.sum()) > self.n_queries * self.k:
            # More than k blocks a query, as in the first chunk: the k-th best maximum is a better threshold.
            # It is itself a score to keep, hence "at least" from here.
            kth = maxima.topk(self.k, sorted=False)[0].amin(1, keepdim=True)
            threshold = self.threshold = torch.maximum(threshold, kth)
            compare = torch.ge
            above = compare(maxima, threshold)
        query, block_id = above.nonzero(as_tuple=True)
        if len(query) == 0:
            return
        opened = blocks[query, :, block_id]  # (h, block)
        hit, offset = compare(opened, threshold[query]).nonzero(as_tuple=True)
        self._append(query[hit], opened[hit, offset], start + offset * n_blocks + block_id[hit])

    def _append(self, query: Tensor, values: Tensor, rows: Tensor) -> None:
        """Let (h,) scores wait; ``query`` is ascending."""
        counts = torch.bincount(query, minlength=self.n_queries)
        if int((self.filled + counts).max()) > self.values.size(1):
            self._merge()
            self._grow(self.k + int(counts.max()))
        rank = torch.arange(len(query)) - (counts.cumsum(0) - counts)[query]
        slot = query * self.values.size(1) + self.filled[query] + rank
        self.values.view(-1)[slot] = values.to(self.values.dtype)
        self.rows.view(-1)[slot] = rows
        self.filled += counts

    def _grow(self, n_columns: int) -> None:
        missing = n_columns - self.values.size(1)
        if missing > 0:
            shape = (self.n_queries, missing)
            self.values = torch.cat([self.values, self.values.new_full(shape, -torch.inf)], 1)
            self.rows = torch.cat([self.rows, self.rows.new_zeros(shape)], 1)

    def _merge(self) -> None:
        n_columns = int(self.filled.max())
        best, order = self.values[:, :n_columns].topk(self.k, sorted=False)
        self.rows[:, : self.k] = self.rows.gather(1, order)
        self.values[:, : self.k] = best
        self.values[:, self.k : n_columns] = -torch.inf
        self.filled.fill_(self.k)
        self.threshold = best.amin(1, keepdim=True).to(self.threshold.dtype)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return the k best scores of each query and their rows, both (Q, k)."""
        self._merge()
        return self.values[:, : self.k], self.rows[:, : self.k]


def _merge_chunks(
    queries: Tensor, table: Tensor, k: int, excluded: Sequence[int], chunk: int | None
) -> Tensor:
    """Search without waiting for the device: merge the best of each chunk's best blocks."""
    n_queries = len(queries)
    chunk = min(chunk or _chunk_rows(queries, table, k), len(table))
    best = queries.new_empty(n_queries, 0)
    rows = torch.empty(n_queries, 0, dtype=torch.int64, device=queries.device)
    for start, stop, block in _spans(len(table), chunk, k):
        scores = queries @ table[start:stop].to(queries.dtype).T  # (Q, length)
        for row in excluded:
            if start <= row < stop:
                scores[:, row - start].fill_(-torch.inf)
        candidates = torch.arange(stop - start, device=queries.device).expand_as(scores)
        if block > 1:
            scores, candidates = contenders(scores, k, block)
        best, rows = torch.cat([best, scores], 1), torch.cat([rows, start + candidates], 1)
        best, order = best.topk(min(k, best.size(1)), dim=1, sorted=False)
        rows = rows.gather(1, order)
    return rows
