"""Exact search for the rows of a table that have the largest inner products with a few queries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import Tensor

_DEFAULT_CHUNK = 16384


@torch.no_grad()
def top_rows(
    queries: Tensor, table: Tensor, k: int, excluded: Sequence[int] = (), chunk: Optional[int] = None
) -> Tensor:
    """Return, for each query, the k rows of the table with the largest inner products.

    Args:
        queries: (Q, d) floating point; products are taken in its dtype.
        table: (C, d) floating point.
        k: rows a query; all that there are where the table has fewer.
        excluded: rows of the table that are never returned.
        chunk: rows scored at a time; memory grows with it, not with C. None chooses.

    Returns:
        (Q, min(k, C - len(excluded))) int64, no row twice, in no particular order.
    """
    n_rows = len(table)
    k = min(k, n_rows - len(excluded))
    chunk = max(chunk or _DEFAULT_CHUNK, 1)
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, n_rows, chunk):
        scores = queries @ table[start : start + chunk].to(queries.dtype).T  # (Q, chunk)
        inside = [row - start for row in excluded if start <= row < start + chunk]
        scores[:, inside] = -torch.inf
        found = torch.arange(start, start + scores.size(1), device=queries.device).expand_as(scores)
        scores, found = torch.cat([best, scores], 1), torch.cat([rows, found], 1)
        best, order = scores.topk(min(k, scores.size(1)), dim=1, sorted=False)
        rows = found.gather(1, order)
    return rows
