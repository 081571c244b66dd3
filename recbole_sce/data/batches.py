"""Which rows a training batch has: rows of like length together, so that a batch has little padding."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

#: Batches whose rows are sorted by length together. Larger pools have less padding; smaller ones mix rows of
#: different lengths more freely from epoch to epoch.
_POOL = 128

Rows = npt.NDArray[np.int64]
Sizes = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Shard:
    """The part of each batch that one of several processes takes."""

    rank: int = 0
    world_size: int = 1


@dataclass(frozen=True)
class BatchBound:
    """How much a batch holds, of all processes together.

    Attributes:
        rows: most rows, if ``targets`` is None.
        targets: about this many targets, whatever the number of rows is.
    """

    rows: int
    targets: int | None = None


def n_batches(n_rows: int, total_targets: int, bound: BatchBound, world_size: int = 1) -> int:
    """Return how many batches an epoch has: the same number in each process, and in each epoch."""
    units = -(-n_rows // world_size)  # a unit is a row for each process
    if bound.targets is None:
        return -(-units // _units_per_batch(bound, world_size))
    return min(units, max(1, -(-total_targets // bound.targets)))


def make_batches(
    lengths: Sizes,
    n_targets: Sizes,
    bound: BatchBound,
    shuffle: bool,
    group: bool,
    generator: torch.Generator,
    shard: Shard,
) -> Iterator[Rows]:
    """Yield the rows of one process's batches in an epoch.

    Rows are shuffled, pools of them are sorted by length, and the batches come in random order. Each row is
    in one batch. The first rows of the order come again at its end, as in torch's ``DistributedSampler``, so
    that all processes have equally many. A process takes every ``world_size``-th row of a batch, so that all
    have about the same lengths.

    Args:
        lengths: (n,) length of each row.
        n_targets: (n,) targets that each row trains.
        bound: how much a batch holds.
        shuffle: whether the order is random; else rows come as they are, and are not grouped.
        group: whether rows of like length come together. Without it, batches are those of RecBole's loader.
        generator: what the order is drawn from; the same state in each process.
        shard: which part of each batch to yield.
    """
    n, world_size = len(lengths), shard.world_size
    order = torch.randperm(n, generator=generator).numpy() if shuffle else np.arange(n)
    order = np.resize(order, -(-n // world_size) * world_size)  # begins again at the first
    total = int(n_targets.sum(dtype=np.int64))
    count = n_batches(n, total, bound, world_size)
    grouped = shuffle and group
    if grouped:
        order = sort_pools(order, lengths, pool=max(1, _POOL * len(order) // max(1, count)))
    if bound.targets is None:
        units = np.arange(1, count + 1) * _units_per_batch(bound, world_size)
        stops = np.minimum(units * world_size, len(order))
    else:
        of_units = n_targets[order].reshape(-1, world_size).sum(1, dtype=np.int64)
        stops = even_stops(of_units, count) * world_size
    starts = np.concatenate(([0], stops[:-1])).astype(np.int64)
    turns = torch.randperm(count, generator=generator).numpy() if grouped else np.arange(count)
    for turn in turns:
        yield order[starts[turn] : stops[turn]][shard.rank :: world_size]


def sort_pools(order: Rows, lengths: Sizes, pool: int) -> Rows:
    """Sort each run of ``pool`` rows by length, every second one the longest first.

    Where one pool ends and the next begins, rows are then of like length, too.
    """
    pools = np.arange(len(order)) // pool
    keys = lengths[order].astype(np.int64)
    ranks: Rows = np.lexsort((np.where(pools % 2, -keys, keys), pools))
    return order[ranks]


def even_stops(weights: Sizes, count: int) -> Rows:
    """Return where each of ``count`` runs of (n,) weights ends, with sums as even as whole weights allow.

    Each run has at least one weight.
    """
    ends = np.cumsum(weights, dtype=np.float64)
    middles = ends - weights / 2
    even_sums = ends[-1] / count * np.arange(1, count) if len(ends) else np.empty(0)
    stops = np.append(np.searchsorted(middles, even_sums), len(weights)).astype(np.int64)
    steps = np.arange(count)
    stops = np.maximum.accumulate(np.maximum(stops - steps, 1)) + steps  # at least one more than before
    return np.minimum(stops, len(weights) - count + 1 + steps)


def _units_per_batch(bound: BatchBound, world_size: int) -> int:
    return max(1, bound.rows // world_size)
