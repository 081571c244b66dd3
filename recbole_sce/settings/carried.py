"""The settings that a configuration carries: read once, then the same frozen object for all who ask."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from recbole_sce.settings.checks import parse_settings
from recbole_sce.settings.schema import KEYS, RecBoleSettings, SCESettings, as_checked, single_problems

if TYPE_CHECKING:
    from recbole.config import Config

#: Beside the ``Config``, not in it: what is in it is written into checkpoints, as plain data.
_carried: WeakKeyDictionary[Config, SCESettings] = WeakKeyDictionary()


def settings_of(config: Config) -> SCESettings:
    """Return the settings of a plugin model's ``config``; the first time they are read and checked.

    Their values are then in ``config`` too, whole numbers as ints and ``train_positions`` as all or last.

    Raises:
        SettingsError: a value is impossible.
    """
    if config not in _carried:
        values = config.final_config_dict
        if "recipe" not in values:  # of a checkpoint from before recipes: null stood for some defaults
            nulls = [key for key in single_problems(SCESettings, values) if values[key] is None]
            values.update({key: SCESettings.model_fields[key].default for key in nulls})
        settings = _read(config)
        if hasattr(config.model_class, "check_config"):
            values.update({**as_checked(RecBoleSettings, values), **as_checked(SCESettings, values)})
        values["train_positions"] = settings.train_positions
        _carried[config] = settings
    return _carried[config]


def _read(config: Config) -> SCESettings:
    check = getattr(config.model_class, "check_config", None)
    if check is None:  # a model of RecBole on the data set of plugin models, of which that reads two keys
        read = {key: config[key] for key in ("train_positions", "transform") if config[key] is not None}
        return parse_settings(read, "all")
    settings: SCESettings = check(config)
    return settings


def forget_settings(config: Config) -> None:
    """Have the settings of ``config`` read again, since a value has changed."""
    _carried.pop(config, None)


def concerns_settings(key: str) -> bool:
    """Return whether ``key`` is one of those that are read and checked."""
    return key in KEYS or key in RecBoleSettings.model_fields
