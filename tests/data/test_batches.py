"""Batches of like length: every row once, the same from the same seed, equal work in all processes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import BatchSampler, RandomSampler
from torch.utils.data.distributed import DistributedSampler

from recbole_sce.data.batches import BatchBound, Shard, even_stops, make_batches, n_batches, sort_pools

WHOLE = Shard()
BOUNDS = [BatchBound(8), BatchBound(8, targets=40)]


def lengths_of(n: int, seed: int = 0) -> Any:
    return np.minimum(1 + np.random.default_rng(seed).geometric(0.2, n), 50).astype(np.int32)


def batches(n: int, bound: BatchBound, seed: int = 0, shard: Shard = WHOLE, **options: Any) -> list[Any]:
    lengths = lengths_of(n)
    generator = torch.Generator().manual_seed(seed)
    options = {"shuffle": True, "group": True, **options}
    return list(make_batches(lengths, lengths, bound, generator=generator, shard=shard, **options))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("group", [True, False])
@pytest.mark.parametrize("n", [1, 7, 8, 9, 3000])
def test_every_row_is_in_one_batch(n: int, group: bool, bound: BatchBound) -> None:
    made = batches(n, bound, group=group)
    assert sorted(np.concatenate(made)) == list(range(n))
    assert len(made) == n_batches(n, int(lengths_of(n).sum()), bound)


@pytest.mark.parametrize("bound", BOUNDS)
def test_a_batch_has_rows_of_like_length(bound: BatchBound) -> None:
    def padded(made: list[Any]) -> float:
        lengths = lengths_of(5000)
        return sum(lengths[rows].max() * len(rows) for rows in made) / lengths.sum()

    assert padded(batches(5000, bound)) < 1.05
    assert padded(batches(5000, bound, group=False)) > 1.5


def test_the_seed_decides_and_epochs_differ() -> None:
    first, again, other = (batches(500, BOUNDS[0], seed) for seed in (1, 1, 2))
    assert all(np.array_equal(a, b) for a, b in zip(first, again))
    assert not all(np.array_equal(a, b) for a, b in zip(first, other))
    together = [{frozenset(rows.tolist()) for rows in made} for made in (first, other)]
    assert len(together[0] & together[1]) < 10  # other rows meet, too
    longest = [int(lengths_of(500)[rows].max()) for rows in first]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_a_bound_of_targets_is_kept_about() -> None:
    sizes = [int(lengths_of(3000)[rows].sum()) for rows in batches(3000, BatchBound(1, targets=400))]
    assert np.mean(sizes) <= 400
    assert max(sizes) <= 450
    assert min(sizes) >= 350


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_each_batch(bound: BatchBound, world_size: int) -> None:
    n = 2000
    parts = [batches(n, bound, shard=Shard(rank, world_size)) for rank in range(world_size)]
    assert len({len(part) for part in parts}) == 1
    rows = np.concatenate([np.concatenate(part) for part in parts])
    assert set(rows) == set(range(n))
    assert len(rows) == -(-n // world_size) * world_size
    lengths = lengths_of(n)
    for share in zip(*parts):
        assert len({len(rows) for rows in share}) == 1
        positions = [int(lengths[rows].sum()) for rows in share]
        longest = int(lengths[np.concatenate(share)].max())
        assert max(positions) - min(positions) <= longest


def test_without_grouping_batches_are_those_of_torch() -> None:
    sampler = RandomSampler(range(101), generator=torch.Generator().manual_seed(3))
    expected = list(BatchSampler(sampler, 8, drop_last=False))
    made = batches(101, BatchBound(8), seed=3, group=False)
    assert [rows.tolist() for rows in made] == expected


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_without_grouping_batches_of_processes_are_those_of_torch(rank: int) -> None:
    sampler: DistributedSampler[int] = DistributedSampler(
        list(range(101)), num_replicas=3, rank=rank, shuffle=True, seed=2
    )
    sampler.set_epoch(5)
    expected = list(BatchSampler(sampler, 4, drop_last=False))
    made = batches(101, BatchBound(13), seed=2 + 5, group=False, shard=Shard(rank, 3))
    assert [rows.tolist() for rows in made] == expected


def test_without_shuffling_rows_come_as_they_are() -> None:
    made = batches(20, BatchBound(8), shuffle=False)
    assert [rows.tolist() for rows in made] == [[*range(8)], [*range(8, 16)], [*range(16, 20)]]


def test_pools_are_sorted_there_and_back() -> None:
    lengths = np.array([5, 1, 4, 2, 3, 6, 7])
    order = np.arange(7)
    assert lengths[sort_pools(order, lengths, 3)].tolist() == [1, 4, 5, 6, 3, 2, 7]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.data())
def test_runs_are_even_and_none_is_empty(weights: list[int], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(weights)))
    stops = even_stops(np.array(weights), count)
    assert len(stops) == count
    assert stops[-1] == len(weights)
    assert (np.diff(stops, prepend=0) >= 1).all()
    if max(weights) * count <= sum(weights):
        sums = np.add.reduceat(weights, np.concatenate(([0], stops[:-1])))
        assert abs(sums - sum(weights) / count).max() <= max(weights)
