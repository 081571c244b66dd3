"""Repairs of what RecBole does with a configuration: devices, models, log files."""

from __future__ import annotations

import copy
import difflib
import logging
import os
from typing import Any, Callable

from recbole_sce.safe_io.checkpoints import allowed_model_names
from recbole_sce.utils.patching import wrap, wrap_everywhere


def use_gpu_false() -> bool:
    """Select the CPU for ``use_gpu: False``.

    ``Config._init_device`` looks at ``gpu_id`` alone. Applies always.
    """
    from recbole.config import Config

    @wrap(Config, "_init_device")
    def init_device(original: Callable[..., Any], self: Any) -> None:
        original(self)
        if self["single_spec"] and self["use_gpu"] is False:
            import torch

            self["device"] = torch.device("cpu")

    return True


def callers_settings() -> bool:
    """Leave the caller's ``config_dict`` and RecBole's list of data set settings as they are.

    ``Config._convert_config_dict`` and ``Config._set_default_parameters`` write into the caller's
    ``config_dict``; ``Config._load_internal_config_dict`` appends to ``argument_list.dataset_arguments``, so
    that a data set saved by one run is compared by the keys of another. Applies always.
    """
    from recbole.config import Config

    @wrap(Config, "_load_variable_config_dict")
    def load_variable_config_dict(original: Callable[..., Any], self: Any, config_dict: Any) -> Any:
        return original(self, copy.deepcopy(config_dict))

    @wrap(Config, "_init_parameters_category")
    def init_parameters_category(original: Callable[..., Any], self: Any) -> None:
        original(self)
        self.parameters = {category: list(names) for category, names in self.parameters.items()}

    return True


def unknown_model() -> bool:
    """Say that a model's name is unknown where RecBole says ``No module named 'lightgbm'``.

    ``recbole.utils.get_model`` searches all packages of models, and the last imports lightgbm and xgboost.
    https://github.com/RUCAIBox/RecBole/issues/2172. Applies always.
    """
    from recbole.utils import utils

    @wrap_everywhere(utils, "get_model")
    def get_model(original: Callable[..., Any], model_name: str) -> Any:
        try:
            return original(model_name)
        except (AttributeError, ImportError, ValueError):
            known = _known_models()
            if model_name in known:
                raise  # it exists, and something that it needs does not
            by_lower = {name.lower(): name for name in known}
            close = [by_lower[name] for name in difflib.get_close_matches(model_name.lower(), by_lower, n=3)]
            hint = f"did you mean {', '.join(close)}? " if close else ""
            raise ValueError(
                f"model {model_name!r} is unknown: {hint}RecBole's models are listed at "
                "https://recbole.io/model_list.html; recbole_sce.register_model(cls) adds your own"
            ) from None

    return True


def _known_models() -> list[str]:
    """Return the names of RecBole's models, each of which has a property file, and of those made known."""
    import recbole

    folder = os.path.join(os.path.dirname(recbole.__file__), "properties", "model")
    spelt = {"FOSSIL": "Fossil", "lightgbm": "LightGBM", "xgboost": "XGBoost"}  # files named otherwise
    files = {os.path.splitext(name)[0] for name in os.listdir(folder) if name.endswith(".yaml")}
    return sorted({spelt.get(name, name) for name in files} | set(allowed_model_names()))


def own_log_file() -> bool:
    """Give the second run in a process its own log file and TensorBoard folder.

    ``recbole.utils.logger.init_logger`` uses ``logging.basicConfig``, which does nothing once the root
    logger has a handler; ``get_tensorboard`` takes its folder's name from the first file handler. Now the
    handlers of the run before give way, and those of others (a notebook's, a test's) stay. Applies always.
    """
    from recbole.utils import logger

    of_last_run: list[logging.Handler] = []

    @wrap_everywhere(logger, "init_logger")
    def init_logger(original: Callable[..., Any], config: Any) -> None:
        root = logging.getLogger()
        for handler in of_last_run:
            root.removeHandler(handler)
            handler.close()
        others, root.handlers = root.handlers, []
        try:
            original(config)
        finally:
            of_last_run[:] = root.handlers
            root.handlers = [*of_last_run, *others]

    return True
