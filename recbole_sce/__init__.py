"""Scalable Cross-Entropy and large catalogues for RecBole.

Importing the package registers its models, trainers, data sets and property files with RecBole, whose own
entry points then know them::

    import recbole_sce
    from recbole.quick_start import run_recbole

    run_recbole(model="SASRecSCE", dataset="ml-100k")

The losses need torch alone: without RecBole installed the package offers :mod:`recbole_sce.loss` only.
"""

from __future__ import annotations

import sys as _sys
from importlib.util import find_spec as _find_spec
from multiprocessing import parent_process as _parent_process
from pathlib import PurePath as _PurePath
from typing import Any as _Any

__version__ = "0.2.0"

__all__ = [
    "Buckets",
    "Histories",
    "ScalableCrossEntropyLoss",
    "sample_items",
    "scalable_cross_entropy",
    "select_buckets",
]


def _is_the_command() -> bool:
    """Return whether the program is ``recbole-sce``: its commands load what they need, its help nothing."""
    program = _PurePath(_sys.argv[0]).stem if _sys.argv else ""
    return program == "recbole-sce" and _parent_process() is None  # a child only inherits the name


if not _is_the_command():
    from recbole_sce.loss import (
        Buckets,
        Histories,
        ScalableCrossEntropyLoss,
        sample_items,
        scalable_cross_entropy,
        select_buckets,
    )

    if _find_spec("recbole") is not None:
        from recbole_sce import plugin as _plugin

        _plugin.register()
        from recbole_sce.data.properties import property_file
        from recbole_sce.model import *  # noqa: F403
        from recbole_sce.model import __all__ as _model_names
        from recbole_sce.plugin import register_model

        __all__ += ["property_file", "register_model", *_model_names]
    else:

        def __getattr__(name: str) -> _Any:
            """Say why a name that needs RecBole is missing."""
            raise AttributeError(
                f"recbole_sce.{name} needs RecBole, which is not installed: pip install recbole==1.2.1 "
                "(Python 3.12 and later: pip install --no-deps recbole==1.2.1)"
            )
