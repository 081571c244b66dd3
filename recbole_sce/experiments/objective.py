"""RecBole's ``objective_function`` for processes that know nothing of recbole_sce."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Optional


def objective_function(
    config_dict: Optional[dict[str, Any]] = None,
    config_file_list: Optional[Sequence[str]] = None,
    saved: bool = True,
) -> dict[str, Any]:
    """Do what ``recbole.quick_start.objective_function`` does.

    For Ray Tune in the way of RecBole's run_hyper.py: Ray sends a function to its workers by name. This
    one's module is in recbole_sce, so that a worker which looks it up imports the plugin, and then knows
    its models by their names.
    """
    from recbole.quick_start import objective_function as recboles

    result: dict[str, Any] = recboles(config_dict, config_file_list, saved)
    return result
