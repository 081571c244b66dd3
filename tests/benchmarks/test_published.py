"""Published figures beside ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from harness import published, quality

ROOT = Path(__file__).parents[2]


def row(label: str, seed: int, score: float, dataset: str = "tiny") -> quality.Row:
    return {
        "dataset": dataset,
        "label": label,
        "seed": str(seed),
        "ndcg@10": str(score),
        "recall@10": "0.5",
        "epochs": "3",
        "training_cpu_seconds": "1234.5",
        "resident_mib": "700",
        "ndcg@10_error": "0.01",
        "users": "2000",
        "items": "41",
        "command": f"recbole-sce run --seed={seed}",
    }


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    path = tmp_path / "published.csv"
    path.write_text(
        "dataset,model,ndcg@10,source,url\n"
        "tiny,Better,0.4,A paper,https://example.org/a\n"
        "tiny,Worse,0.1,A paper,https://example.org/a\n"
        "other,Elsewhere,0.9,A paper,https://example.org/a\n"
    )
    return path


def texts(drawing: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", drawing)


def test_the_best_is_first_and_data_sets_without_both_are_left_out(papers: Path) -> None:
    rows = [row("SCE-without-seen", 1, 0.1), row("SCE-without-seen", 2, 0.3), row("SCE", 1, 0.8)]
    table = published.published_table([*rows, row("SCE-without-seen", 1, 0.5, "alone")], papers)
    lines = [line.split(" | ") for line in table.splitlines() if line.startswith("| ")][1:]
    assert [line[0] for line in lines] == ["| Better", "| **SASRecSCE, SCE**", "| Worse"]
    assert lines[1][1:6] == ["0.2000 ± 0.1414", "± 0.0196", "0.5000 ± 0.0000", "2", "3"]
    assert "    recbole-sce run --seed=1\n" in table
    assert "Elsewhere" not in table
    assert "alone" not in table


def test_the_picture_has_our_rows_and_the_levels_of_papers(papers: Path) -> None:
    drawing = published.picture([row("SCE-without-seen", 1, 0.2), row("base-without-seen", 1, 0.3)], papers)
    for text in ("tiny", "Better", "Worse", "SASRecSCE, SCE", "SASRec of RecBole", "test NDCG@10"):
        assert f">{text}</text>" in drawing


def test_a_row_without_users_has_no_interval(papers: Path) -> None:
    (without,) = (row("SCE-without-seen", 1, 0.2),)
    del without["ndcg@10_error"]
    assert "**SASRecSCE, SCE** | 0.2000 |  | 0.5000 |" in published.published_table([without], papers)


def test_the_overview_has_a_line_a_model_and_the_best_published_figures(papers: Path) -> None:
    papers.write_text(papers.read_text() + "small,Known,0.25,A paper,https://example.org/b\n")
    rows = [
        *(row("SCE-without-seen", seed, 0.1 * seed) for seed in (1, 2)),
        row("SCE-without-seen", 1, 0.2, "small"),
        row("base-without-seen", 1, 0.3),
    ]
    assert published.overview(rows, papers).splitlines() == [
        "| test NDCG@10 | tiny | processor s | small | processor s |",
        "|---|---:|---:|---:|---:|",
        "| SASRecSCE, SCE | 0.1500 ± 0.0707 | 1,234 | 0.2000 | 1,234 |",
        "| SASRec of RecBole | 0.3000 | 1,234 | - | - |",
        "| best published | [0.4000](https://example.org/a) | | [0.2500](https://example.org/b) | |",
    ]


def test_nothing_is_written_unless_both_pages_have_their_marks(tmp_path: Path) -> None:
    page, readme = tmp_path / "page.md", tmp_path / "README.md"
    page.write_text("<!-- figures: begin --><!-- figures: end -->")
    readme.write_text("By hand")
    with pytest.raises(quality.QualityError, match="figures: begin"):
        published.main(["--page", str(page), "--readme", str(readme)])
    assert page.read_text() == "<!-- figures: begin --><!-- figures: end -->"
    assert {path.name for path in tmp_path.iterdir()} == {"page.md", "README.md"}


def test_the_pages_are_of_the_rows() -> None:
    page = ROOT / "docs" / "results" / "leave-one-out.md"
    rows = quality.read_rows(ROOT / "benchmarks" / "results" / "quality.csv")
    table = published.published_table(rows)
    assert "SASRecSCE, exact CE" in table
    assert table in page.read_text(encoding="utf-8")
    assert published.overview(rows) in (ROOT / "README.md").read_text(encoding="utf-8")
    drawing = page.with_suffix(".svg").read_text(encoding="utf-8")
    # Versions of matplotlib draw in other ways.
    assert texts(published.picture(rows)) == texts(drawing)
