from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from harness import updates


class Rows:
    """Rows of a data set: users' targets."""

    iid_field = "item_id"

    def __init__(self, targets: list[int], item_num: int) -> None:
        self.inter_feat = {"item_id": torch.tensor(targets)}
        self.item_num = item_num


def test_popularity_ranks_by_targets_of_training() -> None:
    # items by popularity: 5, 4, then 12 items once each, and 18 never
    train = Rows([5, 5, 5, 4, 4, *range(6, 18)], item_num=30)
    result = updates.popularity(train, Rows([4, 5, 20, 20], item_num=30))
    assert result.recall == pytest.approx(2 / 4)
    assert result.ndcg == pytest.approx((1 / torch.log2(torch.tensor(3.0)).item() + 1) / 4)


def test_a_table_has_means_and_deviations() -> None:
    results = [
        updates.Result("popularity", 0.1, 0.2),
        updates.Result("dense", 0.3, 0.5),
        updates.Result("sparse", 0.4, 0.6),
        updates.Result("dense", 0.5, 0.5),
    ]
    assert updates.table(results).splitlines()[2:] == [
        "| popularity | 1 | 0.1000 | 0.2000 |",
        "| dense | 2 | 0.4000 ± 0.1414 | 0.5000 ± 0.0000 |",
        "| sparse | 1 | 0.4000 | 0.6000 |",
    ]


@pytest.mark.slow
def test_a_run_trains_both_ways(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    threads, folder = torch.get_num_threads(), os.getcwd()
    arguments = ["--interactions", "1500", "--items", "100", "--max-length", "6", "--width", "8"]
    arguments += ["--epochs", "1", "--seeds", "1", "--threads", "1", "--markdown", str(tmp_path / "q.md")]
    try:
        assert updates.main(arguments) == 0
    finally:
        torch.set_num_threads(threads)
    assert os.getcwd() == folder
    written = (tmp_path / "q.md").read_text(encoding="utf-8")
    assert "python benchmarks/updates.py --interactions 1500" in written
    rows = [line.split(" | ")[0].strip("| ") for line in written.splitlines() if line.startswith("| ")]
    assert rows[1:] == ["popularity", "dense updates", "sparse_item_updates"]
    assert written.endswith(capsys.readouterr().out)
