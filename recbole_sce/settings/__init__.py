"""Settings: one schema of keys, the checks of their values, and recipes, which are named files of values.

``python -m recbole_sce.settings yaml`` prints ``properties/model/SCE.yaml``, ``... markdown`` the reference.
"""

from recbole_sce.settings.carried import settings_of
from recbole_sce.settings.checks import find_problems, parse_settings, refuse
from recbole_sce.settings.schema import KEYS, LOSS_TYPES, RECIPES, SCESettings, SettingsError

__all__ = [
    "KEYS",
    "LOSS_TYPES",
    "RECIPES",
    "SCESettings",
    "SettingsError",
    "find_problems",
    "parse_settings",
    "refuse",
    "settings_of",
]
