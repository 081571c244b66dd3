"""Patches of what RecBole does with a configuration: devices, models, log files."""

from __future__ import annotations

import copy
import difflib
import logging
import os
from collections.abc import Callable
from typing import Any

from recbole_sce.safe_io.checkpoints import allowed_model_names
from recbole_sce.utils.patching import patch, wrap, wrap_everywhere


@patch(
    symptom="use_gpu: False trains on the GPU",
    cause="only gpu_id is looked at",
    where="config/configurator.py: Config._init_device",
)
def use_gpu_false() -> bool:
    """Select the CPU for ``use_gpu: False``."""
    from recbole.config import Config

    @wrap(Config, "_init_device")
    def init_device(original: Callable[..., Any], self: Any) -> None:
        original(self)
        if self["single_spec"] and self["use_gpu"] is False:
            import torch

            self["device"] = torch.device("cpu")

    return True


@patch(
    symptom="the caller's config_dict changes; a saved data set is compared by the keys of another run",
    cause="Config writes into the dictionary that it gets, and appends to a list of the module",
    where=(
        "config/configurator.py: Config._convert_config_dict, _set_default_parameters, "
        "_load_internal_config_dict"
    ),
)
def callers_settings() -> bool:
    """Leave the caller's ``config_dict`` and RecBole's list of data set settings as they are."""
    from recbole.config import Config

    @wrap(Config, "_load_variable_config_dict")
    def load_variable_config_dict(original: Callable[..., Any], self: Any, config_dict: Any) -> Any:
        return original(self, copy.deepcopy(config_dict))

    @wrap(Config, "_init_parameters_category")
    def init_parameters_category(original: Callable[..., Any], self: Any) -> None:
        original(self)
        self.parameters = {category: list(names) for category, names in self.parameters.items()}

    return True


@patch(
    symptom="a misspelt model ends in: No module named 'lightgbm'",
    cause="all packages of models are searched, and the last imports lightgbm and xgboost",
    where="utils/utils.py: get_model",
    link="https://github.com/RUCAIBox/RecBole/issues/2172",
)
def unknown_model() -> bool:
    """Say that a model's name is unknown where RecBole says ``No module named 'lightgbm'``."""
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


@patch(
    symptom="the second run in a process logs to the first one's file and TensorBoard folder",
    cause="logging.basicConfig does nothing once the root logger has a handler",
    where="utils/logger.py: init_logger; utils/utils.py: get_tensorboard",
)
def own_log_file() -> bool:
    """Give the second run in a process its own log file and TensorBoard folder.

    The handlers of the run before give way; those of others (a notebook's, a test's) stay.
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
