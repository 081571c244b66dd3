"""Metrics that count items, against counts made by hand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from recbole.config import Config
from recbole.evaluator import Evaluator
from recbole.evaluator.collector import Collector


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """Two users, of 5 items (padding included, as RecBole counts), get items 1, 2 and 1, 3."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["pytest"])
    names = ["ItemCoverage", "GiniIndex", "AveragePopularity", "TailPercentage"]
    settings = {"metrics": names, "topk": [2], "valid_metric": "ItemCoverage@2"}
    collector = Collector(Config("BPR", "ml-100k", config_dict=settings))
    collector.data_struct.set("data.num_items", 5)
    collector.data_struct.set("data.count_items", Counter({1: 4, 2: 2, 3: 1}))
    collector.data_struct.update_tensor("rec.items", torch.tensor([[1, 2], [1, 3]]))
    return collector


def test_metrics_on_counts(collector: Collector) -> None:
    assert Evaluator(collector.config).evaluate(collector.get_data_struct()) == {
        "itemcoverage@2": 0.6,  # 3 of 5
        # shown 0, 0, 1, 1, 2 times: ((2*3-6)*1 + (2*4-6)*1 + (2*5-6)*2) / 4 shown / 5 items
        "giniindex@2": 0.5,
        "averagepopularity@2": 2.75,  # (4 + 2) / 2 and (4 + 1) / 2
        "tailpercentage@2": 0.25,  # item 3, the rarest tenth, is shown once
    }


def test_counts_are_there_for_the_next_evaluation(collector: Collector) -> None:
    collector.get_data_struct()
    assert collector.data_struct.get("data.num_items") == 5
    assert collector.data_struct.get("data.count_items") == {1: 4, 2: 2, 3: 1}
    assert "rec.items" not in collector.data_struct


def test_metrics_on_counts_crash_without_the_patch(
    collector: Collector, without: Callable[[Any, str], None]
) -> None:
    without(Collector, "get_data_struct")
    with pytest.raises(AttributeError, match="cpu"):
        collector.get_data_struct()


def test_results_print_as_plain_numbers(collector: Collector) -> None:
    result = Evaluator(collector.config).evaluate(collector.get_data_struct())
    assert repr(result["giniindex@2"]) == "0.5"


@pytest.mark.skipif(repr(np.float64(0)) == "0.0", reason="numpy 1 prints its numbers as Python's")
def test_results_do_not_without_the_patch(collector: Collector, without: Callable[[Any, str], None]) -> None:
    without(Evaluator, "evaluate")
    result = Evaluator(collector.config).evaluate(collector.get_data_struct())
    assert repr(result["giniindex@2"]) == "np.float64(0.5)"
