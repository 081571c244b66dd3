from __future__ import annotations

import pytest
import reference
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recbole_sce.loss import bucket_centers, select_buckets


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# (200, 3): more states than dimensions and fewer dimensions than buckets, which has a short cut.
@pytest.mark.parametrize("shape", [(200, 3), (5, 12)])
def test_mixed_centers_are_distributed_as_mixtures_of_states(shape: tuple[int, int]) -> None:
    hidden = torch.randn(shape, generator=seeded(1), dtype=torch.float64) + 0.7
    centers = bucket_centers(hidden, 40_000, True, seeded())
    assert centers.shape == (40_000, shape[1])
    covariance = hidden.T @ hidden
    scale = covariance.diagonal().max()
    assert torch.allclose(centers.T @ centers / 40_000 / scale, covariance / scale, atol=0.03)
    assert (centers.mean(0) / scale.sqrt()).abs().max() < 0.03


def test_mixed_centers_stay_where_the_states_are() -> None:
    hidden = torch.randn(50, 2, generator=seeded(1)) @ torch.randn(2, 6, generator=seeded(2))
    centers = bucket_centers(hidden, 30, True, seeded())
    assert torch.linalg.matrix_rank(torch.cat([hidden, centers]), rtol=1e-4) == 2


def test_plain_centers_look_into_every_direction() -> None:
    hidden = torch.zeros(50, 3)
    centers = bucket_centers(hidden, 40_000, False, seeded())
    assert torch.allclose(centers.T @ centers / 40_000, torch.eye(3), atol=0.03)


@pytest.mark.parametrize("mix_x", [True, False])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_centers_follow_the_seed_and_the_dtype(mix_x: bool, dtype: torch.dtype) -> None:
    hidden = torch.randn(40, 4).to(dtype)
    first, again, other = (bucket_centers(hidden, 9, mix_x, seeded(seed)) for seed in (1, 1, 2))
    assert first.dtype == dtype
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 12),
    c=st.integers(2, 40),
    n_b=st.integers(1, 5),
    b_x=st.integers(1, 15),
    b_y=st.integers(1, 50),
    excluded=st.sampled_from([(), (0,), (0, 1), (1, 0, 0, 99)]),
    chunk=st.sampled_from([None, 1, 7, 16]),
    seed=st.integers(0, 1000),
)
def test_buckets_hold_the_largest_inner_products(
    n: int, c: int, n_b: int, b_x: int, b_y: int, excluded: tuple[int, ...], chunk: int, seed: int
) -> None:
    generator = seeded(seed)
    hidden, items, centers = (
        torch.randn(rows, 4, generator=generator, dtype=torch.float64) for rows in (n, c, n_b)
    )
    buckets = select_buckets(hidden, items, centers, b_x, b_y, excluded, chunk)
    left = c - len({row for row in excluded if row < c})
    assert buckets.rows.shape == (n_b, min(b_x, n))
    assert buckets.items.shape == (n_b, min(b_y, left))
    assert buckets.rows.dtype == buckets.items.dtype == torch.int64
    assert [set(row) for row in buckets.rows.tolist()] == reference.top_rows(centers, hidden, b_x)
    assert [set(row) for row in buckets.items.tolist()] == reference.top_rows(centers, items, b_y, excluded)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"bucket_size_x": 0}, "bucket_size_x must be .*, got 0"),
        ({"bucket_size_y": -3}, "bucket_size_y must be .*, got -3"),
        ({"catalog_chunk": 0}, "catalog_chunk must be .*, got 0"),
        (
            {"centers": torch.zeros(2, 5)},
            "centers, hidden and item_embeddings must have rows of one width, got 5",
        ),
    ],
)
def test_bad_settings_are_named(setting: dict[str, object], message: str) -> None:
    arguments = {"centers": torch.zeros(2, 4), "bucket_size_x": 2, "bucket_size_y": 2, **setting}
    with pytest.raises(ValueError, match=message):
        select_buckets(torch.zeros(3, 4), torch.zeros(6, 4), **arguments)


def test_a_number_of_buckets_below_one_is_named() -> None:
    with pytest.raises(ValueError, match="n_buckets must be a whole number of at least 1, got 0"):
        bucket_centers(torch.zeros(3, 4), 0)
