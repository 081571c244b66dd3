"""Scalable Cross-Entropy and large catalogues for RecBole.

Importing the package registers its models, trainers, data sets and property files with RecBole, whose own
entry points then know them::

    import recbole_sce
    from recbole.quick_start import run_recbole

    run_recbole(model="SASRecSCE", dataset="ml-100k")

The losses need torch alone: without RecBole installed the package offers :mod:`recbole_sce.loss` only.
"""

from __future__ import annotations

from importlib.util import find_spec as _find_spec
from typing import Any as _Any

from recbole_sce.loss import (
    Buckets,
    Histories,
    ScalableCrossEntropyLoss,
    sample_items,
    scalable_cross_entropy,
    select_buckets,
)

__version__ = "0.2.0"

__all__ = [
    "Buckets",
    "Histories",
    "ScalableCrossEntropyLoss",
    "sample_items",
    "scalable_cross_entropy",
    "select_buckets",
]

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
        from recbole_sce.utils.requirements import install_line

        raise AttributeError(
            f"recbole_sce.{name} needs RecBole, which is not installed: {install_line('recbole')}"
        )
