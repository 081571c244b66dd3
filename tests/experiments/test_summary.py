from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from recbole_sce.experiments.comparison import Comparison
from recbole_sce.experiments.summary import (
    best_labels,
    holm,
    is_bigger_better,
    runs_table,
    significance_table,
    summary_table,
)
from recbole_sce.experiments.tables import write_tables


def test_one_row_a_run(comparison: Comparison) -> None:
    table = runs_table(comparison)
    assert table["label"].tolist() == ["SASRecSCE"] * 2 + ["Pop & Co_1"] * 2 + ["Broken"]
    assert table["status"].tolist() == ["done"] * 4 + ["failed"]
    assert table["seconds_to_best"].tolist()[:4] == [10, 10, 0.5, 0.5]
    assert table["error"].tolist()[-1] == "ValueError: <no>"
    assert np.isnan(table["ndcg@10"].tolist()[-1])


def test_mean_and_sample_deviation_over_seeds(comparison: Comparison) -> None:
    table = summary_table(comparison).set_index("label")
    own = [r["metrics"]["test"]["ndcg@10"] for r in comparison.records[:2]]
    assert table.loc["SASRecSCE", "ndcg@10"] == pytest.approx(np.mean(own))
    assert table.loc["SASRecSCE", "ndcg@10_std"] == pytest.approx(abs(own[0] - own[1]) / 2**0.5)
    assert table.loc["SASRecSCE", "resident_mib"] == pytest.approx(611.5)
    assert table.loc["Broken", ["runs", "failed"]].tolist() == [0, 1]


def test_the_best_is_the_largest_or_the_smallest() -> None:
    table = pd.DataFrame({"label": ["a", "b", "c"], "ndcg@10": [0.0, 0.2, 0.2], "rmse": [0.0, 1.0, np.nan]})
    assert best_labels(table, "ndcg@10") == ["b", "c"]
    assert best_labels(table, "rmse") == ["a"]
    assert is_bigger_better("gauc")
    assert not is_bigger_better("logloss")


def test_significance_is_a_paired_t_test_over_users(comparison: Comparison) -> None:
    values = {}
    for label, records in (("a", comparison.records[:2]), ("b", comparison.records[2:4])):
        values[label] = np.mean([comparison.user_values(record)["ndcg@10"] for record in records], axis=0)
    expected = stats.ttest_rel(values["a"], values["b"])
    row = significance_table(comparison).set_index("metric").loc["ndcg@10"]
    assert (row["best"], row["other"], row["users"]) == ("SASRecSCE", "Pop & Co_1", 40)
    assert row["p"] == pytest.approx(expected.pvalue)
    assert row["difference"] == pytest.approx(np.mean(values["a"] - values["b"]))
    low, high = expected.confidence_interval(0.95)
    assert (row["low_95"], row["high_95"]) == pytest.approx((low, high))


def test_pairs_are_matched_by_user_not_by_place(comparison: Comparison) -> None:
    before = significance_table(comparison)
    for record in comparison.records[2:4]:
        path = comparison.folder / "runs" / f"Pop___Co_1-seed{record['seed']}.npz"
        values = comparison.user_values(record)
        order = np.random.default_rng(1).permutation(40)
        kept = order[order != 0]  # and one user is missing
        np.savez(path, **{name: column[kept] for name, column in values.items()})
    after = significance_table(comparison)
    assert after["users"].tolist() == [39, 39]
    assert after["difference"].tolist() == pytest.approx(before["difference"].tolist(), abs=0.02)
    assert (after["p"] < 1e-6).all()


def test_equal_candidates_do_not_differ(comparison: Comparison) -> None:
    records = [comparison.records[0], {**comparison.records[0], "label": "Twin"}]
    twin = comparison.folder / "runs" / "Twin-seed1.npz"
    twin.write_bytes((comparison.folder / "runs" / "SASRecSCE-seed1.npz").read_bytes())
    table = significance_table(replace(comparison, records=records))
    assert table["p_holm"].tolist() == [1, 1]


def test_one_candidate_is_compared_with_none(comparison: Comparison) -> None:
    assert significance_table(replace(comparison, records=comparison.records[:2])).empty


@pytest.mark.parametrize(
    ("p", "corrected"),
    [
        ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
        ([0.5, 0.9], [1.0, 1.0]),
        ([0.2], [0.2]),
        ([0.01, float("nan")], [0.01, float("nan")]),
        ([], []),
    ],
)
def test_holm(p: list[float], corrected: list[float]) -> None:
    assert holm(p) == pytest.approx(corrected, nan_ok=True)


class TestFiles:
    @pytest.fixture
    def texts(self, comparison: Comparison) -> dict[str, str]:
        return {path.name: Path(path).read_text(encoding="utf-8") for path in write_tables(comparison)}

    def test_csv(self, texts: dict[str, str]) -> None:
        assert len(list(csv.DictReader(io.StringIO(texts["results.csv"])))) == 5
        rows = list(csv.DictReader(io.StringIO(texts["summary.csv"])))
        assert [row["label"] for row in rows] == ["SASRecSCE", "Pop & Co_1", "Broken"]

    def test_markdown_marks_the_best_and_the_worse(self, texts: dict[str, str]) -> None:
        lines = texts["summary.md"].splitlines()
        assert lines[0] == "| model | ndcg@10 | hit@10 |"
        assert lines[2].startswith("| SASRecSCE | **0.")
        assert " ± " in lines[2]
        assert lines[3].startswith("| Pop & Co_1 | 0.")
        assert lines[3].endswith(r"\* |")
        assert lines[4] == "| Broken (1 of 1 runs failed) | - | - |"
        assert "peak resident [MiB]" in texts["summary.md"]
        assert "device" not in texts["summary.md"]

    def test_latex_is_escaped(self, texts: dict[str, str]) -> None:
        assert r"\bfseries 0." in texts["summary.tex"]
        assert r"Pop \& Co\_1 & 0." in texts["summary.tex"]
        assert r"$\pm$" in texts["summary.tex"]
        assert "±" not in texts["summary.tex"]
        assert texts["summary.tex"].count(r"\begin{tabular}{lcc}") == 1
