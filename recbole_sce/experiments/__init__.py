"""Experiments: compare models under one protocol, tune one model, and look at the results.

Every training runs in a process of its own and is on disk as soon as it has finished.
"""

from __future__ import annotations

from recbole_sce.experiments.comparison import Comparison, Event, compare
from recbole_sce.experiments.report import write_report
from recbole_sce.experiments.spec import Candidate, ExperimentError
from recbole_sce.experiments.trials import write_trials
from recbole_sce.experiments.tuning import TuneEvent, Tuning, load_study, tune

__all__ = [
    "Candidate",
    "Comparison",
    "Event",
    "ExperimentError",
    "TuneEvent",
    "Tuning",
    "compare",
    "load_study",
    "tune",
    "write_report",
    "write_trials",
]
