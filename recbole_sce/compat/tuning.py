"""Repairs of RecBole's ``HyperTuning``."""

from __future__ import annotations

import importlib
import pkgutil
import sys
from types import ModuleType
from typing import Any, Callable

import numpy as np

from recbole_sce.utils.patching import seen, wrap
from recbole_sce.utils.requirements import missing_package


def hyperopt_import() -> bool:
    """Import hyperopt 0.2 without ``pkg_resources``, which setuptools has dropped.

    ``HyperTuning.__init__`` imports hyperopt, whose 0.2 releases read data files by
    ``pkg_resources.resource_string``. Applies, at the first tuning, if hyperopt is there and the import
    fails for that reason; the stand-in is gone from ``sys.modules`` once hyperopt has it.
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


def exhaustive_search() -> bool:
    """Search exhaustively with current hyperopt, which asks a ``RandomState`` for ``integers``.

    ``recbole.trainer.hyper_tuning.exhaustive_search`` draws by a ``RandomState``; hyperopt has moved to
    ``Generator``, whose ``integers`` is ``RandomState.randint``.
    https://github.com/RUCAIBox/RecBole/issues/1320. Applies always; older hyperopt sees no difference.
    """
    from recbole.trainer import hyper_tuning

    class RandomState(np.random.RandomState):
        """numpy's, which hyperopt may also ask for ``integers``."""

        integers = np.random.RandomState.randint

    hyper_tuning.np = seen(np, random=seen(np.random, RandomState=RandomState))
    return True


def zero_score() -> bool:
    """Keep a best score of 0.0, which ``HyperTuning`` takes for none and replaces by any other.

    ``HyperTuning.trial`` asks ``if not self.best_score``. Applies always.
    """
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
