"""Pieces of logits that several losses need, in the dtype in which all of them compute."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from recbole_sce.loss.ops.memory import workspace_bytes


def compute_dtype(hidden: Tensor) -> torch.dtype:
    """Return the dtype of logits, losses and sums: float32, or float64 for float64 states."""
    return torch.float64 if hidden.dtype == torch.float64 else torch.float32


def gather_rows(table: Tensor, rows: Tensor, dtype: torch.dtype) -> Tensor:
    """Return rows of a table (C, d), selected by int64 ``rows`` of any shape, as (*rows.shape, d)."""
    return table.index_select(0, rows.reshape(-1)).to(dtype).view(*rows.shape, table.size(1))


def rows_at_once(row_numbers: int, hidden: Tensor) -> int:
    """Return for how many rows, at least one, ``row_numbers`` numbers each fit in a workspace.

    Args:
        row_numbers: numbers of the compute dtype that a row needs.
        hidden: says device and compute dtype.
    """
    row_bytes = max(1, row_numbers) * compute_dtype(hidden).itemsize
    return max(1, workspace_bytes(hidden.device) // row_bytes)


def row_slices(n_rows: int, row_numbers: int, hidden: Tensor) -> Iterator[slice]:
    """Yield slices of ``n_rows`` rows as large as fit in a workspace; see :func:`rows_at_once`."""
    step = rows_at_once(row_numbers, hidden)
    for start in range(0, n_rows, step):
        yield slice(start, min(start + step, n_rows))


def target_logits(hidden: Tensor, item_embeddings: Tensor, targets: Tensor) -> Tensor:
    """Return x . w_y of each state, (N,), from states (N, d), items (C, d) and targets (N,) int64."""
    dtype = compute_dtype(hidden)
    logits = hidden.new_empty(len(hidden), dtype=dtype)
    for part in row_slices(len(hidden), 3 * hidden.size(1), hidden):
        own = gather_rows(item_embeddings, targets[part], dtype)
        logits[part] = torch.linalg.vecdot(hidden[part].to(dtype), own)
    return logits


def softmax_(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Turn logits (..., m) into their softmax over the last dimension, in place; m is at least 1.

    Returns:
        ``peaks`` and ``sums`` (...): the sum of exp over logits is exp(peaks) * sums. As one number, a large
        peak would round the logarithm of the sum away.
    """
    peaks = logits.amax(-1)
    torch.softmax(logits, -1, out=logits)
    # The largest probability is that of the peak: 1 / sums.
    return peaks, logits.amax(-1).reciprocal_()


def contenders(scores: Tensor, k: int, block: int) -> tuple[Tensor, Tensor]:
    """Return the scores (R, m) that may be among the k best of their row, and their columns.

    A column among the k best lies in one of the k blocks with the largest maxima, which takes one pass over
    the scores to see. m is a multiple of ``block``, and at least k times as large.

    Returns:
        (R, k * block) of the scores, and int64.
    """
    blocks = scores.view(len(scores), block, -1)  # column = offset * number of blocks + place
    place = blocks.amax(1).topk(k, sorted=False).indices.unsqueeze(1)  # (R, 1, k)
    offset = torch.arange(block, device=scores.device).view(1, block, 1)
    columns = offset * blocks.size(2) + place  # (R, block, k)
    return blocks.gather(2, place.expand(-1, block, -1)).flatten(1), columns.flatten(1)
