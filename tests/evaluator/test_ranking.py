"""Chunked ranking against RecBole's own dense evaluation, ties included."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from recbole.evaluator import Collector
from torch import Tensor

from recbole_sce.evaluator import ranking as evaluation
from recbole_sce.evaluator.collector import StreamingCollector
from recbole_sce.evaluator.pairs import Pairs
from recbole_sce.evaluator.ranking import rank_candidates, rank_catalogue

METRICS = ["Recall", "GAUC", "ItemCoverage"]  # between them they need all that a collector gathers


def config(k: int) -> dict[str, Any]:
    return {"eval_args": {"mode": "full"}, "topk": [k], "device": torch.device("cpu"), "metrics": METRICS}


def dense_struct(scores: Tensor, targets: Pairs, k: int) -> dict[str, Tensor]:
    """What RecBole's collector gathers from the dense matrix ``scores`` (B, C), padding behind candidates."""
    collector = Collector(config(k))
    collector.eval_batch_collect(scores, None, targets.rows, targets.items)
    struct = dict(collector.data_struct._data_dict)
    items = struct["rec.items"]
    struct["rec.items"] = items.where(scores.gather(1, items) > -torch.inf, 0)
    return struct


def streamed_struct(ranking: evaluation.Ranking, targets: Pairs, k: int) -> dict[str, Tensor]:
    collector = StreamingCollector(config(k))
    collector.eval_batch_collect(ranking, None, targets.rows, targets.items)
    return dict(collector.data_struct._data_dict)


def assert_same(ours: dict[str, Tensor], dense: dict[str, Tensor]) -> None:
    assert ours.keys() == dense.keys() == {"rec.items", "rec.topk", "rec.meanrank"}
    for name, expected in dense.items():
        assert ours[name].dtype == expected.dtype, name
        assert torch.equal(ours[name], expected), name


def small_numbers(shape: tuple[int, ...], values: int, generator: torch.Generator) -> Tensor:
    """Whole numbers: sums of their products are exact, and many are equal."""
    return torch.randint(-values, values + 1, shape, generator=generator).float()


@st.composite
def cases(draw: Any) -> SimpleNamespace:
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    n_rows, n_items = draw(st.integers(1, 40)), draw(st.integers(2, 700))
    values = draw(st.sampled_from([0, 1, 2, 50]))
    several = draw(st.booleans())
    targets = Pairs(torch.arange(n_rows), torch.randint(1, n_items, (n_rows,), generator=generator))
    if several:  # repeated pairs among them, and rows without a target
        targets = Pairs(
            torch.randint(n_rows, (3 * n_rows,), generator=generator),
            torch.randint(1, n_items, (3 * n_rows,), generator=generator),
        )
    exclude: Pairs | None = None
    if draw(st.booleans()):
        n_excluded = draw(st.integers(0, n_rows * 5))
        exclude = Pairs(
            torch.randint(n_rows, (n_excluded,), generator=generator),
            torch.randint(n_items, (n_excluded,), generator=generator),
        )
    return SimpleNamespace(
        hidden=small_numbers((n_rows, 3), values, generator),
        table=small_numbers((n_items, 3), values, generator),
        targets=targets,
        exclude=exclude,
        k=draw(st.integers(1, min(n_items, 30))),
        rows=draw(st.sampled_from([16, 32])),
        chunk=draw(st.sampled_from([1, 7, 64, 256, 1000])),
    )


def dense_scores(hidden: Tensor, table: Tensor, targets: Pairs, exclude: Pairs | None) -> Tensor:
    scores = hidden @ table.T
    kept = scores[targets.rows, targets.items]
    if exclude is not None:
        scores[exclude.rows, exclude.items] = -torch.inf
    scores[targets.rows, targets.items] = kept
    scores[:, 0] = -torch.inf
    return scores


@given(cases())
@settings(max_examples=80, deadline=None)
def test_ranking_equals_the_dense_one_with_heavy_ties(case: SimpleNamespace) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_plan", lambda *_: evaluation._Plan(case.rows, case.chunk, 10**5, 4))
        ranking = rank_catalogue(case.hidden, case.table, case.k, case.targets, case.exclude, with_ranks=True)
    scores = dense_scores(case.hidden, case.table, case.targets, case.exclude)
    assert torch.equal(ranking.scores, scores.topk(case.k).values)
    assert_same(streamed_struct(ranking, case.targets, case.k), dense_struct(scores, case.targets, case.k))


@given(st.integers(0, 2**31), st.integers(1, 70), st.sampled_from([1, 64]))
@settings(max_examples=30, deadline=None)
def test_ranking_equals_the_dense_one_for_real_numbers(seed: int, n_rows: int, memory_mb: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n_rows, 8, generator=generator, dtype=torch.float64)
    table = torch.randn(3000, 8, generator=generator, dtype=torch.float64)
    targets = Pairs(torch.arange(n_rows), torch.randint(1, 3000, (n_rows,), generator=generator))
    ranking = rank_catalogue(hidden, table, 10, targets, with_ranks=True, memory_mb=memory_mb)
    scores = dense_scores(hidden, table, targets, None)
    assert_same(streamed_struct(ranking, targets, 10), dense_struct(scores, targets, 10))


@given(st.integers(0, 2**31), st.sampled_from([0, 1, 3, 10**6]), st.integers(1, 12))
@settings(max_examples=100, deadline=None)
def test_ranking_of_sampled_candidates_equals_the_dense_one(seed: int, values: int, k: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    n_rows, n_items, each = 9, 80, 8
    rows = torch.arange(n_rows).repeat_interleave(each)
    items = torch.randint(1, n_items, (n_rows * each,), generator=generator)
    # the same cell may be drawn repeatedly, with the same score
    scores = small_numbers((n_rows, n_items), values, generator)[rows, items]
    targets = Pairs(rows[::each], items[::each])
    dense = torch.full((n_rows, n_items), -torch.inf)
    dense[rows, items] = scores
    ranking = rank_candidates(Pairs(rows, items), scores, n_rows, n_items, k, targets)
    assert_same(streamed_struct(ranking, targets, k), dense_struct(dense, targets, k))


def test_candidates_of_a_huge_catalogue_need_no_matrix() -> None:
    n_items = 10**12  # a dense row would take terabytes
    rows, items = torch.arange(50).repeat_interleave(3), torch.tensor([n_items - 1, 7, 123456789]).repeat(50)
    scores = torch.tensor([0.5, 2.0, 1.0]).repeat(50)
    targets = Pairs(torch.arange(50), torch.full((50,), 123456789))
    ranking = rank_candidates(Pairs(rows, items), scores, 50, n_items, 2, targets)
    assert ranking.items.tolist() == [[7, 123456789]] * 50
    assert ranking.target_ranks is not None
    assert ranking.target_ranks.tolist() == [2.0] * 50


def test_targets_stay_candidates_and_excluded_items_leave() -> None:
    hidden, table = torch.ones(1, 1), torch.arange(6.0).unsqueeze(1)
    exclude = Pairs(torch.tensor([0, 0, 0]), torch.tensor([5, 3, 2]))
    ranking = rank_catalogue(
        hidden, table, 2, Pairs(torch.tensor([0]), torch.tensor([3])), exclude, with_ranks=True
    )
    assert ranking.items.tolist() == [[4, 3]]
    assert ranking.n_candidates.tolist() == [3]
    assert ranking.target_ranks is not None
    assert ranking.target_ranks.tolist() == [2.0]


def test_no_rows() -> None:
    ranking = rank_catalogue(torch.zeros(0, 4), torch.randn(9, 4), 3)
    assert ranking.items.shape == ranking.scores.shape == (0, 3)


@pytest.mark.parametrize("k", [0, 10])
def test_an_impossible_k_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match=f"k must be 1 to 9.*, got {k}"):
        rank_catalogue(torch.zeros(2, 4), torch.randn(9, 4), k)


@pytest.mark.parametrize("memory_mb", [1, 4, 16])
def test_no_tensor_of_the_work_exceeds_the_memory_given(memory_mb: int, largest_tensor: Any) -> None:
    hidden, table = torch.randn(3000, 4), torch.randn(1500, 4)  # dense: 17 MiB
    targets = Pairs(torch.arange(3000), torch.randint(1, 1500, (3000,)))
    with largest_tensor() as largest:
        rank_catalogue(hidden, table, 10, targets, with_ranks=True, memory_mb=memory_mb)
    assert 0 < largest.n_bytes <= memory_mb * 2**20
