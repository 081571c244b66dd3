"""Patches of what RecBole evaluates: settings, search spaces, and files named in settings, are data."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import yaml

from recbole_sce.safe_io.checkpoints import safe_load
from recbole_sce.safe_io.literals import NotLiteralError, read_literal
from recbole_sce.utils.patching import patch, seen, wrap


@patch(
    symptom="a setting runs code",
    cause="eval is called on every text of the command line and of config_dict",
    where="config/configurator.py: Config._convert_config_dict",
)
def settings_are_data() -> bool:
    """Read text in settings as a plain value, not as code.

    What is no plain value stays text, as RecBole does with names that it does not know.
    """
    from recbole.config import configurator
    from recbole.utils import EvaluatorType, InputType, ModelType

    kinds = {
        f"{kind.__name__}.{member.name}": member
        for kind in (ModelType, InputType, EvaluatorType)
        for member in kind
    }

    def evaluate(text: str) -> Any:
        try:
            return read_literal(text, kinds)
        except NotLiteralError as error:
            if error.is_code:
                logging.getLogger().warning(f"the setting {text!r} is taken as text: settings run no code")
            raise SyntaxError(str(error)) from None  # RecBole keeps the text then

    configurator.eval = evaluate
    return True


@patch(
    symptom="a YAML file names any function or class of a loaded module",
    cause="YAML is loaded by FullLoader, which allows !!python/name",
    where="config/configurator.py: Config._load_config_files",
)
def yaml_is_data() -> bool:
    """Refuse YAML settings that name a Python object."""
    from recbole.config import configurator

    class PlainLoader(yaml.FullLoader):
        """``FullLoader`` without names of Python objects."""

    PlainLoader.yaml_multi_constructors = {}

    def load(stream: Any, Loader: Any) -> Any:
        return yaml.load(stream, Loader=PlainLoader if Loader is yaml.FullLoader else Loader)

    configurator.yaml = seen(yaml, load=load)

    @wrap(configurator.Config, "_load_config_files")
    def load_config_files(original: Callable[..., Any], self: Any, files: Any) -> dict[str, Any]:
        read: dict[str, Any] = {}
        for file in files or []:
            try:
                read.update(original(self, [file]))
            except yaml.YAMLError as error:
                raise ValueError(f"{file} is not YAML of plain values: {error}") from None
            except (TypeError, ValueError):  # what dict.update says of a file without keys
                raise ValueError(
                    f"config_file_list must name YAML files of lines key: value, got {str(file)!r}: it sets "
                    "no key. Add one, or leave the file out"
                ) from None
        return read

    return True


@patch(
    symptom="a file of a search space runs code",
    cause="eval is called on its choices",
    where="trainer/hyper_tuning.py: HyperTuning._build_space_from_file",
)
def search_spaces_are_data() -> bool:
    """Read the choices in a file of ``HyperTuning`` as plain values, not as code."""
    from recbole.trainer import hyper_tuning

    hyper_tuning.eval = functools.partial(read_literal, names={})
    return True


@patch(
    symptom="a file that a setting names runs code",
    cause=(
        "ConvNCF, KD_DAGFM, NAIS, NeuMF and RaCT call torch.load; LDiffRec allows pickles; KD_DAGFM "
        "evaluates its teacher's name"
    ),
    where="model/general_recommender/*.py; model/context_aware_recommender/kd_dagfm.py",
)
def named_files_are_data() -> bool:
    """Read the files that models name in their settings without running code."""
    from recbole.model.context_aware_recommender import kd_dagfm
    from recbole.model.general_recommender import convncf, ldiffrec, nais, neumf, ract

    for module in (convncf, kd_dagfm, nais, neumf, ract):
        module.torch = seen(torch, load=safe_load)
    ldiffrec.np = seen(np, load=lambda file, **_: np.load(file, allow_pickle=False))
    kd_dagfm.eval = functools.partial(_teacher, vars(kd_dagfm))
    return True


def _teacher(known: dict[str, Any], name: str) -> Any:
    """Return the teacher network of that name.

    Raises:
        ValueError: there is none.
    """
    teachers = {
        key: item
        for key, item in known.items()
        if isinstance(item, type)
        and issubclass(item, torch.nn.Module)
        and hasattr(item, "FeatureInteraction")
        and not hasattr(item, "calculate_loss")  # the model itself
    }
    if name not in teachers:
        raise ValueError(f"teacher must be one of {', '.join(sorted(teachers))}, got {name!r}")
    return teachers[name]
