"""RecBole's ``--key=value`` overrides: which arguments they are, whether they are known, who sees them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Sequence
from typing import Any

from recbole_sce.cli.errors import InputError, warn
from recbole_sce.cli.options import split_values

#: Of a command that takes overrides: whatever it does not know itself is left in ``ctx.args``.
PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True}


def parse_overrides(arguments: Sequence[str]) -> dict[str, str]:
    """Return the overrides among a command's arguments, by key.

    RecBole's ``Config`` drops with a warning what it cannot read; here it is an error.

    Raises:
        InputError: an argument is not of the form ``--key=value``, or a key is given two values.
    """
    overrides: dict[str, str] = {}
    for position, argument in enumerate(arguments):
        key, equals, value = argument[2:].partition("=")
        if not argument.startswith("--") or not key:
            raise InputError(f"{argument!r} is neither an option nor an override of the form --key=value")
        if not equals:
            following = arguments[position + 1 : position + 2]
            value = following[0] if following and not following[0].startswith("-") else "VALUE"
            raise InputError(
                f"{argument} is no option of this command; to override a configuration key write "
                f"{argument}={value}, with an equals sign"
            )
        if "=" in value:
            raise InputError(
                f"{argument!r} has two equals signs, which RecBole does not read: set {key} in a file and "
                "name it by --config_files"
            )
        if overrides.setdefault(key, value) != value:
            raise InputError(f"--{key} must be given once, got {overrides[key]} and {value}")
    return overrides


def spell_out_resume(arguments: Sequence[str]) -> list[str]:
    """Return the ``arguments`` of ``run`` with ``--resume auto`` for a ``--resume`` that names nothing.

    Those of other commands, of which ``tune`` has a ``--resume`` that never names anything, are left alone.
    """
    if next((argument for argument in arguments if not argument.startswith("-")), None) != "run":
        return list(arguments)
    spelt: list[str] = []
    for argument, following in zip(arguments, [*arguments[1:], "-"]):
        spelt += ["--resume", "auto"] if argument == "--resume" and following.startswith("-") else [argument]
    return spelt


def check_keys(overrides: Sequence[str], model: str, dataset: str, config_files: Sequence[str]) -> None:
    """Refuse keys that look like a misspelt one, and warn of others that nobody is known to read.

    Raises:
        InputError: a key is unknown and resembles a known one, or the model is unknown.
    """
    from recbole_sce.settings.recipes import ALIKE

    known = known_keys(model, dataset, config_files)
    lower = {key.lower(): key for key in known}
    for key in overrides:
        if key in known:
            continue
        close = difflib.get_close_matches(key.lower(), lower, n=1, cutoff=ALIKE)
        if close:
            raise InputError(
                f"configuration key {key!r} is unknown to {model} on {dataset}: did you mean "
                f"{lower[close[0]]!r}? (A key of your own that no known one resembles is passed on.)"
            )
        warn(f"configuration key {key!r} is unknown to {model} on {dataset}; it is passed on all the same")


def known_keys(model: str, dataset: str, config_files: Sequence[str]) -> set[str]:
    """Return the configuration keys that RecBole, the plugin or the user's files know for this run.

    Raises:
        InputError: the model is unknown.
    """
    from recbole.config import Config
    from recbole.utils import get_model

    from recbole_sce.settings import recipes

    try:
        model_class = get_model(model)
    except ValueError as error:
        raise InputError(str(error)) from error
    # As Config.__init__ does, but without the overrides, which may be what makes it fail.
    config = Config.__new__(Config)
    config._init_parameters_category()
    config.yaml_loader = config._build_yaml_loader()
    config.model, config.model_class, config.dataset = model, model_class, dataset
    config._load_internal_config_dict(model, model_class, dataset)
    return recipes.known_keys(config) | set(config._load_config_files(list(config_files)))


def split_files(config_files: Sequence[str] | None) -> list[str]:
    """Return the files that RecBole's option ``--config_files`` names, separated by spaces or repeated.

    A name of :func:`recbole_sce.data.properties.property_file_names` stands for that file, unless there is a
    file of that name.

    Raises:
        InputError: one of them does not exist, or is not YAML of keys and values.
    """
    import yaml

    from recbole_sce.data.properties import property_file, property_file_names

    files = [
        property_file(file) if file in property_file_names() and not os.path.exists(file) else file
        for file in split_values(config_files, None)
    ]
    for file in files:
        try:
            with open(file, encoding="utf-8") as stream:
                content: Any = yaml.safe_load(stream)
        except OSError as error:
            raise InputError(f"--config_files: {file} cannot be read ({error.strerror})") from None
        except yaml.YAMLError as error:
            raise InputError(f"--config_files: {file} is not YAML: {error}") from None
        if not isinstance(content, dict):
            raise InputError(f"--config_files: {file} is not YAML of the form key: value")
    return files


def value_in_files(key: str, files: Sequence[str]) -> str | None:
    """Return what the last of ``files`` that sets ``key`` says; None if none does."""
    import yaml

    value = None
    for file in files:
        with open(file, encoding="utf-8") as stream:
            value = yaml.safe_load(stream).get(key, value)
    return value
