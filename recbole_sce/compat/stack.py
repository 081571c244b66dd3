"""Repairs of RecBole on current numpy, scipy and ray, and where these are missing."""

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

from recbole_sce.utils.patching import seen


def anomaly_detection() -> bool:
    """Keep autograd's anomaly detection off, which the import of any sequential model turns on.

    ``recbole.model.sequential_recommender.sine`` calls ``set_detect_anomaly(True)`` when it is imported,
    and the package imports all of its modules: every forward operation then records a stack trace, and every
    gradient is searched for NaN. Applies unless it was on before RecBole was imported.
    """
    sine = "recbole.model.sequential_recommender.sine"
    users_choice = torch.is_anomaly_enabled() and sine not in sys.modules
    importlib.import_module(sine)
    torch.autograd.set_detect_anomaly(users_choice)
    return not users_choice


def numpy_aliases() -> bool:
    """Restore the names that numpy 2 dropped and that RecBole, or the ray it needs, still reads.

    ``np.float_``, ``np.complex_`` and ``np.unicode_`` in ``Config.compatibility_settings``, ``np.bool8`` in
    ray 2.6. https://github.com/RUCAIBox/RecBole/pull/2203. Must run before RecBole is imported.
    """
    dropped = {"bool8": np.bool_, "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_}
    missing = {name: value for name, value in dropped.items() if not hasattr(np, name)}
    for name, value in missing.items():
        setattr(np, name, value)
    return bool(missing)


def no_ray() -> bool:
    """Let RecBole be imported where ray is missing or does not work.

    ``recbole.quick_start.quick_start`` imports ``ray.tune`` for one call, ``tune.report`` in
    ``objective_function``. ray <= 2.6, which RecBole asks for, has no wheels from Python 3.12 on, and needs
    ``pkg_resources``, which setuptools has dropped. https://github.com/RUCAIBox/RecBole/issues/1820.
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


def new_ray() -> bool:
    """Report to newer Ray Tune, which takes metrics as one dict and none by keyword.

    ``recbole.quick_start.quick_start.objective_function`` calls ``tune.report(**metrics)``, since ray 2.7 a
    TypeError. Applies if ``tune.report`` takes no keywords of any name.
    """
    from recbole.quick_start import quick_start

    report = quick_start.tune.report
    if any(p.kind is p.VAR_KEYWORD for p in inspect.signature(report).parameters.values()):
        return False
    quick_start.tune = seen(quick_start.tune, report=lambda **metrics: report(metrics))
    return True


def numpy_names() -> bool:
    """Set RecBole's ``np.float``, ``np.str``, ... before the first ``Config`` of the process.

    ``Config.compatibility_settings`` sets them, but ``Interaction``, ``HyperTuning.plot_hyper``, a dataset
    or a configuration that comes from a file use them without. https://github.com/RUCAIBox/RecBole/issues/1604.
    Applies if a name is missing.
    """
    from recbole.config import Config

    names = ("bool", "int", "float", "complex", "object", "str", "long", "unicode")
    if all(name in vars(np) for name in names):
        return False
    Config.compatibility_settings(None)
    return True


def dok_matrix_update() -> bool:
    """Restore ``dok_matrix._update``, which scipy 1.13 dropped: LightGCN, NGCF, NCL, GCMC, ... need it.

    ``get_norm_adj_mat`` of the graph models fills its matrix by it, all entries at once.
    https://github.com/RUCAIBox/RecBole/issues/2034. Applies if the method is missing.
    """
    from scipy.sparse import dok_matrix

    if hasattr(dok_matrix, "_update"):
        return False
    dok_matrix._update = lambda self, entries: self._dict.update(entries)
    return True
