"""Patches of RecBole's ``HyperTuning``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from recbole_sce.utils.patching import patch, seen, wrap
from recbole_sce.utils.requirements import missing_package


@patch(
    symptom="No module named 'pkg_resources' at the first tuning",
    cause="hyperopt 0.2 reads its data files by pkg_resources",
    where="trainer/hyper_tuning.py: HyperTuning.__init__",
    needed="setuptools 81 with hyperopt 0.2",
)
def hyperopt_import() -> bool:
    """Import hyperopt 0.2 without ``pkg_resources``, which setuptools has dropped.

    The stand-in is gone from ``sys.modules`` once hyperopt has it.
    """
    from recbole.trainer.hyper_tuning import HyperTuning

    @wrap(HyperTuning, "__init__")
    def init(original: Callable[..., Any], self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            importlib.import_module("hyperopt")
        except ModuleNotFoundError as error:
            if error.name != "pkg_resources":
                raise missing_package("hyperopt", "HyperTuning", error) from error
            stand_in = ModuleType("pkg_resources")
            stand_in.resource_string = pkgutil.get_data  # type: ignore[attr-defined]
            sys.modules["pkg_resources"] = stand_in
            try:
                importlib.import_module("hyperopt")
            finally:
                del sys.modules["pkg_resources"]
        original(self, *args, **kwargs)

    return True


@patch(
    symptom="a Ray worker cannot import RecBole, or does not know the plugin's models",
    cause="a worker gets the objective by module and name, and that module imports RecBole alone",
    where="quick_start/quick_start.py: objective_function",
)
def objective_of_ray_workers() -> bool:
    """Let Ray's workers import the plugin before they run RecBole's ``objective_function``.

    Ray sends a function to its workers by module and name, as in RecBole's run_hyper.py. A worker imports
    RecBole alone, which fails on numpy 2 and knows no model of the plugin. The function gets the name of this
    module: a worker that looks it up imports the plugin. Applies always.
    """
    from recbole.quick_start import quick_start

    objective = quick_start.objective_function
    objective.__module__ = __name__
    globals()["objective_function"] = objective
    return True


@patch(
    symptom="AttributeError: 'RandomState' object has no attribute 'integers'",
    cause="hyperopt has moved to numpy's Generator",
    where="trainer/hyper_tuning.py: exhaustive_search",
    needed="hyperopt 0.2.7",
    link="https://github.com/RUCAIBox/RecBole/issues/1320",
)
def exhaustive_search() -> bool:
    """Search exhaustively with current hyperopt, which asks a ``RandomState`` for ``integers``."""
    from recbole.trainer import hyper_tuning

    class RandomState(np.random.RandomState):
        """numpy's, which hyperopt may also ask for ``integers``."""

        integers = np.random.RandomState.randint

    hyper_tuning.np = seen(np, random=seen(np.random, RandomState=RandomState))
    return True


@patch(
    symptom="a best score of 0.0 is replaced by any other",
    cause="the score is asked for its truth",
    where="trainer/hyper_tuning.py: HyperTuning.trial",
)
def zero_score() -> bool:
    """Keep a best score of 0.0, which ``HyperTuning`` takes for none and replaces by any other."""
    from recbole.trainer.hyper_tuning import HyperTuning

    class Score(float):
        """A score that is true at 0.0 too."""

        def __bool__(self) -> bool:
            return True

    @wrap(HyperTuning, "trial")
    def trial(original: Callable[..., Any], self: Any, params: dict[str, Any]) -> Any:
        if self.best_score == 0:
            self.best_score = Score(self.best_score)
        return original(self, params)

    return True
