"""Repairs of RecBole's evaluation."""

from __future__ import annotations

from typing import Any, Callable

from recbole_sce.compat.patching import wrap


def metrics_on_counts() -> bool:
    """ItemCoverage, GiniIndex, AveragePopularity and TailPercentage crash: no attribute 'cpu'.

    ``Collector.get_data_struct`` moves all that it has collected to the CPU, the number of items and the
    counts of items too, which are no tensors. Applies always.
    """
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
