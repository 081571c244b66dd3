"""Cells of a (rows, items) matrix, sorted and cut on the CPU, where they come from."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from recbole_sce.utils.devices import to_device


class Pairs(NamedTuple):
    """Cells of a (rows, items) matrix: ``rows`` (P,) int64 and ``items`` (P,) int64."""

    rows: Tensor
    items: Tensor


class PairsByChunk:
    """Pairs in the order of their items, cut where chunks of items begin.

    Args:
        pairs: on the CPU.
        n_items: number of items, C.
        chunk: items of a chunk.
        like: is on the device that :meth:`of` gives them on.
    """

    def __init__(self, pairs: Pairs, n_items: int, chunk: int, like: Tensor) -> None:
        self.pairs = pairs
        #: (P,) int64, what sorts the pairs by item.
        self.order = pairs.items.argsort()
        starts = torch.arange(0, n_items + chunk, chunk)
        self._bounds = torch.searchsorted(pairs.items[self.order], starts).tolist()
        self._sorted = Pairs(*(to_device(column[self.order], like.device) for column in pairs))

    def of(self, chunk: int) -> Pairs:
        """Return the pairs of the items of a chunk, by its number."""
        part = slice(self._bounds[chunk], self._bounds[chunk + 1])
        return Pairs(self._sorted.rows[part], self._sorted.items[part])


def distinct(pairs: Pairs, n_items: int) -> Pairs:
    """Return each pair once, without those of the padding item, by row; on the CPU."""
    pairs = on_cpu(pairs)
    keys = torch.unique(pairs.rows * n_items + pairs.items)
    keys = keys[keys % n_items != 0]
    return Pairs(keys // n_items, keys % n_items)


def without(pairs: Pairs, others: Pairs | None, n_items: int) -> Pairs:
    """Return the pairs that are not among ``others``; both on the CPU."""
    if others is None:
        return pairs
    kept = ~torch.isin(pairs.rows * n_items + pairs.items, others.rows * n_items + others.items)
    return Pairs(pairs.rows[kept], pairs.items[kept])


def slice_rows(pairs: Pairs | None, start: int, stop: int) -> Pairs | None:
    """Return the pairs of rows from ``start`` to ``stop``, rows counted from there; pairs are by row."""
    if pairs is None:
        return None
    low, high = torch.searchsorted(pairs.rows, torch.tensor([start, stop])).tolist()
    return Pairs(pairs.rows[low:high] - start, pairs.items[low:high])


def on_cpu(pairs: Pairs) -> Pairs:
    """Return the pairs on the CPU."""
    return Pairs(pairs.rows.cpu(), pairs.items.cpu())
