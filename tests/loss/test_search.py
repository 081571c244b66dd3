from __future__ import annotations

import pytest
import torch
from torch import Tensor

from recbole_sce.loss.ops import memory
from recbole_sce.loss.sce import search


def best(queries: Tensor, table: Tensor, k: int, excluded: tuple[int, ...] = ()) -> Tensor:
    """Return what a search must find, (Q, k) ascending."""
    scores = queries.double() @ table.double().T
    scores[:, list(excluded)] = -torch.inf
    return scores.topk(k).indices.sort(1).values


def found(
    method: str,
    queries: Tensor,
    table: Tensor,
    k: int,
    excluded: tuple[int, ...] = (),
    chunk: int | None = None,
) -> Tensor:
    with torch.no_grad():
        return getattr(search, method)(queries, table, k, excluded, chunk).sort(1).values


METHODS = ["_search", "_search_coarse_first", "_merge_chunks"]


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Every way to search, whatever this machine would choose."""
    return request.param


@pytest.fixture
def vectors() -> tuple[Tensor, Tensor]:
    """Queries (7, 16) and a table (3001, 16)."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(7, 16, generator=generator), torch.randn(3001, 16, generator=generator)


@pytest.mark.parametrize("chunk", [None, 1, 50, 333, 512, 4000])
@pytest.mark.parametrize("k", [1, 20, 200])
def test_finds_the_best_whatever_the_chunk(
    method: str, vectors: tuple[Tensor, Tensor], k: int, chunk: int
) -> None:
    queries, table = vectors
    if chunk == 1:
        table = table[:400]
    assert torch.equal(found(method, queries, table, k, (0, 3), chunk), best(queries, table, k, (0, 3)))


@pytest.mark.parametrize("order", ["rising", "falling"])
def test_a_sorted_table_is_no_trap(method: str, order: str) -> None:
    # Rising: every chunk beats all before it.
    table = torch.linspace(-1, 1, 5000).unsqueeze(1) * torch.ones(1, 4)
    table = table if order == "rising" else -table
    queries = torch.tensor([[1.0, 2.0, 3.0, 4.0], [-1.0, 0.0, 0.0, 0.0]])
    assert torch.equal(found(method, queries, table, 32, (), 256), best(queries, table, 32))


def test_equal_scores_are_filled_with_different_rows(method: str) -> None:
    rows = found(method, torch.zeros(3, 4), torch.ones(2000, 4), 50, (5,), 256)
    assert rows.shape == (3, 50)
    assert all(len(set(row)) == 50 and 5 not in row for row in rows.tolist())
    assert 0 <= int(rows.min()) <= int(rows.max()) < 2000


def test_rows_that_are_no_numbers_break_nothing(method: str, vectors: tuple[Tensor, Tensor]) -> None:
    queries, table = vectors
    table[100] = torch.nan
    rows = found(method, queries, table, 20, (0,), 512)
    assert rows.shape == (7, 20)
    assert 0 < int(rows.min()) <= int(rows.max()) < 3001
    assert found(method, torch.full((2, 16), torch.nan), table, 20, (0,), 512).shape == (2, 20)


def test_excluded_rows_never_win(method: str, vectors: tuple[Tensor, Tensor]) -> None:
    queries, table = vectors
    table[[0, 700, 3000]] = 1000 * queries[0]
    rows = found(method, queries, table, 20, (0, 700, 3000), 512)
    assert not {0, 700, 3000} & set(rows.flatten().tolist())


def test_the_coarse_search_repeats_what_rounding_leaves_open(monkeypatch: pytest.MonkeyPatch) -> None:
    # Products that differ by less than bfloat16 can tell, in a large table: only a second search is right.
    generator = torch.Generator().manual_seed(0)
    table = 1.0 + 1e-4 * torch.randn(4000, 8, generator=generator)
    queries = torch.rand(3, 8, generator=generator)
    repeated = []
    plain = search._search

    def recording(queries: Tensor, *rest: object) -> Tensor:
        repeated.append(len(queries))
        return plain(queries, *rest)

    monkeypatch.setattr(search, "_search", recording)
    assert torch.equal(found("_search_coarse_first", queries, table, 10), best(queries, table, 10))
    assert repeated == [3]


def test_the_coarse_search_is_sure_of_scattered_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(0)
    queries, table = torch.randn(9, 64, generator=generator), torch.randn(30_000, 64, generator=generator)

    def refuse(*args: object) -> Tensor:
        raise AssertionError("searched twice")

    expected = best(queries, table, 40)
    monkeypatch.setattr(search, "_search", refuse)
    assert torch.equal(found("_search_coarse_first", queries, table, 40), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("table_dtype", [torch.float32, torch.bfloat16])
def test_ranks_in_float32_or_better(
    dtype: torch.dtype, table_dtype: torch.dtype, vectors: tuple[Tensor, Tensor]
) -> None:
    queries, table = vectors[0].to(dtype), vectors[1].to(table_dtype)
    rows = search.top_rows(queries, table, 20).sort(1).values
    assert torch.equal(rows, best(queries, table, 20))


def test_many_queries_are_searched_in_groups(vectors: tuple[Tensor, Tensor]) -> None:
    _, table = vectors
    queries = torch.randn(300, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(search.top_rows(queries, table, 5).sort(1).values, best(queries, table, 5))


def test_autocast_does_not_coarsen_the_ranking(vectors: tuple[Tensor, Tensor]) -> None:
    queries, table = vectors
    with torch.autocast("cpu", torch.bfloat16):
        rows = search.top_rows(queries, table, 20).sort(1).values
    assert torch.equal(rows, best(queries, table, 20))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_does_not_grow_with_the_table(dtype: torch.dtype) -> None:
    # Scores, and rows where they are converted, live in one workspace whatever the number of rows.
    queries = torch.empty(90, 64, dtype=dtype)
    sizes = {}
    for n_rows in (10**5, 10**6):
        table = torch.empty(1, 64).expand(n_rows, 64)
        spans = list(search._spans(n_rows, search._chunk_rows(queries, table, 256), 256))
        assert [start for start, _, _ in spans[1:]] == [stop for _, stop, _ in spans[:-1]]
        assert spans[-1][1] == n_rows
        sizes[n_rows] = max(stop - start for start, stop, _ in spans)
    assert sizes[10**5] == sizes[10**6]
    row_numbers = 90 if dtype == torch.float32 else 90 + 64
    assert row_numbers * dtype.itemsize * sizes[10**6] <= memory._CPU_WORKSPACE


def test_blocks_leave_two_for_each_row_wanted() -> None:
    for start, stop, block in search._spans(10_000, 4096, 100):
        assert (stop - start) % block == 0
        assert block == 1 or (stop - start) // block >= 200
