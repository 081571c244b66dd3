"""Ends a training by its processor seconds.

A process of a run imports this module (``RunSpec.modules``); the environment variable :data:`VARIABLE` says
when to end: ``least:150`` after the first epoch that ends past 150 seconds, ``most:150`` before an epoch that
would.
"""

from __future__ import annotations

import os
from typing import Any

import recbole.trainer.trainer

from recbole_sce.experiments import measure

VARIABLE = "RECBOLE_SCE_BENCHMARK_BUDGET"


def is_spent(budget: str, seconds: float, epochs: int) -> bool:
    """Return whether training ends, after ``epochs`` that took ``seconds``."""
    kind, limit = budget.split(":")
    next_one = seconds / max(1, epochs) if kind == "most" else 0.0
    return seconds + next_one > float(limit)


def bound(budget: str) -> None:
    """Let RecBole's trainers end by ``budget`` as they end by patience: after a validation."""
    recorders: list[measure.EpochRecorder] = []

    class Recorder(measure.EpochRecorder):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            recorders.append(self)

    by_patience = recbole.trainer.trainer.early_stopping

    def early_stopping(*args: Any, **kwargs: Any) -> tuple[Any, int, bool, bool]:
        best, step, stop, better = by_patience(*args, **kwargs)
        recorder = recorders[-1]
        return best, step, stop or is_spent(budget, recorder.training_cpu_seconds, recorder.epochs), better

    measure.EpochRecorder = Recorder  # type: ignore[misc]
    recbole.trainer.trainer.early_stopping = early_stopping


if VARIABLE in os.environ:
    bound(os.environ[VARIABLE])
