"""Losses in a large catalogue: what is trained, and what is made of the rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from harness import budget, catalogue, variants


def row(dataset: str, loss: str, seed: int, ndcg: float, curve: str = "10:0.1 20:0.2") -> dict[str, str]:
    return {
        "dataset": dataset,
        "users": "1200",
        "items": "3400",
        "loss": loss,
        "seed": str(seed),
        "epochs": "4",
        "best_epoch": "3",
        "training_cpu_seconds": "20",
        "valid_ndcg@10": "0.2",
        **dict.fromkeys(catalogue.METRICS, "0.5"),
        "ndcg@10": str(ndcg),
        "resident_mib": "700",
        "processor": "P",
        "threads": "1",
        "torch": "2",
        "curve": curve,
    }


def test_lines_are_of_means_in_the_order_of_the_losses() -> None:
    rows = [row("d", "CE", 1, 0.3), row("d", "SCE", 1, 0.1), row("d", "SCE", 2, 0.2), row("e", "CE", 1, 0.4)]
    text = catalogue.tables(rows)
    lines = [line for line in text.splitlines() if line.startswith(("| SCE", "| CE"))]
    assert lines == [
        "| SCE | 2 | 3 of 4 | 20 | 700 | 0.2000 | 0.1500 | 0.5000 | 0.5000 | 0.5 | 0.5000 |",
        "| CE | 1 | 3 of 4 | 20 | 700 | 0.2000 | 0.3000 | 0.5000 | 0.5000 | 0.5 | 0.5000 |",
        "| CE | 1 | 3 of 4 | 20 | 700 | 0.2000 | 0.4000 | 0.5000 | 0.5000 | 0.5 | 0.5000 |",
    ]
    assert "**d**: 1,200 users, 3,400 items\n" in text
    assert "P, 1 thread, torch 2.\n" in text


def test_the_picture_has_a_curve_of_each_loss() -> None:
    drawing = catalogue.picture([row("d", "CE", 1, 0.3), row("d", "gBCE", 1, 0.1, curve="")])
    assert ">CE</text>" in drawing
    assert ">gBCE</text>" not in drawing


def test_what_is_committed_is_rendered(tmp_path: Path) -> None:
    page = tmp_path / catalogue.MARKDOWN.name
    catalogue.main(["render", "--markdown", str(page)])
    assert page.read_text(encoding="utf-8") == catalogue.MARKDOWN.read_text(encoding="utf-8")
    assert page.with_suffix(".svg").exists()


def test_each_loss_trains_for_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, Any, str]] = []

    def run_in_process(spec: Any, folder: Path) -> dict[str, Any]:
        asked.append(
            (spec.settings["loss_type"], spec.settings["recipe"], variants.os.environ[budget.VARIABLE])
        )
        assert (Path(spec.settings["data_path"]) / "generated" / "generated.inter").exists()
        assert spec.settings.get("complete_softmax", True) is (folder.name != "SCE (paper)")
        versions = ("processor", "threads", "python", "torch", "recbole")
        return {
            "status": "done",
            "metrics": {"test": dict.fromkeys(catalogue.METRICS, 0.1)},
            "best_valid_score": 0.3,
            "epochs": 2,
            "best_epoch": 1,
            "machine": dict.fromkeys(versions, "x"),
            "seconds": {"training_cpu": 90.0},
            "memory_mib": {"resident": 700.0},
            "data": {"users": 9, "items": 8},
            "curve": [{"training_cpu_seconds": 45.0, "score": 0.3}],
        }

    monkeypatch.setattr(variants, "run_in_process", run_in_process)
    monkeypatch.setenv(budget.VARIABLE, "")
    file = str(tmp_path / "rows.csv")
    small = ["--interactions", "300", "--items", "50", "--seconds", "100"]
    for _ in range(2):  # what has rows is not run again
        catalogue.main(["--csv", file, "run", *small])
        assert asked == [(loss, "plain", "most:100.0") for loss in ("SCE", "CE", "SCE", "CE-", "gBCE")]
    assert [kept["curve"] for kept in catalogue.read_csv(Path(file))] == ["45:0.3000"] * 5
