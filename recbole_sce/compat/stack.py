"""Patches of RecBole on current numpy, scipy and ray, and where these are missing."""

from __future__ import annotations

import importlib
import inspect
import sys
import warnings
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import numpy as np
import torch

from recbole_sce.utils.patching import patch, seen


@patch(
    symptom="training is slower: each operation records a stack trace, each gradient is searched for NaN",
    cause="importing any sequential model imports sine.py, which calls set_detect_anomaly(True)",
    where="model/sequential_recommender/sine.py",
)
def anomaly_detection() -> bool:
    """Keep autograd's anomaly detection off, which the import of any sequential model turns on.

    Applies unless it was on before RecBole was imported.
    """
    sine = "recbole.model.sequential_recommender.sine"
    users_choice = torch.is_anomaly_enabled() and sine not in sys.modules
    importlib.import_module(sine)
    torch.autograd.set_detect_anomaly(users_choice)
    return not users_choice


@patch(
    symptom=(
        "AttributeError: module 'numpy' has no attribute 'float_', or 'bool8', at import or at the "
        "first Config"
    ),
    cause="numpy 2 dropped aliases that RecBole, and the ray that it needs, still read",
    where="config/configurator.py: Config.compatibility_settings; ray 2.6",
    needed="numpy 2.0",
    link="https://github.com/RUCAIBox/RecBole/pull/2203",
)
def numpy_aliases() -> bool:
    """Restore the names that numpy 2 dropped and that RecBole, or the ray it needs, still reads.

    Must run before RecBole is imported.
    """
    dropped = {"bool8": np.bool_, "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
    missing = {name: value for name, value in dropped.items() if not hasattr(np, name)}
    for name, value in missing.items():
        setattr(np, name, value)
    return bool(missing)


@patch(
    symptom="import of recbole.quick_start fails: no module named ray, or pkg_resources",
    cause=(
        "ray is imported for one call; ray <= 2.6 has no wheels from Python 3.12 on, and needs what "
        "setuptools 81 dropped"
    ),
    where="quick_start/quick_start.py: import of ray.tune",
    needed="no ray, setuptools 81 or Python 3.12",
    link="https://github.com/RUCAIBox/RecBole/issues/1820",
)
def no_ray() -> bool:
    """Let RecBole be imported where ray is missing or does not work.

    Everything but Ray Tune works without ray: outside of a Tune session ``report`` has nothing to do. The
    stand-in is gone from ``sys.modules`` once RecBole has it. Applies if ``from ray import tune`` fails.
    """
    if "recbole.quick_start.quick_start" in sys.modules:
        return False
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "pkg_resources is deprecated")
            importlib.import_module("ray.tune")
    except Exception:  # whatever an unfit ray raises
        stand_ins = _ray_stand_in()
        before = {name: sys.modules[name] for name in stand_ins if name in sys.modules}
        sys.modules.update(stand_ins)
        try:
            importlib.import_module("recbole.quick_start")
        finally:
            for name in stand_ins:
                del sys.modules[name]
            sys.modules.update(before)
        return True
    return False


def _ray_stand_in() -> dict[str, ModuleType]:
    def report(**metrics: Any) -> None:
        """Do nothing: there is no Tune session without ray."""

    ray, tune = ModuleType("ray"), ModuleType("ray.tune")
    ray.__spec__, tune.__spec__ = ModuleSpec("ray", None), ModuleSpec("ray.tune", None)
    ray.tune = tune  # type: ignore[attr-defined]
    tune.report = report  # type: ignore[attr-defined]
    return {"ray": ray, "ray.tune": tune}


@patch(
    symptom="TypeError in a Ray Tune trial: report() got an unexpected keyword",
    cause="ray takes metrics as one dict, RecBole gives them by keyword",
    where="quick_start/quick_start.py: objective_function",
    needed="ray 2.7",
)
def new_ray() -> bool:
    """Report to newer Ray Tune, which takes metrics as one dict and none by keyword."""
    from recbole.quick_start import quick_start

    report = quick_start.tune.report
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(report).parameters.values()):
        return False
    quick_start.tune = seen(quick_start.tune, report=lambda **metrics: report(metrics))
    return True


@patch(
    symptom=(
        "AttributeError: module 'numpy' has no attribute 'float', or 'str', in Interaction, plots of "
        "tuning and data from files"
    ),
    cause="only the first Config of a process sets the names that numpy 1.24 dropped",
    where="data/interaction.py, trainer/hyper_tuning.py: HyperTuning.plot_hyper",
    needed="numpy 1.24",
    link="https://github.com/RUCAIBox/RecBole/issues/1604",
)
def numpy_names() -> bool:
    """Set RecBole's ``np.float``, ``np.str``, ... before the first ``Config`` of the process."""
    from recbole.config import Config

    names = ("bool", "int", "float", "complex", "object", "str", "long", "unicode")
    if all(name in vars(np) for name in names):
        return False
    Config.compatibility_settings(None)
    return True


@patch(
    symptom=(
        "AttributeError: 'dok_matrix' object has no attribute '_update' in LightGCN, NGCF, NCL, GCMC "
        "and other graph models"
    ),
    cause="scipy dropped the method that fills a matrix at once",
    where="model/general_recommender/*.py: get_norm_adj_mat",
    needed="scipy 1.13",
    link="https://github.com/RUCAIBox/RecBole/issues/2034",
)
def dok_matrix_update() -> bool:
    """Restore ``dok_matrix._update``, which scipy 1.13 dropped: LightGCN, NGCF, NCL, GCMC, ... need it."""
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return False
    dok_matrix._update = lambda self, entries: self._dict.update(entries)
    return True
