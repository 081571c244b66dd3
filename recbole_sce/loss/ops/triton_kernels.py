"""Triton kernels for GPUs: the search and the bucket loss without scores or logits in memory.

They give what :mod:`recbole_sce.loss.sce.search` and :mod:`recbole_sce.loss.sce.fused` give with PyTorch
operations, for float32 and half precisions, and sum in float32. :mod:`recbole_sce.loss.ops.kernels` says
when they are used.

Inner products are computed tile by tile in :func:`_products`; every kernel reduces its tiles on chip and
writes only what is left. Numbers that do not fill a tile (N, C, b_x, b_y, d) are masked. The tile sizes were
chosen by reasoning; they have not been tuned on a GPU.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from recbole_sce.loss.ops.memory import RowGradient, workspace_bytes

#: Neighbouring rows of the table of which the search writes one number, the largest score.
_BLOCK = 32
#: Queries, and blocks, of a tile of the search; blocks of one query that are opened together.
_QUERIES, _BLOCKS, _OPENED = 64, 4, 4
#: States and items of a tile of the bucket loss.
_STATES, _ITEMS = 64, 64
#: Warps of a program. With 4, as compiled for compute capability 9.0, numbers spill out of the registers.
_WARPS = 8
#: Most columns of the rows that are read, or summed, at a time.
_COLUMNS = 64
#: What a score counts as that is no number or below all numbers: above an excluded row, under all else.
_LOWEST = tl.constexpr(torch.finfo(torch.float32).min)
_INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET") == "1")
_ELEMENTS = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}


@triton.jit
def _load_rows(table, row, real, row_stride, column_stride, first, width, COLUMNS: tl.constexpr):
    """Return columns ``first`` to ``first + COLUMNS`` of the rows (R,) of a table, (R, COLUMNS).

    Zeros stand beyond ``width`` and where ``real`` (R,) is false.
    """
    column = first + tl.arange(0, COLUMNS)
    cell = table + row.to(tl.int64)[:, None] * row_stride + column[None, :] * column_stride
    return tl.load(cell, mask=real[:, None] & (column < width)[None, :], other=0.0)


@triton.jit
def _products(
    left, left_row, left_real, left_row_stride, left_column_stride,
    right, right_row, right_real, right_row_stride, right_column_stride,
    width,
    LEFT: tl.constexpr, RIGHT: tl.constexpr, COLUMNS: tl.constexpr,
    ELEMENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Return the inner products of rows of two tables, (LEFT, RIGHT) float32."""
    sums = tl.zeros((LEFT, RIGHT), dtype=tl.float32)
    for first in range(0, width, COLUMNS):
        one = _load_rows(
            left, left_row, left_real, left_row_stride, left_column_stride, first, width, COLUMNS
        )
        other = _load_rows(
            right, right_row, right_real, right_row_stride, right_column_stride, first, width, COLUMNS
        )
        one, other = one.to(ELEMENT), other.to(ELEMENT)
        if _INTERPRETED:
            # The interpreter holds bfloat16 as integers, and multiplies these.
            one, other = one.to(tl.float32), other.to(tl.float32)
        sums = tl.dot(one, tl.trans(other), sums, input_precision=PRECISION)
    return sums


@triton.jit
def _rank(scores, row, n_rows, excluded, EXCLUDES: tl.constexpr):
    """Return scores that can be ranked, and whether each row (R,) may be found at all."""
    allowed = row < n_rows
    if EXCLUDES:
        allowed = allowed & (tl.load(excluded + row, mask=allowed, other=1) == 0)
    return tl.where(scores > _LOWEST, scores, _LOWEST), allowed


@triton.jit
def _maxima_kernel(
    queries, table, excluded, maxima,
    n_queries, n_rows, n_blocks, width,
    query_stride, query_column_stride, row_stride, column_stride,
    EXCLUDES: tl.constexpr, QUERIES: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr, ELEMENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the largest score of each query in each block of neighbouring rows.

    queries (Q, d), table (C, d), excluded (C,) int8, maxima (Q, n_blocks) float32. One program for QUERIES
    queries and BLOCKS blocks; programs of the same blocks are neighbours, so that the table comes from memory
    once. The (QUERIES, BLOCKS * BLOCK) scores stay on chip.
    """
    n_query_tiles = tl.cdiv(n_queries, QUERIES)
    query = (tl.program_id(0) % n_query_tiles) * QUERIES + tl.arange(0, QUERIES)
    tile = tl.program_id(0) // n_query_tiles
    block = tile * BLOCKS + tl.arange(0, BLOCKS)
    row = tile * (BLOCKS * BLOCK) + tl.arange(0, BLOCKS * BLOCK)
    scores = _products(
        queries, query, query < n_queries, query_stride, query_column_stride,
        table, row, row < n_rows, row_stride, column_stride,
        width, QUERIES, BLOCKS * BLOCK, COLUMNS, ELEMENT, PRECISION,
    )  # fmt: skip
    scores, allowed = _rank(scores, row, n_rows, excluded, EXCLUDES)
    scores = tl.where(allowed[None, :], scores, float("-inf"))
    largest = tl.max(tl.reshape(scores, (QUERIES, BLOCKS, BLOCK)), axis=2)
    cell = maxima + query.to(tl.int64)[:, None] * n_blocks + block[None, :]
    tl.store(cell, largest, mask=(query < n_queries)[:, None] & (block < n_blocks)[None, :])


@triton.jit
def _open_kernel(
    queries, table, excluded, blocks, opened,
    n_open, n_rows, width,
    query_stride, query_column_stride, row_stride, column_stride,
    EXCLUDES: tl.constexpr, BLOCKS: tl.constexpr, BLOCK: tl.constexpr,
    COLUMNS: tl.constexpr, ELEMENT: tl.constexpr,
):  # fmt: skip
    """Write all scores of the blocks that each query opens.

    queries (Q, d), table (C, d), excluded (C,) int8, blocks (Q, n_open) int64, opened (Q, n_open * BLOCK)
    float32. One program for a query and BLOCKS of its blocks.
    """
    n_tiles = tl.cdiv(n_open, BLOCKS)
    query = tl.program_id(0) // n_tiles
    place = (tl.program_id(0) % n_tiles) * BLOCKS + tl.arange(0, BLOCKS)
    cell = query.to(tl.int64) * n_open + place
    block = tl.load(blocks + cell, mask=place < n_open, other=0)
    row = tl.reshape(block[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :], (BLOCKS * BLOCK,))
    scores = tl.zeros((BLOCKS * BLOCK,), dtype=tl.float32)
    for first in range(0, width, COLUMNS):
        column = first + tl.arange(0, COLUMNS)
        own = queries + query.to(tl.int64) * query_stride + column * query_column_stride
        own = tl.load(own, mask=column < width, other=0.0).to(tl.float32)
        part = _load_rows(table, row, row < n_rows, row_stride, column_stride, first, width, COLUMNS)
        scores += tl.sum(part.to(ELEMENT).to(tl.float32) * own[None, :], axis=1)
    scores, allowed = _rank(scores, row, n_rows, excluded, EXCLUDES)
    scores = tl.reshape(tl.where(allowed, scores, float("-inf")), (BLOCKS, BLOCK))
    cell = opened + cell[:, None] * BLOCK + tl.arange(0, BLOCK)[None, :]
    tl.store(cell, scores, mask=(place < n_open)[:, None])


@triton.jit
def _totals_kernel(
    hidden, table, rows, items, targets, totals, inside,
    n_states, n_items, width,
    state_stride, state_column_stride, row_stride, column_stride,
    STATES: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr,
    ELEMENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write each pair's log-sum-exp over its bucket's items, and whether its target is among them.

    hidden (N, d), table (C, d), rows (n_b, b_x) int64, items (n_b, b_y) int64, targets (n_b, b_x) int64 of
    the pairs, totals (n_b, b_x) float32, inside (n_b, b_x) int8; b_x is ``n_states``, b_y ``n_items``. One
    program for STATES states of a bucket. It goes over all items of the bucket, ITEMS at a time, and keeps a
    running maximum and sum of each state on chip.
    """
    n_tiles = tl.cdiv(n_states, STATES)
    bucket = tl.program_id(0).to(tl.int64) // n_tiles
    column = (tl.program_id(0) % n_tiles) * STATES + tl.arange(0, STATES)
    real = column < n_states
    pair = bucket * n_states + column
    state = tl.load(rows + pair, mask=real, other=0)
    target = tl.load(targets + pair, mask=real, other=-1)
    largest = tl.full((STATES,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((STATES,), dtype=tl.float32)
    is_inside = tl.zeros((STATES,), dtype=tl.int32)
    for first in range(0, n_items, ITEMS):
        place = first + tl.arange(0, ITEMS)
        item = tl.load(items + bucket * n_items + place, mask=place < n_items, other=-2)
        is_inside = tl.maximum(is_inside, tl.max((item[None, :] == target[:, None]).to(tl.int32), axis=1))
        logits = _products(
            hidden, state, real, state_stride, state_column_stride,
            table, item, place < n_items, row_stride, column_stride,
            width, STATES, ITEMS, COLUMNS, ELEMENT, PRECISION,
        )  # fmt: skip
        logits = tl.where((place < n_items)[None, :], logits, float("-inf"))
        larger = tl.maximum(largest, tl.max(logits, axis=1))
        total = total * tl.exp(largest - larger) + tl.sum(tl.exp(logits - larger[:, None]), axis=1)
        largest = larger
    tl.store(totals + pair, tl.log(total) + largest, mask=real)
    tl.store(inside + pair, is_inside.to(tl.int8), mask=real)


@triton.jit
def _grad_hidden_kernel(
    hidden, table, states, totals, starts, items, scale, grad_hidden,
    n_tiles, n_items, width,
    state_stride, state_column_stride, row_stride, column_stride,
    STATES: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr,
    ELEMENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Write the gradient of the winning states, but for what their own targets add.

    hidden (N, d), table (C, d), states (W,) int64 and totals (W,) float32 of the winning pairs by bucket,
    starts (n_b + 1,) int64 where each bucket's pairs begin, items (n_b, b_y) int64, scale () float32,
    grad_hidden (N, d) float32 contiguous. One program for STATES winners of a bucket and COLUMNS columns,
    whose gradient stays on chip while it goes over the bucket's items. A state wins once, so nothing is added
    in memory: the result is the same in every run.
    """
    bucket = tl.program_id(0).to(tl.int64) // n_tiles
    first_column = tl.program_id(1) * COLUMNS
    stop = tl.load(starts + bucket + 1)
    begin = tl.load(starts + bucket) + (tl.program_id(0) % n_tiles) * STATES
    if begin < stop:
        winner = begin + tl.arange(0, STATES)
        real = winner < stop
        state = tl.load(states + winner, mask=real, other=0)
        total = tl.load(totals + winner, mask=real, other=0.0)
        sums = tl.zeros((STATES, COLUMNS), dtype=tl.float32)
        for first in range(0, n_items, ITEMS):
            place = first + tl.arange(0, ITEMS)
            item = tl.load(items + bucket * n_items + place, mask=place < n_items, other=0)
            logits = _products(
                hidden, state, real, state_stride, state_column_stride,
                table, item, place < n_items, row_stride, column_stride,
                width, STATES, ITEMS, COLUMNS, ELEMENT, PRECISION,
            )  # fmt: skip
            # At most 1, whatever rounding does to large logits; not tl.minimum, which drops NaN.
            slopes = tl.where(
                (place < n_items)[None, :],
                tl.exp(tl.where(logits > total[:, None], 0.0, logits - total[:, None])),
                0.0,
            )
            weights = _load_rows(
                table, item, place < n_items, row_stride, column_stride, first_column, width, COLUMNS
            )
            sums = tl.dot(slopes, weights.to(tl.float32), sums, input_precision=PRECISION)
        column = first_column + tl.arange(0, COLUMNS)
        cell = grad_hidden + state[:, None] * width + column[None, :]
        tl.store(cell, sums * tl.load(scale), mask=real[:, None] & (column < width)[None, :])


@triton.jit
def _grad_items_kernel(
    hidden, table, states, totals, starts, items, slots, scale, grad_items,
    n_items, width,
    state_stride, state_column_stride, row_stride, column_stride,
    STATES: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr,
    ELEMENT: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Add the gradient of the items of the buckets, but for what they get as targets.

    As :func:`_grad_hidden_kernel`; slots (n_b, b_y) int64 are the rows of grad_items (R, d) float32 that
    belong to the items. One program for ITEMS items of a bucket and COLUMNS columns, whose gradient stays on
    chip while it goes over the bucket's winners. An item may be in several buckets: the sums are added
    atomically, and their last digits depend on the order in which the programs end.
    """
    n_tiles = tl.cdiv(n_items, ITEMS)
    bucket = tl.program_id(0).to(tl.int64) // n_tiles
    first_column = tl.program_id(1) * COLUMNS
    place = (tl.program_id(0) % n_tiles) * ITEMS + tl.arange(0, ITEMS)
    begin = tl.load(starts + bucket)
    stop = tl.load(starts + bucket + 1)
    if begin < stop:
        item = tl.load(items + bucket * n_items + place, mask=place < n_items, other=0)
        sums = tl.zeros((ITEMS, COLUMNS), dtype=tl.float32)
        for first in range(begin, stop, STATES):
            winner = first + tl.arange(0, STATES)
            real = winner < stop
            state = tl.load(states + winner, mask=real, other=0)
            total = tl.load(totals + winner, mask=real, other=0.0)
            logits = _products(
                table, item, place < n_items, row_stride, column_stride,
                hidden, state, real, state_stride, state_column_stride,
                width, ITEMS, STATES, COLUMNS, ELEMENT, PRECISION,
            )  # fmt: skip
            slopes = tl.where(
                real[None, :], tl.exp(tl.where(logits > total[None, :], 0.0, logits - total[None, :])), 0.0
            )
            own = _load_rows(
                hidden, state, real, state_stride, state_column_stride, first_column, width, COLUMNS
            )
            sums = tl.dot(slopes, own.to(tl.float32), sums, input_precision=PRECISION)
        slot = tl.load(slots + bucket * n_items + place, mask=place < n_items, other=0)
        column = first_column + tl.arange(0, COLUMNS)
        cell = grad_items + slot[:, None] * width + column[None, :]
        tl.atomic_add(
            cell, sums * tl.load(scale), mask=(place < n_items)[:, None] & (column < width)[None, :]
        )


def top_rows(queries: Tensor, table: Tensor, k: int, excluded: Sequence[int], chunk: int | None) -> Tensor:
    """Return, for each query, the k rows of the table with the largest inner products.

    Of each block of 32 neighbouring rows only the largest score is written. The k best rows lie in the k
    blocks with the largest of these, whose scores are then computed again.

    Args:
        queries: (Q, d), one of the dtypes of :func:`supports`; Q, k at least 1.
        table: (C, d) floating point; its rows are rounded to the dtype of the queries.
        k: rows a query, at most C - len(excluded).
        excluded: rows that are never returned.
        chunk: rows of which the blocks' maxima are held at a time; None chooses.

    Returns:
        (Q, k) int64, no row twice, in no particular order.
    """
    n_queries, n_rows = len(queries), len(table)
    chunk = triton.cdiv(chunk, _BLOCK) if chunk else workspace_bytes(queries.device) // (4 * n_queries)
    chunk = max(chunk, 1) * _BLOCK
    mask = None
    if excluded:
        rows = torch.tensor(excluded, dtype=torch.int64).to(queries.device, non_blocking=True)
        mask = torch.zeros(n_rows, dtype=torch.int8, device=queries.device).index_fill_(0, rows, 1)
    best = torch.empty(n_queries, 0, device=queries.device)
    blocks = torch.empty(n_queries, 0, dtype=torch.int64, device=queries.device)
    for start in range(0, n_rows, chunk):
        part = slice(start, start + chunk)
        maxima = _block_maxima(queries, table[part], None if mask is None else mask[part])
        largest, block = maxima.topk(min(k, maxima.size(1)), 1, sorted=False)
        best, blocks = torch.cat([best, largest], 1), torch.cat([blocks, block + start // _BLOCK], 1)
        if best.size(1) > k:
            best, order = best.topk(k, 1, sorted=False)
            blocks = blocks.gather(1, order)
    order = _open_blocks(queries, table, mask, blocks).topk(k, 1, sorted=False).indices
    return blocks.gather(1, order // _BLOCK) * _BLOCK + order % _BLOCK


def _block_maxima(queries: Tensor, table: Tensor, mask: Tensor | None) -> Tensor:
    """Return the largest score of each block of rows that are not masked, (Q, ceil(C / 32)) float32."""
    n_queries, width = queries.shape
    n_blocks = triton.cdiv(len(table), _BLOCK)
    maxima = torch.empty(n_queries, n_blocks, device=queries.device)
    grid = (triton.cdiv(n_queries, _QUERIES) * triton.cdiv(n_blocks, _BLOCKS),)
    with torch.cuda.device_of(queries):
        _maxima_kernel[grid](
            queries, table, queries if mask is None else mask, maxima,
            n_queries, len(table), n_blocks, width,
            *queries.stride(), *table.stride(),
            EXCLUDES=mask is not None, QUERIES=_QUERIES, BLOCKS=_BLOCKS, BLOCK=_BLOCK,
            COLUMNS=_columns(width), ELEMENT=_ELEMENTS[queries.dtype], PRECISION=_precision(),
            num_warps=_WARPS,
        )  # fmt: skip
    return maxima


def _open_blocks(queries: Tensor, table: Tensor, mask: Tensor | None, blocks: Tensor) -> Tensor:
    """Return all scores of each query in its blocks (Q, n), (Q, 32 * n) float32."""
    n_queries, width = queries.shape
    n_open = blocks.size(1)
    opened = torch.empty(n_queries, n_open * _BLOCK, device=queries.device)
    with torch.cuda.device_of(queries):
        _open_kernel[(n_queries * triton.cdiv(n_open, _OPENED),)](
            queries, table, queries if mask is None else mask, blocks.contiguous(), opened,
            n_open, len(table), width,
            *queries.stride(), *table.stride(),
            EXCLUDES=mask is not None, BLOCKS=_OPENED, BLOCK=_BLOCK,
            COLUMNS=_columns(width), ELEMENT=_ELEMENTS[queries.dtype],
        )  # fmt: skip
    return opened


def bucket_totals(
    hidden: Tensor, item_embeddings: Tensor, targets: Tensor, rows: Tensor, items: Tensor
) -> tuple[Tensor, Tensor]:
    """Return each pair's log-sum-exp over its bucket's items, and whether its target is among them.

    Args:
        hidden: (N, d), one of the dtypes of :func:`supports`.
        item_embeddings: (C, d) floating point.
        targets: (N,) int64.
        rows: (n_b, b_x) int64, contiguous.
        items: (n_b, b_y) int64, contiguous.

    Returns:
        (n_b, b_x) float32 and bool.
    """
    totals = torch.full(rows.shape, -torch.inf, device=hidden.device)
    inside = torch.zeros(rows.shape, dtype=torch.int8, device=hidden.device)
    if totals.numel() > 0 and items.size(1) > 0:
        with torch.cuda.device_of(hidden):
            _totals_kernel[(len(rows) * triton.cdiv(rows.size(1), _STATES),)](
                hidden, item_embeddings, rows, items, targets[rows], totals, inside,
                rows.size(1), items.size(1), hidden.size(1),
                *hidden.stride(), *item_embeddings.stride(), **_bucket_tiles(hidden, item_embeddings),
            )  # fmt: skip
    return totals, inside.bool()


def add_gradients(
    hidden: Tensor,
    item_embeddings: Tensor,
    rows: Tensor,
    items: Tensor,
    winners: Tensor,
    totals: Tensor,
    scale: Tensor,
    grad_hidden: Tensor | None,
    grad_items: RowGradient | None,
) -> None:
    """Add what the bucket's items contribute to the gradients; as ``fused._add_gradients``.

    Args:
        hidden: (N, d), one of the dtypes of :func:`supports`.
        item_embeddings: (C, d) floating point.
        rows: (n_b, b_x) int64, contiguous.
        items: (n_b, b_y) int64, contiguous.
        winners: (W,) int64, ascending, the winning pairs; no state twice.
        totals: (W,) float32, the log-sum-exp of these.
        scale: () float32, what the gradients are multiplied with.
        grad_hidden: at least (N, d) float32, contiguous, zeros; None where it is not needed.
        grad_items: None where it is not needed.
    """
    if len(winners) == 0 or items.size(1) == 0:
        return
    width = hidden.size(1)
    tiles = _bucket_tiles(hidden, item_embeddings)
    first_pairs = torch.arange(len(rows) + 1, device=rows.device) * rows.size(1)
    pairs = (rows.view(-1)[winners], totals, torch.searchsorted(winners, first_pairs))
    strides = (*hidden.stride(), *item_embeddings.stride())
    n_slices = triton.cdiv(width, tiles["COLUMNS"])
    with torch.cuda.device_of(hidden):
        if grad_hidden is not None:
            n_tiles = triton.cdiv(rows.size(1), _STATES)
            _grad_hidden_kernel[(len(rows) * n_tiles, n_slices)](
                hidden, item_embeddings, *pairs, items, scale, grad_hidden,
                n_tiles, items.size(1), width, *strides, **tiles,
            )  # fmt: skip
        if grad_items is not None:
            _grad_items_kernel[(len(rows) * triton.cdiv(items.size(1), _ITEMS), n_slices)](
                hidden, item_embeddings, *pairs, items, grad_items.slots(items), scale, grad_items.sums,
                items.size(1), width, *strides, **tiles,
            )  # fmt: skip


def supports(dtype: torch.dtype) -> bool:
    """Return whether the kernels take queries or states of this dtype: float32, bfloat16, float16."""
    return dtype in _ELEMENTS


def _columns(width: int) -> int:
    # A product of tiles needs 16 columns at least.
    return min(_COLUMNS, max(16, int(triton.next_power_of_2(width))))


def _precision() -> str:
    """Return how float32 is multiplied, ieee or tf32: as PyTorch's settings say for CUDA's products."""
    matmul = torch.backends.cuda.matmul
    # The older setting cannot be read once the newer one, since torch 2.9, was written.
    if hasattr(matmul, "fp32_precision"):
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _bucket_tiles(hidden: Tensor, item_embeddings: Tensor) -> dict[str, Any]:
    """Return the settings of the bucket kernels. Equal half precisions multiply exactly in float32."""
    equal = hidden.dtype == item_embeddings.dtype
    return {
        "STATES": _STATES,
        "ITEMS": _ITEMS,
        "COLUMNS": _columns(hidden.size(1)),
        "ELEMENT": _ELEMENTS[hidden.dtype] if equal else tl.float32,
        "PRECISION": _precision(),
        "num_warps": _WARPS,
    }
