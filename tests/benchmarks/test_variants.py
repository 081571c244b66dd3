"""Variants beside their bases: when a training ends, and what is made of its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import budget, variants


@pytest.mark.parametrize(
    ("limit", "seconds", "epochs", "spent"),
    [
        ("least:100", 60.0, 1, False),
        ("least:100", 120.0, 2, True),
        ("most:100", 60.0, 1, True),  # a second epoch would end at 120
        ("most:130", 60.0, 1, False),
    ],
)
def test_when_a_budget_is_spent(limit: str, seconds: float, epochs: int, spent: bool) -> None:
    assert budget.is_spent(limit, seconds, epochs) is spent


def test_lines_are_of_means_the_greatest_gain_first() -> None:
    def rows(variant: str, *scores: tuple[float, float]) -> list[dict[str, str]]:
        common = {"dataset": "d", "variant": variant, "processor": "P", "threads": "1", "torch": "2"}
        return [
            {
                **common,
                "model": model,
                "seed": str(seed),
                "ndcg@10": str(score),
                "epochs": epochs,
                "training_cpu_seconds": "100",
                "resident_mib": "500",
            }
            for seed, pair in enumerate(scores)
            for model, score, epochs in ((variant[:-3], pair[0], "1"), (variant, pair[1], "4"))
        ]

    text = variants.tables([*rows("ASCE", (0.1, 0.1)), *rows("BSCE", (0.1, 0.2), (0.1, 0.4))])
    lines = [line for line in text.splitlines() if line.startswith("| ") and "SCE" in line]
    assert lines == [
        "| BSCE | 2 | 100 | 100.0 | 25.0 | 500 | 500 | 0.1000 | 0.3000 | 3.00 |",
        "| ASCE | 1 | 100 | 100.0 | 25.0 | 500 | 500 | 0.1000 | 0.1000 | 1.00 |",
    ]
    assert "P, 1 thread, torch 2.\n" in text


def test_what_is_committed_is_rendered() -> None:
    assert variants.MARKDOWN.read_text(encoding="utf-8") == variants.tables(variants.read_csv(variants.CSV))


def test_a_base_and_its_variant_are_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, Any]] = []

    def run_in_process(spec: Any, folder: Path) -> dict[str, Any]:
        asked.append((spec.model, variants.os.environ[budget.VARIABLE], spec.settings.get("recipe")))
        assert budget.__name__ in spec.modules
        test = {"ndcg@10": 0.1, "recall@10": 0.2}
        versions = ("processor", "threads", "python", "torch", "recbole")
        return {
            "status": "done",
            "metrics": {"test": test},
            "best_valid_score": 0.3,
            "loss_type": "CE",
            "epochs": 2,
            "best_epoch": 1,
            "machine": dict.fromkeys(versions, "x"),
            "seconds": {"training_cpu": 130.0},
            "memory_mib": {"resident": 700.0},
        }

    monkeypatch.setattr(variants, "run_in_process", run_in_process)
    monkeypatch.setenv(budget.VARIABLE, "")
    file = str(tmp_path / "rows.csv")
    for _ in range(2):  # what has rows is not run again
        variants.main(["--csv", file, "run", "--models", "GRU4RecSCE", "--seconds", "100"])
        assert asked == [("GRU4Rec", "least:100.0", None), ("GRU4RecSCE", "most:130.0", "plain")]
    assert [row["model"] for row in variants.read_csv(Path(file))] == ["GRU4Rec", "GRU4RecSCE"]
