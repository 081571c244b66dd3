"""What RecBole refuses of settings and data, told from a run that failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from recbole_sce.errors import constructor_sets_up, setting_up
from recbole_sce.utils.patching import wrap_everywhere


def mark() -> None:
    """Give errors of setting up the exit code of wrong input; each keeps its type.

    ``Config``, ``create_dataset``, ``data_preparation`` and the constructors of models and trainers raise
    errors of every type.
    """
    from recbole.config import Config
    from recbole.data import utils as data_utils
    from recbole.utils import utils

    def build(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        with setting_up():
            result = original(*args, **kwargs)
        if isinstance(result, type):  # of a model or a trainer
            constructor_sets_up(result)
        return result

    constructor_sets_up(Config)
    for module, name in (
        (data_utils, "create_dataset"),
        (data_utils, "data_preparation"),
        (utils, "get_model"),
        (utils, "get_trainer"),
    ):
        wrap_everywhere(module, name)(build)
