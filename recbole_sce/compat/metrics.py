"""Patches of RecBole's evaluation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from recbole_sce.utils.patching import patch, wrap


@patch(
    symptom="ItemCoverage, GiniIndex, AveragePopularity and TailPercentage fail: no attribute 'cpu'",
    cause="numbers and counts are moved to the CPU as if they were tensors",
    where="evaluator/collector.py: Collector.get_data_struct",
)
def metrics_on_counts() -> bool:
    """Compute ItemCoverage, GiniIndex, AveragePopularity and TailPercentage, which crash on counts."""
    import torch
    from recbole.evaluator.collector import Collector

    @wrap(Collector, "get_data_struct")
    def get_data_struct(original: Callable[..., Any], self: Any) -> Any:
        collected = self.data_struct._data_dict
        counts = {name: value for name, value in collected.items() if not isinstance(value, torch.Tensor)}
        for name in counts:
            del collected[name]
        try:
            returned = original(self)
        finally:
            collected.update(counts)
        returned._data_dict.update(counts)
        return returned

    return True


@patch(
    symptom="results are printed as np.float64(0.0544)",
    cause="numpy 2 prints the type of its numbers",
    where="evaluator/evaluator.py: Evaluator.evaluate",
    needed="numpy 2.0",
)
def plain_results() -> bool:
    """Return results as Python's numbers: numpy 2 prints its own as ``np.float64(0.0544)``."""
    if not repr(np.float64(0)).startswith("np."):
        return False
    from recbole.evaluator.evaluator import Evaluator

    @wrap(Evaluator, "evaluate")
    def evaluate(original: Callable[..., Any], self: Any, dataobject: Any) -> Any:
        result = original(self, dataobject)
        for name, value in result.items():
            result[name] = value.item() if isinstance(value, np.generic) else value
        return result

    return True
