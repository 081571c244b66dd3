"""Checks of a whole configuration, of RecBole's own models too, before data and before training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from recbole.utils import ModelType

from recbole_sce.data.columns import check_columns, problems_of_labels
from recbole_sce.model.mixin import SCEMixin
from recbole_sce.safe_io.checkpoints import problems_of_keeping
from recbole_sce.settings import recbole_keys, refuse
from recbole_sce.settings.checks import conflicts_of_excluding, conflicts_of_heads
from recbole_sce.settings.schema import sentence

if TYPE_CHECKING:
    from recbole.config import Config


def check_data_settings(config: Config) -> None:
    """Refuse settings, of any model, that no data can be prepared by.

    Raises:
        SettingsError: there are some.
    """
    refuse(recbole_keys.problems_of_evaluation(config))
    is_variant = issubclass(config.model_class, SCEMixin)
    if not is_variant and config["MODEL_TYPE"] == ModelType.SEQUENTIAL:
        # Of a model of RecBole, whose other keys are not ours.
        excludes = config["exclude_seen"]
        if excludes is not None and not isinstance(excludes, bool):
            refuse([sentence("exclude_seen", "True or False", excludes)])
        refuse([one.message for one in conflicts_of_excluding(config)])
    check_columns(config, is_variant)


def check_training_settings(config: Config, saved: bool = True) -> None:
    """Refuse settings, of any model, that a training with validation would fail by.

    Args:
        config: RecBole's ``Config``.
        saved: whether checkpoints are written.

    Raises:
        SettingsError: there are some.
    """
    problems = [*recbole_keys.problems_of_a_fit(config), *problems_of_labels(config)]
    problems += [one.message for one in conflicts_of_heads(config)]
    refuse([*problems, *(problems_of_keeping(config.external_config_dict) if saved else ())])
