"""Recipes: named files of what is good training beyond the loss, below everything that a user sets.

A recipe's values lie over the property files of model and data set, and under the user's files, dict and
command line. ``auto`` takes one of two recipes by the data: until these are read, it holds what the two
agree on.
"""

from __future__ import annotations

import difflib
import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml

from recbole_sce.settings.carried import forget_settings
from recbole_sce.settings.checks import Conflict, Trains, find_conflicts, find_lone_problems, refuse
from recbole_sce.settings.recbole_types import problems_of_types
from recbole_sce.settings.schema import KEYS, RECIPES, SettingsError, sentence
from recbole_sce.utils.properties import properties_folder

if TYPE_CHECKING:
    from recbole.config import Config

KEY = "recipe"
AUTO = "auto"
#: Interactions of a user, on average, from which on ``auto`` takes data for dense. On validation, as far as
#: was trained, the data sets with 9 and 10 are better off with the recipe of sparse data, those with 31 and
#: 165 are not; ml-100k, with 106, but of 943 users, is (docs/notes). Nothing was measured from 10
#: to 31.
DENSE_FROM = 20
#: Interactions in all from which on, besides. The dense recipe has few epochs, in which smaller data have too
#: few steps to learn from (ml-100k stays at the level of popularity), and they overfit as sparse data do.
DENSE_TOTAL = 500_000
#: How alike two keys are if one is taken for the other, misspelt (1: equal).
ALIKE = 0.8
#: What ``auto`` chooses from.
_BY_DATA = ("sparse", "dense")
#: What a recipe cannot set, since it decides which recipe is read.
_NOT_IN_RECIPES = (KEY, "model", "dataset")
#: Keys that RecBole reads without having a default for them in any of its files.
WITHOUT_DEFAULT = (
    "selected_features",
    "pooling_mode",
    "numerical_features",
    "pre_model_path",
    "pretrain_epochs",
    "tail_ratio",
    "save_step",
    "dual_domain",
    "discretization",
    "encoding",
    "order_len",
    "item_attribute",
    "train_stage",
    "ft_ratio",
    "mask_ratio",
    "valid_neg_sample_args",
    "process_timeout",
)
#: Set on a ``Config`` whose recipe is to be logged, and with auto chosen, once its data are read.
_OPEN = "_recipe_is_open"


@dataclass(frozen=True)
class Layer:
    """What a recipe puts between the property files and the user's settings.

    Args:
        name: of the recipe.
        values: key -> value, of those that hold.
        set_by_user: keys of the recipe that the user sets otherwise.
        left_out: key -> why the recipe's value of it does not hold.
    """

    name: str
    values: Mapping[str, Any]
    set_by_user: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [", ".join(f"{key} {value}" for key, value in self.values.items()) or "RecBole's own values"]
        if self.set_by_user:
            parts.append(f"set by you: {', '.join(self.set_by_user)}")
        if self.left_out:
            parts.append("left out: " + ", ".join(f"{key} ({why})" for key, why in self.left_out.items()))
        return "; ".join(parts)


def put_recipe(config: Config, values: dict[str, Any], trains: Trains) -> dict[str, Any]:
    """Return a plugin model's settings with its recipe's between RecBole's and the user's.

    Args:
        config: RecBole's ``Config`` as it is being built.
        values: its settings so far, with the key ``recipe``.
        trains: as of :func:`recbole_sce.settings.parse_settings`.

    Raises:
        SettingsError: ``recipe`` names nothing, or a file whose content is no recipe.
    """
    refuse([*find_lone_problems(values), *problems_of_types(values, config.internal_config_dict)])
    vars(config)[_OPEN] = True
    return {**values, **_layer(config, values[KEY], values, trains).values}


def choose_recipe(config: Config, dataset: Any) -> None:
    """Put the recipe that ``auto`` takes for the data into ``config``, and log which recipe is in force.

    Without effect on a ``Config`` whose recipe is chosen, such as one of a checkpoint.

    Args:
        config: of a plugin model.
        dataset: of a plugin model, filtered; its ``interactions_per_user`` and ``user_num`` are asked for.
    """
    if not is_open(config):
        return
    name, reason = config[KEY], ""
    trains = config.model_class.trains()
    if name == AUTO:
        average = dataset.interactions_per_user
        total = average * (dataset.user_num - 1)
        name = "dense" if average >= DENSE_FROM and total >= DENSE_TOTAL else "sparse"
        reason = (
            f", chosen by auto since a user has {average:.2f} interactions on average, of {total:,.0f} in "
            f"all ({DENSE_FROM} or more of {DENSE_TOTAL:,} or more are dense)"
        )
    layer = _layer(config, name, config.final_config_dict, trains)
    below = {key: config.internal_config_dict.get(key) for key in layer.left_out if key in config}
    config.final_config_dict.update({**below, **layer.values, KEY: os.fspath(name)})
    del vars(config)[_OPEN]
    forget_settings(config)
    logging.getLogger().info(f"recipe: {name}{reason}: {layer}")


def recipe_of(config: Config) -> str | None:
    """Return the recipe of a plugin model's ``config``, once the data are read the one that was chosen.

    None for a model of RecBole, which has none, and for checkpoints from before there were recipes.
    """
    if not hasattr(config.model_class, "check_config") or config[KEY] is None:
        return None
    return str(config[KEY])


def is_open(config: Config) -> bool:
    """Return whether the recipe of ``config`` waits for the data to be read."""
    return _OPEN in vars(config)


def undecided_keys(config: Config) -> set[str]:
    """Return the keys that the data will decide."""
    if not is_open(config) or config[KEY] != AUTO:
        return set()
    sparse, dense = (read_recipe(name) for name in _BY_DATA)
    agreed = _agreed(sparse, dense)
    return {key for key in {**sparse, **dense} if key not in agreed} - set(config.external_config_dict)


def recipe_keys(config: Config) -> list[str]:
    """Return the keys that the recipe of ``config`` may set."""
    names = _BY_DATA if config[KEY] == AUTO else (config[KEY],)
    return list(dict.fromkeys(key for name in names for key in _content(config, name)))


def read_recipe(name: str) -> dict[str, Any]:
    """Return the values of a recipe that recbole_sce brings."""
    text = (properties_folder() / "recipe" / f"{name}.yaml").read_text(encoding="utf-8")
    return yaml.safe_load(text) or {}


def _agreed(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key in other and other[key] == value}


def _layer(config: Config, name: Any, values: Mapping[str, Any], trains: Trains) -> Layer:
    """Return what recipe ``name`` puts into ``values``."""
    external = config.external_config_dict
    by_data = name == AUTO
    content = _agreed(*map(read_recipe, _BY_DATA)) if by_data else _content(config, name)
    set_by_user = tuple(key for key in content if key in external)
    holding = {key: value for key, value in content.items() if key not in external}
    left_out: dict[str, str] = {}

    def leave_out(key: str, why: str) -> None:
        left_out[key] = why
        del holding[key]

    if name in (*RECIPES, AUTO):
        for key in [key for key in holding if key not in config.internal_config_dict]:
            leave_out(key, f"{config.model} has no such key")
    if "train_batch_positions" in holding and "train_batch_size" in external:
        leave_out("train_batch_positions", "you set train_batch_size")
    learner = {**values, **holding}.get("learner")
    if holding.get("weight_decay") and str(learner).lower() != "adamw":
        leave_out("weight_decay", f"learner {learner} would add it to the gradient")
    below = {key: config.internal_config_dict[key] for key in content if key in config.internal_config_dict}
    below = {**values, **{key: value for key, value in below.items() if key not in external}}
    while conflict := _conflict_with({**below, **holding}, holding, trains):
        involved = (conflict.key, *conflict.because)
        of_recipe = [key for key in involved if key in holding]
        if conflict.because and len(of_recipe) == len(involved):
            raise SettingsError(f"recipe {name} contradicts itself: {conflict.message}")
        leave_out(of_recipe[0], conflict.message)
    return Layer(str(name), holding, set_by_user, left_out)


def _conflict_with(values: Mapping[str, Any], holding: Mapping[str, Any], trains: Trains) -> Conflict | None:
    """Return the first conflict that a value of the recipe has a part in."""
    conflicts = find_conflicts(values, trains)
    return next((one for one in conflicts if {one.key, *one.because} & holding.keys()), None)


def _content(config: Config, name: Any) -> dict[str, Any]:
    """Return what the recipe ``name`` or the file at that path says."""
    if name in RECIPES:
        return read_recipe(name)
    if not isinstance(name, (str, os.PathLike)) or not os.path.isfile(name):
        close = difflib.get_close_matches(str(name), (AUTO, *RECIPES), n=1)
        remedy = f"did you mean {close[0]}?" if close else "there is no such file"
        allowed = "auto, plain, sparse, dense or the path of a YAML file"
        raise SettingsError(sentence(KEY, allowed, name, remedy))
    try:
        content: dict[str, Any] = config._load_config_files([name])
    except ValueError:
        allowed = "the path of a YAML file of lines key: value"
        raise SettingsError(sentence(KEY, allowed, name, "that file is no YAML or sets no key")) from None
    _check_content(config, name, content)
    return content


def _check_content(config: Config, name: Any, content: Mapping[str, Any]) -> None:
    known = known_keys(config)
    problems = []
    for key in content:
        if key in _NOT_IN_RECIPES:
            problems.append(f"recipe {name} must not set {key}, got {content[key]!r}: set it beside recipe")
        elif key not in known:
            close = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {close[0]}?" if close else "leave it out"
            problems.append(f"recipe {name} must hold keys that exist, got {key!r}: {hint}")
    problems += find_lone_problems(content)
    refuse(problems)


def misspelt_keys(config: Config) -> dict[str, str]:
    """Return the keys that are set and that nobody is known to read, each with the key of ours it is like."""
    known = {*known_keys(config), *KEYS}
    alike = {
        key: difflib.get_close_matches(str(key).lower(), KEYS, n=1, cutoff=ALIKE)
        for key in config.external_config_dict
        if key not in known
    }
    return {key: close[0] for key, close in alike.items() if close}


def known_keys(config: Config) -> set[str]:
    """Return the configuration keys that RecBole or the plugin know for the model of ``config``."""
    listed: Iterable[str] = (key for keys in config.parameters.values() for key in keys)
    return {*config.internal_config_dict, *listed, *WITHOUT_DEFAULT}
